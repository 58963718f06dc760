"""Change one's own password."""

from typing import Any

from pyramid.httpexceptions import HTTPSeeOther
from pyramid.request import Request
from pyramid.response import Response
from pyramid.view import view_config

from medportal.audit.events import Action, Outcome
from medportal.core.permissions import Permission
from medportal.core.reasons import Reason
from medportal.identity import credentials, signing_in, throttle
from medportal.identity.errors import Throttled, WeakPassword, WrongPassword
from medportal.identity.factors import require_live, second_factors
from medportal.identity.forms.password import password_schema
from medportal.identity.passwords import hash_password, method_of
from medportal.identity.sessions import OpenSession
from medportal.identity.views.answers import refuse_throttled, throttled, weak_words
from medportal.identity.views.own_browser import remember_browser
from medportal.web.flash import flash
from medportal.web.forms import Form, make_form
from medportal.web.i18n import _


@view_config(
    route_name="account-password",
    renderer="medportal.identity:templates/password.pt",
    permission=Permission.ACCOUNT_CHANGE,
)
def change_password(request: Request) -> Any:
    """Change one's own password; every other session ends."""
    form = _form(request)
    values = form.validate(request.POST.items()) if request.method == "POST" else None
    if values is None:
        return {"form": form}
    try:
        login = _change(request, values["old"], values["new"])
    except Throttled as error:
        return throttled(request, form, error.seconds)
    except WrongPassword:
        request.audit(Action.PASSWORD_CHANGED, Outcome.DENIED, reasons=[Reason.WRONG_CREDENTIALS])
        form.fail("old", _("The current password is not right."))
        return {"form": form}
    except WeakPassword as error:
        form.fail("new", weak_words(request, error))
        return {"form": form}
    return _renewed(request, login, values["new"])


def _form(request: Request) -> Form:
    with request.database.reader() as session:
        has_second_factor = bool(second_factors(session, request.identity.person_id))
    schema = password_schema(request.tenant.passwords, has_second_factor=has_second_factor)
    return make_form(request, schema, submit=_("Change my password"))


def _change(request: Request, old: str, new: str) -> OpenSession:
    """Compare, check and hash on a snapshot; only then begin to write.

    Returns the session as it is in the transaction that writes. Raises ``Throttled``,
    ``WrongPassword``, ``WeakPassword`` or ``SessionOver``.
    """
    identity = request.identity
    person_id = identity.person_id
    # Counted as wherever else a signed-in person is asked for the password: for the session,
    # so that whoever stole one does not guess better by having many addresses.
    keys = throttle.keys("confirm", person_id, identity.session_id)
    try:
        with request.database.reader() as session:
            refuse_throttled(session, keys, request.now)
            stored = credentials.check_password_change(session, request.tenant, person_id, old, new)
    except WrongPassword:
        refuse_throttled(request.db, keys, request.now, in_turn=True)
        throttle.note_failure(request.db, keys, request.now)
        raise
    hashed = hash_password(request.tenant.passwords, new)
    # Of many tries at one moment only so many get an answer as may be made in a row.
    refuse_throttled(request.db, keys, request.now, in_turn=True)
    login = require_live(request.db, request.login)
    credentials.replace_password(request.db, person_id, stored, hashed, request.now, but=login.id)
    throttle.forget(request.db, keys)
    return login


def _renewed(request: Request, login: OpenSession, password: str) -> Response:
    """Give the browser a new token for its session; the change ended every other."""
    method = method_of(request.tenant.passwords, password)
    # The password alone is not all that somebody with a second factor would be asked for.
    confirmed = not second_factors(request.db, login.person_id)
    headers = signing_in.renew(request, login, method, confirmed=confirmed)
    request.audit(Action.PASSWORD_CHANGED, object=login.id)
    flash(request, _("Your password has been changed. Other devices were signed out."), "ok")
    answer = HTTPSeeOther(request.route_path("account"), headers=headers)
    # What this browser was known by ended with the old password: unless it gets anew what a
    # sign-in gives, whoever fails behind the same address keeps its owner waiting.
    remember_browser(request, answer, login.person_id)
    return answer
