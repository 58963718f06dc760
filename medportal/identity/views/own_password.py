"""The password of whoever is signed in, asked again."""

from pyramid.request import Request
from sqlalchemy import select

from medportal.core.identity import Method
from medportal.identity import throttle
from medportal.identity.errors import WrongPassword
from medportal.identity.models import Account
from medportal.identity.passwords import method_of, verify_password
from medportal.identity.views.answers import refuse_throttled


def check_own_password(request: Request, password: str) -> None:
    """Check the password of whoever is signed in.

    Touches ``request.db`` only after the slow part. Failures are counted for this session,
    from whatever address: whoever got hold of a session cannot guess by having many
    addresses, and cannot lock the person out either, who signs in anew. Raises
    ``WrongPassword`` or ``Throttled``.
    """
    identity = request.identity
    keys = throttle.keys("confirm", identity.person_id, identity.session_id)
    with request.database.reader() as session:
        refuse_throttled(session, keys, request.now)
        stored = session.scalar(
            select(Account.password_hash).where(Account.person_id == identity.person_id)
        )
    is_right = verify_password(request.tenant.passwords, stored, password)
    # Of many tries at one moment only so many get an answer as may be made in a row.
    refuse_throttled(request.db, keys, request.now, in_turn=True)
    if not is_right:
        throttle.note_failure(request.db, keys, request.now)
        raise WrongPassword("own password")
    throttle.forget(request.db, keys)


def is_long(request: Request, password: str) -> bool:
    """Tell whether a password may be the only factor of an account."""
    return method_of(request.tenant.passwords, password) is Method.PASSWORD
