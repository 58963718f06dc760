"""Register somebody as staff."""

from typing import Any
from zoneinfo import ZoneInfo

from pyramid.request import Request
from pyramid.view import view_config
from pyramid_retry import mark_error_retryable
from sqlalchemy.exc import IntegrityError

from medportal.admin import service, words
from medportal.admin.forms_people import registration_schema
from medportal.admin.models import ApprovalKind
from medportal.admin.views.answers import (
    audit_deed,
    audit_request,
    code_beforehand,
    handed_over,
)
from medportal.admin.views.deeds import role_choices
from medportal.audit.events import Action, Outcome
from medportal.core.permissions import Permission
from medportal.core.reasons import Reason
from medportal.identity import codes, directory, powers
from medportal.identity.accounts import Why
from medportal.identity.errors import AccountRefused, NotTheSamePerson
from medportal.identity.fresh import require_fresh
from medportal.identity.people import Profile
from medportal.patients.views import is_name, usable_number
from medportal.web.forms import Form, make_form
from medportal.web.i18n import _

REFUSALS = {
    **words.REFUSALS,
    Reason.OWN_ACCOUNT: _("You cannot register yourself. Ask a colleague to do it."),
    Reason.NOTHING_NEW: _(
        "Somebody with this number holds these roles already, or a colleague has to approve "
        "them. Find the person by number to see how the account stands."
    ),
}
SOMEBODY_ELSE = _(
    "Somebody with this number is known here under another name or date of birth. Check the "
    "citizen card. If it is as you typed it, ask at the registration desk."
)


@view_config(
    route_name="person-register",
    permission=Permission.PEOPLE_MANAGE,
    renderer="medportal.admin:templates/person_register.pt",
)
def register(request: Request) -> Any:
    """Register somebody as staff, or give roles to whoever is known already."""
    require_fresh(request)
    made = code_beforehand(request)
    form = _form(request)
    values = form.validate(request.POST.items()) if request.method == "POST" else None
    if values is None or _lacks_email(request, form, values):
        return {"form": form}
    try:
        done = _register(request, values, made)
    except IntegrityError as error:
        # Somebody else registered the same number at this moment: tried again, it is found.
        mark_error_retryable(error)
        raise
    except NotTheSamePerson:
        _audit_refusal(request, Reason.WRONG_DATA)
        form.fail("number", SOMEBODY_ELSE)
        return {"form": form}
    except AccountRefused as error:
        _audit_refusal(request, error.reason)
        form.fail("number", REFUSALS[error.reason])
        return {"form": form}
    return _receipt(request, done)


def _form(request: Request) -> Form:
    today = request.now.astimezone(ZoneInfo(request.tenant.time_zone)).date()
    schema = registration_schema(
        request.tenant,
        today,
        role_choices(request, powers.grantable_roles(request.tenant)),
        is_number=lambda typed: usable_number(request, typed) is not None,
        is_name=is_name,
    )
    return make_form(request, schema, submit=_("Register"))


def _lacks_email(request: Request, form: Form, values: dict[str, Any]) -> bool:
    """Tell whether an address is missing, without which a code alone would open the account.

    With a guarded role the code is for whoever approves, and the link for the person: neither
    gets in without the other.
    """
    guarded = powers.guarded_roles(request.tenant) & values["roles"]
    if values["email"] or not guarded or request.tenant.mail is None:
        return False
    form.fail("email", _("A role that a colleague has to approve needs an email address."))
    return True


def _register(
    request: Request, values: dict[str, Any], made: codes.FreshCode | None
) -> service.StaffRegistered:
    profile = Profile(
        name=values["name"],
        birth_date=values["birth_date"],
        sex=values["sex"],
        email=values["email"],
        phone=values["phone"],
        city=values["city"],
        language=values["language"],
    )
    return service.register_staff(
        request.db,
        request.tenant,
        usable_number(request, values["number"]) or "",
        profile,
        sorted(values["roles"]),
        Why(request.identity.person_id, Reason.NEW_DUTY, values["note"]),
        request.now,
        made,
    )


def _audit_refusal(request: Request, reason: Reason) -> None:
    request.audit(Action.ACCOUNT_CREATED, Outcome.DENIED, reasons=[reason])


def _receipt(request: Request, done: service.StaffRegistered) -> dict[str, Any]:
    """Show what came of it, and what to hand over."""
    scheme = request.tenant.identifiers.scheme
    person = directory.details(request.db, scheme, done.person_id)
    if person is None:
        raise LookupError("somebody who was just registered")
    for added in done.roles:
        if added.asked:
            audit_request(request, person, added.asked, ApprovalKind.GRANT_ROLE, role=added.role)
        else:
            audit_deed(request, person, Action.ROLES_CHANGED, added.note, added=added.role)
    if done.note:
        audit_deed(request, person, Action.ACCOUNT_CREATED, done.note)
    if done.welcome and done.welcome.code:
        request.audit(Action.CODE_ISSUED, object=person.id, reasons=[Reason.NEW_DUTY])
    request.override_renderer = "medportal.admin:templates/person_registered.pt"
    return {
        "person_id": person.id,
        "name": person.name,
        "created": done.created,
        "given": [words.role_words(request, role) for role in done.given],
        "asked": [words.role_words(request, role) for role in done.asked],
        **handed_over(request, person.id, done.welcome or codes.Welcome(None, False)),
    }
