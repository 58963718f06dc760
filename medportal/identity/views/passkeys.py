"""Passkeys in use: sign in, take the second step, confirm who one is; and adding one.

Each takes two requests. A script asks for a challenge, for which JSON goes out: what the
browser needs, or in ``text`` what to tell the person. Then it puts the browser's answer into
the field ``credential`` of an ordinary form and sends that, so that the page which comes next,
its cookies and the way back are those of any other form. What no browser makes is 400.
"""

from typing import Any

from pyramid.csrf import get_csrf_token
from pyramid.httpexceptions import HTTPBadRequest, HTTPSeeOther
from pyramid.request import Request
from pyramid.response import Response
from pyramid.security import NO_PERMISSION_REQUIRED
from pyramid.view import view_config

from medportal.audit.events import Action, Outcome
from medportal.core.identity import Method
from medportal.core.permissions import Permission
from medportal.core.reasons import Reason
from medportal.identity import passkeys, recovery, signing_in, throttle
from medportal.identity.ceremonies import LONGEST_ANSWER, Purpose, Site, parse_new, parse_use
from medportal.identity.errors import (
    MalformedAnswer,
    PasskeyRefused,
    Throttled,
    TooManyPasskeys,
)
from medportal.identity.factors import require_live, second_factors
from medportal.identity.forms.passkeys import clean_name
from medportal.identity.fresh import require_fresh
from medportal.identity.notices import notify
from medportal.identity.passkeys import (
    LONGEST_NAME,
    MOST_PASSKEYS,
    Ceremony,
    NewPasskey,
    Proof,
)
from medportal.identity.sessions import OpenSession
from medportal.identity.views.answers import refuse_throttled, wait_words
from medportal.identity.views.second_code import remember_device
from medportal.identity.views.second_factor import CODES_SHOWN, fresh_codes, show_codes
from medportal.mail.kinds import MailKind
from medportal.web.flash import flash
from medportal.web.i18n import _, format_date, translate
from medportal.web.limits import posted_text
from medportal.web.navigation import safe_path

DETAILS = {"method": str(Method.PASSKEY)}
LONGEST_PURPOSE = 16
#: What is typed for a name may be longer than what is kept of it, within reason.
LONGEST_TYPED = 500
#: Where somebody was asked, by what for.
PAGES = {
    Purpose.SIGN_IN: "sign-in",
    Purpose.SECOND_STEP: "sign-in-second",
    Purpose.CONFIRM: "account-confirm",
}
Headers = list[tuple[str, str]]

#: One answer for every reason: an unknown passkey, another's, a suspended account's, a copy.
NOT_ACCEPTED = _(
    "This passkey was not accepted. Try once more, or use another way. If it happens again, ask "
    "your institution for help."
)
NOT_ADDED = _("The passkey could not be added. Try once more.")
TOO_MANY = _(
    "You have ${most} passkeys, and cannot have more. Remove one that you no longer use first.",
    mapping={"most": MOST_PASSKEYS},
)
TOO_LATE = _("That took too long, for your safety. Sign in again.")


@view_config(
    route_name="sign-in-passkey-options",
    renderer="json",
    permission=NO_PERMISSION_REQUIRED,
    request_method="POST",
)
def use_options(request: Request) -> Any:
    """Send a challenge for signing in, for the second step, or to confirm who one is."""
    ceremony = _ceremony_of_use(request, _purpose(request))
    if ceremony is None:
        return _say(request, 401, TOO_LATE)
    return passkeys.use_options(request.db, site_of(request), ceremony, request.now)


@view_config(route_name="sign-in-passkey", permission=NO_PERMISSION_REQUIRED, request_method="POST")
def use_passkey(request: Request) -> Response:
    """Sign in, take the second step or confirm who one is, with a passkey."""
    purpose = _purpose(request)
    ceremony = _ceremony_of_use(request, purpose)
    if ceremony is None:
        return _back(request, Purpose.SIGN_IN, TOO_LATE)
    try:
        answer = parse_use(_text(request, "credential", LONGEST_ANSWER))
    except MalformedAnswer as error:
        raise HTTPBadRequest() from error
    with request.database.reader() as session:
        whose = ceremony.person_id or passkeys.owner_of(session, answer.credential_id)
    keys = throttle.keys("passkey", whose or "", request.client_address)
    try:
        with request.database.reader() as session:
            refuse_throttled(session, keys, request.now)
            proof = passkeys.check_use(session, site_of(request), ceremony, answer, request.now)
        passkeys.accept_use(request.db, proof, request.now)
    except Throttled as error:
        return _back(request, purpose, wait_words(error.seconds))
    except PasskeyRefused as refused:
        passkeys.discard(request.db, ceremony, answer.client_data)
        # Nothing else is written of passkeys that are made up: anybody can send as many of those
        # as they like, and nobody guesses one.
        if whose is not None:
            throttle.note_failure(request.db, keys, request.now)
            _audit_refusal(request, ceremony, refused)
        return _back(request, purpose, NOT_ACCEPTED)
    throttle.forget(request.db, keys)
    response = _let_in(request, purpose, proof)
    remember_device(request, response, proof.person_id)
    return response


@view_config(
    route_name="account-passkey-options",
    renderer="json",
    permission=Permission.ACCOUNT_CHANGE,
    request_method="POST",
)
def new_options(request: Request) -> Any:
    """Send a challenge for a new passkey of whoever is signed in."""
    require_fresh(request, back=request.route_path("account-second-factor"))
    ceremony = _known(request, Purpose.ADD, request.login)
    site = site_of(request)
    try:
        return passkeys.new_options(
            request.db, site, ceremony, request.login.person_id, request.now
        )
    except TooManyPasskeys:
        return _say(request, 422, TOO_MANY)


@view_config(
    route_name="account-passkey-add",
    renderer=CODES_SHOWN,
    permission=Permission.ACCOUNT_CHANGE,
    request_method="POST",
)
def add_passkey(request: Request) -> Any:
    """Store a passkey that was just made; the session counts as having been opened with it.

    Whoever has no recovery codes gets some, and sees them on the page that comes next.
    """
    require_fresh(request, back=request.route_path("account-second-factor"))
    ceremony = _known(request, Purpose.ADD, request.login)
    name = _new_name(request)
    try:
        answer = parse_new(_text(request, "credential", LONGEST_ANSWER))
    except MalformedAnswer as error:
        raise HTTPBadRequest() from error
    try:
        with request.database.reader() as session:
            made = passkeys.check_new(session, site_of(request), ceremony, answer, request.now)
        prepared = fresh_codes(request)
        login = require_live(request.db, request.login)
        is_first = not second_factors(request.db, login.person_id)
        headers = _add(request, login, made, name)
    except PasskeyRefused as refused:
        passkeys.discard(request.db, ceremony, answer.client_data)
        return _not_added(request, refused.reason, NOT_ADDED)
    except TooManyPasskeys:
        return _not_added(request, Reason.TOO_MANY, TOO_MANY)
    codes = recovery.ensure_codes(
        request.db, login.person_id, request.now, prepared, is_first=is_first
    )
    if codes:
        return show_codes(request, codes, headers)
    flash(request, _("The passkey has been added. You can sign in with it from now on."), "ok")
    return HTTPSeeOther(request.route_path("account-second-factor"), headers=headers)


def site_of(request: Request) -> Site:
    """Return the institution as passkeys know it, from the one host name that was asked for.

    It is one of the tenant's: any other was answered with 421 before. The address that people
    see begins with https, whatever is spoken between the edge and here.
    """
    host: str = request.host.lower()
    return Site(
        rp_id=host.partition(":")[0],
        origin=f"https://{host}",
        name=request.tenant.name(request.locale_name),
    )


def _purpose(request: Request) -> Purpose:
    wanted = _text(request, "purpose", LONGEST_PURPOSE)
    if wanted not in PAGES:
        raise HTTPBadRequest()
    return Purpose(wanted)


def _ceremony_of_use(request: Request, purpose: Purpose) -> Ceremony | None:
    """Return who is asked for what; ``None`` if whoever it was about is no longer there."""
    if purpose is Purpose.SIGN_IN:
        network = throttle.keys("passkey", "", request.client_address).address
        return Ceremony(purpose, None, get_csrf_token(request), network)
    login = request.half_login if purpose is Purpose.SECOND_STEP else request.login
    return None if login is None else _known(request, purpose, login)


def _known(request: Request, purpose: Purpose, login: OpenSession) -> Ceremony:
    session = throttle.keys("passkey", login.person_id, login.id).pair
    return Ceremony(purpose, login.person_id, login.id, session)


def _let_in(request: Request, purpose: Purpose, proof: Proof) -> Response:
    if purpose is Purpose.SECOND_STEP:
        return signing_in.complete(request, Method.PASSKEY, _next_path(request))
    if purpose is Purpose.CONFIRM:
        return signing_in.confirm(request, frozenset({Method.PASSKEY}), _next_path(request))
    by_passkey = frozenset({Method.PASSKEY})
    return signing_in.sign_in(request, proof.person_id, by_passkey, _next_path(request))


def _add(request: Request, login: OpenSession, made: NewPasskey, name: str) -> Headers:
    """Store a passkey and renew the session, or neither. Raises as ``passkeys.add`` does."""
    person_id = login.person_id
    with request.db.begin_nested():
        passkey_id = passkeys.add(request.db, person_id, made, name, request.now)
        headers = signing_in.renew(request, login, Method.PASSKEY)
    request.audit(Action.SECOND_FACTOR_ADDED, object=passkey_id, details=DETAILS)
    factor = str(Method.PASSKEY)
    notify(request.db, person_id, MailKind.SECOND_FACTOR_ADDED, request.now, factor=factor)
    return headers


def _audit_refusal(request: Request, ceremony: Ceremony, refused: PasskeyRefused) -> None:
    is_confirming = ceremony.purpose is Purpose.CONFIRM
    request.audit(
        Action.IDENTITY_CONFIRMED if is_confirming else Action.SIGN_IN_FAILED,
        Outcome.DENIED,
        actor=refused.person_id or ceremony.person_id,
        object=refused.passkey_id,
        reasons=[refused.reason],
        details=DETAILS,
    )


def _not_added(request: Request, reason: Reason, words: str) -> Response:
    request.audit(Action.SECOND_FACTOR_ADDED, Outcome.DENIED, reasons=[reason], details=DETAILS)
    flash(request, words, "warn")
    return HTTPSeeOther(request.route_path("account-second-factor"))


def _new_name(request: Request) -> str:
    """Return the name that the person chose, or one that says when; cut to what is kept."""
    typed = clean_name(_text(request, "name", LONGEST_TYPED))[:LONGEST_NAME].strip()
    day = format_date(request, request.now)
    return typed or translate(request, _("Passkey of ${day}", mapping={"day": day}))


def _text(request: Request, name: str, longest: int) -> str:
    value = posted_text(request, name)
    if len(value) > longest:
        raise HTTPBadRequest()
    return value


def _next_path(request: Request) -> str:
    return safe_path(posted_text(request, "next"))


def _back(request: Request, purpose: Purpose, words: str) -> Response:
    """Go back to the page that asked, and say there what was wrong."""
    flash(request, words, "warn")
    next_path = _next_path(request)
    query = {"next": next_path} if next_path != "/" else {}
    return HTTPSeeOther(request.route_path(PAGES[purpose], _query=query))


def _say(request: Request, status: int, words: str) -> Response:
    return Response(json_body={"text": translate(request, words)}, status=status)
