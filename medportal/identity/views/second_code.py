"""One code of a second factor, tried once: used by sign-in and by whatever else asks for one.

A code that is short enough to be guessed (six digits) is counted for the account as a whole,
over all addresses, unless it comes from a browser that the person is known to use; and after a
hundred wrong ones in a row it is taken from such browsers only. A recovery code, which nobody
guesses, is counted for the account and the address, as passwords are: so with one of those, or
with a passkey, people get in while somebody else is trying.
"""

from dataclasses import dataclass

from pyramid.request import Request
from pyramid.response import Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from medportal.core.identity import Method
from medportal.core.reasons import Reason
from medportal.identity import known_device, recovery, throttle, totp
from medportal.identity.errors import CodeRefused
from medportal.identity.models import Account, Totp
from medportal.identity.notices import notify
from medportal.identity.views.answers import refuse_throttled
from medportal.identity.views.own_browser import set_known_cookie
from medportal.mail.kinds import MailKind
from medportal.web.i18n import _

#: One answer for a wrong, a used and an old code: a thief learns nothing from it.
REFUSED = _(
    "That code is not right, has been used already, or is too old. Wait until the app shows "
    "the next code and enter that one. If it happens again, check that the phone's clock is "
    "set automatically."
)
KNOWN_ONLY = _(
    "Too many wrong codes were tried for this account. For your safety, codes of the app now "
    "only count in a browser in which you have used one before. Use a recovery code or a passkey "
    "here, or ask your institution for help."
)
#: More failures in an hour than most people make. Whoever makes them knows the password, so
#: its owner is told.
TELL_AFTER = 8


@dataclass(frozen=True, slots=True)
class UsedCode:
    """A code that was accepted; ``left`` is how many recovery codes are left after one."""

    method: Method
    left: int | None = None


def use_second_code(request: Request, person_id: str, typed: str) -> UsedCode:
    """Use up what somebody typed: a code of their app, or a recovery code.

    Touches ``request.db`` only after everything slow is done. A failure is counted here, and
    a success forgets those before it. Raises ``Throttled`` or ``CodeRefused``.
    """
    digits, word = totp.read_code(typed), recovery.read_code(typed)
    with request.database.reader() as session:
        keys = refuse_early(session, request, person_id, typed)
        hashed = recovery.hash_of(session, person_id, word) if word else None
    # Of tries that come at one moment each is counted before the next is looked at: a
    # thousand at once are no more than a thousand in a row.
    refuse_throttled(request.db, keys, request.now, in_turn=True)
    try:
        used = _use(request, person_id, digits, hashed, is_known=keys.is_known)
    except CodeRefused as error:
        _count(request, person_id, keys, error.reason, is_code=digits is not None)
        raise
    throttle.forget(request.db, keys)
    return used


def refuse_early(session: Session, request: Request, person_id: str, typed: str) -> throttle.Keys:
    """Return what a code that was typed is counted under, before any slow work for it.

    Reads only. Raises ``Throttled``.
    """
    keys = throttle_keys(session, request, person_id, guessable=recovery.read_code(typed) is None)
    refuse_throttled(session, keys, request.now)
    return keys


def words_of(error: CodeRefused) -> str:
    """Return what to tell whoever typed a code that was refused."""
    words: str = KNOWN_ONLY if error.reason is Reason.TOO_MANY else REFUSED
    return words


def method_of(typed: str) -> Method:
    """Return which factor a code that was typed looks like, for the audit log."""
    return Method.RECOVERY_CODE if recovery.read_code(typed) else Method.TOTP


def throttle_keys(
    session: Session, request: Request, person_id: str, *, guessable: bool
) -> throttle.Keys:
    """Return what a try of a code is counted under."""
    return throttle.keys(
        "second-factor" if guessable else "recovery-code",
        person_id,
        request.client_address,
        browser=_known_device(session, request, person_id),
        anywhere=guessable,
    )


def remember_device(request: Request, response: Response, person_id: str) -> None:
    """Let this browser be known as one in which the person gave a second factor."""
    known = _known_device(request.db, request, person_id)
    since = _since(request.db, person_id)
    cookie = known_device.new_cookie(request.keys.vault, person_id, since, request.now, known)
    set_known_cookie(response, cookie_name(request), cookie)


def cookie_name(request: Request) -> str:
    """Return the name of the cookie by which a browser is known."""
    return f"__Host-{request.tenant.id}-device"


def _known_device(session: Session, request: Request, person_id: str) -> str | None:
    cookie = request.cookies.get(cookie_name(request))
    if not cookie:
        return None
    since = _since(session, person_id)
    return known_device.read_cookie(request.keys.vault, person_id, since, cookie, request.now)


def _since(session: Session, person_id: str) -> str:
    """Return of when the proofs are that a known browser has seen: the password and the app."""
    moments = session.execute(
        select(Account.password_changed_at, Totp.confirmed_at)
        .outerjoin(Totp, Totp.person_id == Account.person_id)
        .where(Account.person_id == person_id)
    ).one_or_none()
    return known_device.of_when(*(moments or ()))


def _count(
    request: Request, person_id: str, keys: throttle.Keys, reason: Reason, *, is_code: bool
) -> None:
    failures = throttle.note_failure(request.db, keys, request.now, tell_after=TELL_AFTER)
    # One that was right and is used up, or late, was not guessed.
    if is_code and reason is Reason.WRONG_CODE:
        in_a_row = totp.count_wrong(request.db, person_id)
        # Whoever is told now that the app counts in known browsers only hears it though they
        # were told today of fewer.
        failures = in_a_row if in_a_row == totp.MOST_IN_A_ROW else failures
    if failures:
        notify(request.db, person_id, MailKind.SECOND_STEP_FAILED, request.now, count=failures)


def _use(
    request: Request, person_id: str, digits: str | None, hashed: bytes | None, *, is_known: bool
) -> UsedCode:
    if hashed is not None:
        left = recovery.use_code(request.db, person_id, hashed, request.now)
        return UsedCode(Method.RECOVERY_CODE, left)
    if digits is None:
        raise CodeRefused(Reason.WRONG_CODE)
    if not is_known and totp.is_for_known_only(request.db, person_id):
        raise CodeRefused(Reason.TOO_MANY)
    totp.verify(request.db, request.keys.vault, person_id, digits, request.now)
    return UsedCode(Method.TOTP)
