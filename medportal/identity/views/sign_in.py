"""Sign in with number and password; sign out."""

from dataclasses import dataclass, field
from typing import Any

from pyramid.csrf import new_csrf_token
from pyramid.httpexceptions import HTTPSeeOther
from pyramid.request import Request
from pyramid.response import Response
from pyramid.security import NO_PERMISSION_REQUIRED, forget
from pyramid.view import view_config

from medportal.audit.events import Action, Outcome
from medportal.core.identity import Method
from medportal.core.reasons import Reason
from medportal.identity import credentials, signing_in, throttle
from medportal.identity.errors import Throttled
from medportal.identity.factors import second_factors
from medportal.identity.forms.sign_in import sign_in_schema
from medportal.identity.notices import notify
from medportal.identity.numbers import normal_number
from medportal.identity.passwords import hash_password, method_of, needs_rehash, verify_password
from medportal.identity.sessions import end_session
from medportal.identity.views.answers import refuse_throttled, throttled
from medportal.identity.views.own_browser import own_browser, remember_browser
from medportal.mail.kinds import MailKind
from medportal.web.flash import flash
from medportal.web.forms import make_form
from medportal.web.i18n import _
from medportal.web.navigation import safe_path


@view_config(
    route_name="sign-in",
    renderer="medportal.identity:templates/sign_in.pt",
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
    renderer="medportal.identity:templates/sign_in.pt",
    permission=NO_PERMISSION_REQUIRED,
    request_method="POST",
)
def sign_in(request: Request) -> Any:
    """Check number and password; open a session, or ask for the second factor."""
    form = make_form(request, sign_in_schema("/"), submit=_("Sign in"))
    values = form.validate(request.POST.items())
    if values is None:
        return {"form": form}
    try:
        tried = _compare(request, values["number"], values["password"])
        refuse_throttled(request.db, tried.keys, request.now, in_turn=True)
    except Throttled as error:
        return throttled(request, form, error.seconds)
    found = tried.found
    if not (tried.right and found and found.active and credentials.still_holds(request.db, found)):
        return _refused(request, form, tried)
    throttle.forget(request.db, tried.keys)
    if tried.renewed:
        credentials.renew_hash(
            request.db, found.person_id, found.password_hash or "", tried.renewed
        )
    proved = frozenset({method_of(request.tenant.passwords, values["password"])})
    response = _go_on(request, found.person_id, proved, safe_path(values["next"]))
    remember_browser(request, response, found.person_id)
    return response


@dataclass(frozen=True, slots=True)
class _Tried:
    """How a comparison ended; ``renewed`` is the password's hash under today's parameters."""

    keys: throttle.Keys
    found: credentials.Credentials | None
    right: bool
    renewed: str | None = field(default=None, repr=False)


def _compare(request: Request, typed: str, password: str) -> _Tried:
    """Compare the password with what is stored; raises ``Throttled``; writes nothing.

    It is read from a snapshot, and hashed, before the transaction that writes begins: argon2
    takes a tenth of a second, in which nobody else shall wait for the write lock. It is hashed
    once whoever it is about, known or not.
    """
    scheme, policy = request.tenant.identifiers, request.tenant.passwords
    number = normal_number(scheme, typed)
    with request.database.reader() as session:
        found = credentials.credentials(session, scheme.scheme, number) if number else None
        keys = throttle.keys(
            "sign-in",
            number or typed,
            request.client_address,
            browser=own_browser(session, request, found.person_id) if found else None,
        )
        refuse_throttled(session, keys, request.now)
    stored = found.password_hash if found else None
    right = verify_password(policy, stored, password)
    is_outdated = right and found and found.active and needs_rehash(policy, stored or "")
    return _Tried(keys, found, right, hash_password(policy, password) if is_outdated else None)


def _go_on(request: Request, person_id: str, proved: frozenset[Method], next_path: str) -> Response:
    if second_factors(request.db, person_id):
        return signing_in.ask_for_second_factor(request, person_id, proved, next_path)
    return signing_in.sign_in(request, person_id, proved, next_path)


def _refused(request: Request, form: Any, tried: _Tried) -> dict[str, Any]:
    # A right password for a suspended account is told what a wrong one is: whoever may know
    # hears it from the institution.
    found = tried.found
    suspended = found is not None and tried.right and not found.active
    _count(request, tried)
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


def _count(request: Request, tried: _Tried) -> None:
    """Count a failure, and tell the account's owner when there are very many, once a day."""
    failures = throttle.note_failure(request.db, tried.keys, request.now)
    if failures and tried.found and tried.found.active:
        person_id = tried.found.person_id
        notify(request.db, person_id, MailKind.MANY_FAILURES, request.now, count=failures)


@view_config(route_name="sign-out", permission=NO_PERMISSION_REQUIRED, request_method="POST")
def sign_out(request: Request) -> Response:
    """End the session here and in the database."""
    present = request.found_session
    if present is not None:
        end_session(request.db, present.id)
        request.audit(Action.SIGN_OUT, actor=present.person_id, object=present.id)
    new_csrf_token(request)
    flash(request, _("You have signed out."), "ok")
    return HTTPSeeOther(request.route_path("sign-in"), headers=forget(request))
