"""Sign in, sign out, activate, change the password, home."""

from datetime import datetime
from typing import Any

import structlog
from pyramid.csrf import new_csrf_token
from pyramid.httpexceptions import HTTPSeeOther
from pyramid.request import Request
from pyramid.response import Response
from pyramid.security import NO_PERMISSION_REQUIRED, forget, remember
from pyramid.view import view_config
from sqlalchemy.orm import Session

from medportal.audit.events import Action, Outcome
from medportal.core.permissions import Permission
from medportal.core.reasons import Reason
from medportal.identity import service, throttle
from medportal.identity.errors import (
    ActivationRefused,
    Throttled,
    WeakPassword,
    WrongPassword,
)
from medportal.identity.forms import activation_schema, password_schema, sign_in_schema
from medportal.identity.numbers import normal_number
from medportal.identity.passwords import hash_password, needs_rehash, verify_password
from medportal.tenancy.tenant import PasswordPolicy
from medportal.web.flash import flash
from medportal.web.forms import make_form
from medportal.web.i18n import _
from medportal.web.navigation import safe_path

log = structlog.get_logger()

WEAK = {
    "too-short": _("That password is too short: use at least ${minimum} characters."),
    "too-long": _("That password is too long: use at most 256 characters."),
    "too-simple": _("That password repeats the same few characters: use more different ones."),
    "guessable": _(
        "That password is mostly made of your name, your number or the institution's name: "
        "choose words that others do not connect with you."
    ),
}


def weak_words(request: Request, error: WeakPassword) -> Any:
    """Return what is wrong with a new password, in words."""
    return WEAK[error.code] % {"minimum": request.tenant.passwords.minimum_length}


@view_config(
    route_name="sign-in",
    renderer="templates/sign_in.pt",
    permission=NO_PERMISSION_REQUIRED,
    request_method="GET",
)
def sign_in_page(request: Request) -> Any:
    """Show the sign-in form, or go on for somebody who is signed in already."""
    next_path = safe_path(request.GET.get("next"))
    if request.identity is not None:
        return HTTPSeeOther(next_path)
    return {"form": make_form(request, sign_in_schema(next_path), submit=_("Sign in"))}


@view_config(
    route_name="sign-in",
    renderer="templates/sign_in.pt",
    permission=NO_PERMISSION_REQUIRED,
    request_method="POST",
)
def sign_in(request: Request) -> Any:
    """Check number and password; open a session."""
    form = make_form(request, sign_in_schema("/"), submit=_("Sign in"))
    values = form.validate(request.POST.items())
    if values is None:
        return {"form": form}
    number = normal_number(request.tenant.identifiers, values["number"])
    keys = throttle.keys(number or values["number"], request.remote_addr or "")
    # Read on a snapshot, and hash, before the transaction that writes begins: argon2 takes a
    # tenth of a second, in which nobody else shall wait for the write lock.
    with request.database.reader() as session:
        wait = throttle.seconds_to_wait(session, keys, request.now)
        found = (
            service.credentials(session, request.tenant.identifiers.scheme, number)
            if number
            else None
        )
    if wait:
        return _throttled(request, form, wait)
    policy: PasswordPolicy = request.tenant.passwords
    right = verify_password(policy, found.password_hash if found else None, values["password"])
    if not (right and found and found.active):
        return _refused(request, form, found, right, keys)
    renewed = _renewed_hash(policy, found.password_hash or "", values["password"])
    if not service.still_holds(request.db, found):
        return _refused(request, form, found, False, keys)
    throttle.forget(request.db, keys)
    if renewed:
        service.renew_hash(request.db, found.person_id, found.password_hash or "", renewed)
    return _signed_in(request, found.person_id, safe_path(values["next"]))


def _renewed_hash(policy: PasswordPolicy, stored: str, password: str) -> str | None:
    return hash_password(policy, password) if needs_rehash(policy, stored) else None


def _throttled(request: Request, form: Any, seconds: int) -> dict[str, Any]:
    form.fail(
        None,
        _(
            "Too many tries. Please wait ${seconds} seconds and try again.",
            mapping={"seconds": seconds},
        ),
    )
    request.response.status_int = 429
    request.response.headers["Retry-After"] = str(seconds)
    return {"form": form}


def _refused(
    request: Request,
    form: Any,
    found: service.Credentials | None,
    right: bool,
    keys: throttle.Keys,
) -> dict[str, Any]:
    # A right password for a suspended account is told what a wrong one is: whoever may know
    # hears it from the institution.
    suspended = found is not None and right and not found.active
    throttle.note_failure(request.db, keys, request.now)
    request.audit(
        Action.SIGN_IN_FAILED,
        Outcome.DENIED,
        actor=found.person_id if found else None,
        reasons=[Reason.SUSPENDED if suspended else Reason.WRONG_CREDENTIALS],
    )
    form.fail(
        None,
        _("The citizen card number or the password is not right. Check both and try again."),
    )
    request.response.status_int = 401
    return {"form": form}


def _signed_in(request: Request, person_id: str, next_path: str) -> Response:
    session_id, token = service.open_session(request.db, person_id, request.now)
    if request.login is not None:
        service.end_session(request.db, request.login.id)
    request.audit(
        Action.SIGN_IN, actor=person_id, object=session_id, details={"method": "password"}
    )
    new_csrf_token(request)
    return HTTPSeeOther(next_path, headers=remember(request, person_id, token=token))


@view_config(route_name="sign-out", permission=NO_PERMISSION_REQUIRED, request_method="POST")
def sign_out(request: Request) -> Response:
    """End the session here and in the database."""
    if request.login is not None:
        service.end_session(request.db, request.login.id)
        request.audit(Action.SIGN_OUT, object=request.login.id)
    new_csrf_token(request)
    flash(request, _("You have signed out."), "ok")
    return HTTPSeeOther(request.route_path("sign-in"), headers=forget(request))


@view_config(
    route_name="activate",
    renderer="templates/activate.pt",
    permission=NO_PERMISSION_REQUIRED,
)
def activate(request: Request) -> Any:
    """Let somebody who was registered choose a first password."""
    form = make_form(
        request, activation_schema(request.tenant.passwords), submit=_("Activate my account")
    )
    if request.method != "POST":
        return {"form": form}
    values = form.validate(request.POST.items())
    if values is None:
        return {"form": form}
    number = normal_number(request.tenant.identifiers, values["number"]) or ""
    keys = throttle.keys(number, request.remote_addr or "")
    try:
        person_id = _activate(request, number, values, keys)
    except Throttled as error:
        return _throttled(request, form, error.seconds)
    except ActivationRefused:
        throttle.note_failure(request.db, keys, request.now)
        request.audit(Action.ACCOUNT_ACTIVATED, Outcome.DENIED, reasons=[Reason.WRONG_CREDENTIALS])
        form.fail(
            None,
            _(
                "The number and the code do not fit together, or the code has been used or is "
                "older than two weeks. Check both, or ask at the desk for a new code."
            ),
        )
        return {"form": form}
    except WeakPassword as error:
        form.fail("new", weak_words(request, error))
        return {"form": form}
    request.audit(Action.ACCOUNT_ACTIVATED, actor=person_id)
    flash(request, _("Your account is ready. Sign in with your new password."), "ok")
    return HTTPSeeOther(request.route_path("sign-in"))


def _activate(request: Request, number: str, values: dict[str, Any], keys: throttle.Keys) -> str:
    """Check on a snapshot, hash, and only then begin to write."""
    code, password = values["code"], values["new"]
    with request.database.reader() as session:
        _refuse_throttled(session, keys, request.now)
        person_id = service.check_activation(
            session, request.tenant, number, code, password, request.now
        )
    hashed = hash_password(request.tenant.passwords, password)
    service.activate(request.db, person_id, code, hashed, request.now)
    return person_id


def _refuse_throttled(session: Session, keys: throttle.Keys, now: datetime) -> None:
    seconds = throttle.seconds_to_wait(session, keys, now)
    if seconds:
        raise Throttled(seconds)


@view_config(
    route_name="account", renderer="templates/account.pt", permission=Permission.ACCOUNT_CHANGE
)
def account(request: Request) -> dict[str, Any]:
    """Show what one may change about one's account."""
    language = request.locale_name
    roles = [
        request.tenant.roles[role].names[language]
        for role in sorted(request.identity.roles)
        if role in request.tenant.roles
    ]
    return {"roles": roles, "since": request.identity.authenticated_at}


@view_config(
    route_name="account-password",
    renderer="templates/password.pt",
    permission=Permission.ACCOUNT_CHANGE,
)
def change_password(request: Request) -> Any:
    """Change one's own password; every other session ends."""
    form = make_form(
        request, password_schema(request.tenant.passwords), submit=_("Change my password")
    )
    if request.method != "POST":
        return {"form": form}
    values = form.validate(request.POST.items())
    if values is None:
        return {"form": form}
    person_id = request.identity.person_id
    keys = throttle.keys(person_id, request.remote_addr or "")
    try:
        with request.database.reader() as session:
            _refuse_throttled(session, keys, request.now)
            service.check_password_change(
                session, request.tenant, person_id, values["old"], values["new"]
            )
    except Throttled as error:
        return _throttled(request, form, error.seconds)
    except WrongPassword:
        throttle.note_failure(request.db, keys, request.now)
        request.audit(Action.PASSWORD_CHANGED, Outcome.DENIED, reasons=[Reason.WRONG_CREDENTIALS])
        form.fail("old", _("The current password is not right."))
        return {"form": form}
    except WeakPassword as error:
        form.fail("new", weak_words(request, error))
        return {"form": form}
    hashed = hash_password(request.tenant.passwords, values["new"])
    service.replace_password(request.db, person_id, hashed, request.now)
    return _renewed(request, person_id, request.now)


def _renewed(request: Request, person_id: str, now: datetime) -> Response:
    session_id, token = service.open_session(request.db, person_id, now)
    # The old session is gone with all others; its last use is not to be written any more.
    request.audit(Action.PASSWORD_CHANGED, object=session_id)
    new_csrf_token(request)
    flash(request, _("Your password has been changed. Other devices were signed out."), "ok")
    return HTTPSeeOther(
        request.route_path("account"), headers=remember(request, person_id, token=token)
    )


@view_config(route_name="healthz", renderer="json", permission=NO_PERMISSION_REQUIRED)
def healthz(request: Request) -> dict[str, str]:
    """Say that this institution can be served: its database answers and is current."""
    session: Session = request.db
    session.connection()
    return {"status": "ok", "tenant": request.tenant.id}
