"""What is done to one account, each on a page of its own that asks why."""

from collections.abc import Sequence
from typing import Any

from pyramid.request import Request
from pyramid.view import view_config

from medportal.admin import service, words
from medportal.admin.approvals import Asked
from medportal.admin.forms_deeds import new_email_node, role_node
from medportal.admin.models import ApprovalKind
from medportal.admin.views.answers import audit_deed, code_beforehand, handed_over, subject_of
from medportal.admin.views.deed import new_deed
from medportal.audit.events import Action
from medportal.core.permissions import Permission
from medportal.core.reasons import Reason
from medportal.identity import codes, email_change, powers
from medportal.identity.directory import PersonDetails
from medportal.tenancy.tenant import Role
from medportal.web.i18n import _, translate

PAGE = "medportal.admin:templates/deed.pt"
GIVEN = (Reason.NEW_DUTY, Reason.PERSON_ASKED, Reason.CORRECTION)
TAKEN = (Reason.DUTY_ENDED, Reason.LEFT, Reason.SUSPECTED_MISUSE, Reason.CORRECTION)
CLOSED = (Reason.LEFT, Reason.SUSPECTED_MISUSE, Reason.LOST_DEVICE, Reason.PERSON_ASKED)
OPENED = (Reason.NEW_DUTY, Reason.PERSON_ASKED, Reason.CORRECTION)
LOST = (Reason.PERSON_ASKED, Reason.LOST_DEVICE, Reason.SUSPECTED_MISUSE)
CALLED_OFF = (Reason.PERSON_ASKED, Reason.SUSPECTED_MISUSE, Reason.CORRECTION)
RENEWED = (Reason.PERSON_ASKED, Reason.LOST_DEVICE, Reason.CORRECTION)


@view_config(route_name="person-role-add", permission=Permission.PEOPLE_MANAGE, renderer=PAGE)
def add_role(request: Request) -> Any:
    """Give somebody a role, or ask a colleague to agree to it."""
    person = subject_of(request)
    choices = role_choices(request, powers.grantable_roles(request.tenant), person.role_ids)
    deed = new_deed(
        request, person, Action.ROLES_CHANGED, GIVEN, _("Add this role"), role_node(choices)
    )
    added = deed.carry_out(
        lambda why, values: service.add_role(
            request.db, request.tenant, person.id, values["role"], why, request.now
        ),
    )
    if added is None:
        return deed.page(
            _("Add a role"),
            _("The person is signed out everywhere, so that the new role counts from the start."),
            _(
                "With a role that a colleague has to approve, an account that gave no such role "
                "so far begins anew: the person activates it again with a code from that "
                "colleague."
            ),
            nothing=_if_suspended(person)
            or (None if choices else _("This person holds every role that there is.")),
        )
    if added.asked:
        return deed.waits(added.asked, ApprovalKind.GRANT_ROLE, role=added.role)
    return deed.done(added.note, _("The role has been added."), added=added.role)


@view_config(route_name="person-role-remove", permission=Permission.PEOPLE_MANAGE, renderer=PAGE)
def remove_role(request: Request) -> Any:
    """Take a role away."""
    person = subject_of(request)
    held = [role for role in sorted(person.role_ids) if powers.may_be_granted_here(role)]
    choices = [(role, words.role_words(request, role)) for role in held]
    deed = new_deed(
        request,
        person,
        Action.ROLES_CHANGED,
        TAKEN,
        _("Remove this role"),
        role_node(choices),
        danger=True,
    )
    done = deed.carry_out(
        lambda why, values: (
            values["role"],
            service.remove_role(
                request.db, request.tenant, person.id, values["role"], why, request.now
            ),
        )
    )
    if done is None:
        return deed.page(
            _("Remove a role"),
            _("The person is signed out everywhere, and what this role gave is over at once."),
            _("Patients whom the person looks after stay assigned until the ward clerk ends it."),
            nothing=None if choices else _("This person holds no role of staff."),
        )
    role, note = done
    return deed.done(note, _("The role has been removed."), removed=role)


@view_config(route_name="person-suspend", permission=Permission.PEOPLE_MANAGE, renderer=PAGE)
def suspend(request: Request) -> Any:
    """Close an account until it is reinstated."""
    person = subject_of(request)
    deed = new_deed(
        request, person, Action.ACCOUNT_SUSPENDED, CLOSED, _("Suspend this account"), danger=True
    )
    note = deed.carry_out(
        lambda why, values: service.suspend(
            request.db, request.tenant, person.id, why, request.now
        ),
    )
    if note is None:
        return deed.page(
            _("Suspend the account"),
            _("The person is signed out everywhere at once and cannot sign in."),
            _("Codes and links that were handed over or emailed stop working."),
            _(
                "Roles stay as they are, and so do the patients whom the person looks after: they "
                "count again when the account is reinstated. The ward clerk ends assignments."
            ),
            nothing=None if person.active else _("This account is suspended already."),
        )
    return deed.done(note, _("The account has been suspended."))


@view_config(route_name="person-reinstate", permission=Permission.PEOPLE_MANAGE, renderer=PAGE)
def reinstate(request: Request) -> Any:
    """Open a suspended account again."""
    person = subject_of(request)
    deed = new_deed(request, person, Action.ACCOUNT_REINSTATED, OPENED, _("Reinstate this account"))
    note = deed.carry_out(
        lambda why, values: service.reinstate(request.db, person.id, why, request.now),
    )
    if note is None:
        return deed.page(
            _("Reinstate the account"),
            _("The person can sign in again, with the roles and the password of before."),
            nothing=_("This account is not suspended.") if person.active else None,
        )
    return deed.done(note, _("The account can be used again."))


@view_config(route_name="person-sessions-end", permission=Permission.PEOPLE_MANAGE, renderer=PAGE)
def end_sessions(request: Request) -> Any:
    """Sign somebody out everywhere."""
    person = subject_of(request)
    deed = new_deed(
        request, person, Action.SESSION_ENDED, LOST, _("Sign out everywhere"), danger=True
    )
    done = deed.carry_out(
        lambda why, values: service.end_sessions(request.db, person.id, why, request.now),
    )
    if done is None:
        return deed.page(
            _("Sign this person out everywhere"),
            _("What the person has not saved is lost. They can sign in again at once."),
        )
    count, note = done
    return deed.done(note, _("The person has been signed out everywhere."), by="staff", count=count)


@view_config(route_name="person-link", permission=Permission.PEOPLE_MANAGE, renderer=PAGE)
def resend_link(request: Request) -> Any:
    """Mail the link of the activation again."""
    person = subject_of(request)
    deed = new_deed(request, person, Action.LINK_REQUESTED, RENEWED, _("Send the email"))
    note = deed.carry_out(
        lambda why, values: service.resend_link(
            request.db, request.tenant, person.id, why, request.now
        ),
    )
    if note is None:
        return deed.page(
            _("Send the activation email again"),
            _("The email goes to the address that the person has here. Older links stop working."),
            _("The code from the desk is needed besides. If it is lost, issue a new one."),
            nothing=_if_suspended(person) or _if_no_link_is_awaited(request, person),
        )
    return deed.done(note, _("The email is on its way."))


@view_config(route_name="person-code", permission=Permission.PEOPLE_MANAGE, renderer=PAGE)
def new_code(request: Request) -> Any:
    """Issue a code for the desk, or ask a colleague to do it."""
    made = code_beforehand(request)
    person = subject_of(request)
    deed = new_deed(request, person, Action.CODE_ISSUED, RENEWED, _("Issue a code"))
    issued = deed.carry_out(
        lambda why, values: service.new_code(
            request.db, request.tenant, person.id, why, request.now, made
        ),
    )
    if issued is None:
        return deed.page(
            _("Issue a new code for the desk"),
            _("With the code the person chooses a password. An older code stops working."),
            *(
                [_("A colleague has to approve it, sees the code and hands it over.")]
                if service.code_needs_second(request.tenant, person)
                else [_("Hand it over only after a look at the person's citizen card.")]
            ),
            nothing=_if_suspended(person),
        )
    note, outcome = issued
    if isinstance(outcome, Asked):
        return deed.waits(outcome, ApprovalKind.ISSUE_CODE)
    audit_deed(request, person, Action.CODE_ISSUED, note)
    request.override_renderer = "medportal.admin:templates/code.pt"
    path = request.route_path("person", person=person.id)
    return {
        "name": person.name,
        "next": (path, _("Go to the person")),
        **handed_over(request, person.id, outcome),
    }


@view_config(route_name="person-email", permission=Permission.PEOPLE_MANAGE, renderer=PAGE)
def change_email(request: Request) -> Any:
    """Ask a colleague to agree to another email address."""
    person = subject_of(request)
    deed = new_deed(
        request,
        person,
        Action.EMAIL_CHANGE_REQUESTED,
        (Reason.PERSON_ASKED, Reason.CORRECTION),
        _("Ask for approval"),
        new_email_node(),
    )
    asked = deed.carry_out(
        lambda why, values: service.change_email(
            request.db, person.id, values["email"], why, request.now
        ),
    )
    if asked is None:
        return deed.page(
            _("Change the email address"),
            _("Whoever can sign in changes the address themselves, on the page of their account."),
            _(
                "A colleague has to approve it. Then it waits a while longer: the person is told "
                "at the old address and can object."
            ),
            nothing=_if_suspended(person),
        )
    return deed.waits(asked, ApprovalKind.CHANGE_EMAIL)


@view_config(route_name="person-email-cancel", permission=Permission.PEOPLE_MANAGE, renderer=PAGE)
def cancel_email_change(request: Request) -> Any:
    """Call off a change of the address that was approved and has not happened yet."""
    person = subject_of(request)
    deed = new_deed(
        request,
        person,
        Action.EMAIL_CHANGE_CANCELLED,
        CALLED_OFF,
        _("Call the change off"),
        danger=True,
    )
    done = deed.carry_out(
        lambda why, _values: service.cancel_email_change(request.db, person.id, why, request.now),
    )
    if done is None:
        waiting = email_change.change_by_staff(request.db, person.id, request.now)
        return deed.page(
            _("Call off the change of the email address"),
            _("The address stays as it is. Another change has to be approved anew."),
            nothing=_if_suspended(person)
            or (None if waiting else _("No change of the address is waited for.")),
        )
    change_id, note = done
    return deed.done(note, _("The change was called off."), change=change_id, **{"by-staff": 1})


@view_config(route_name="person-second-factor", permission=Permission.PEOPLE_MANAGE, renderer=PAGE)
def reset_second_factor(request: Request) -> Any:
    """Remove the second proof of somebody who has lost it, or ask a colleague to agree."""
    person = subject_of(request)
    deed = new_deed(
        request,
        person,
        Action.SECOND_FACTOR_REMOVED,
        LOST,
        _("Remove the second proof"),
        danger=True,
    )
    done = deed.carry_out(
        lambda why, values: service.reset_second_factor(
            request.db, request.tenant, person.id, why, request.now
        ),
    )
    if done is None:
        return deed.page(
            _("Remove the second proof"),
            _("App, passkeys and recovery codes stop working."),
            _("The password alone opens the account then."),
            _("The person is signed out everywhere and told by email."),
            *(
                [_("A colleague has to approve it.")]
                if service.reset_needs_second(request.tenant, person)
                else []
            ),
            nothing=_if_suspended(person)
            or (None if person.has_second_factor else _("This person has no second proof.")),
        )
    note, asked = done
    if asked:
        return deed.waits(asked, ApprovalKind.RESET_SECOND_FACTOR)
    return deed.done(note, _("The second proof has been removed."), factor="all")


def role_choices(
    request: Request, roles: Sequence[Role], but: frozenset[str] = frozenset()
) -> list[tuple[str, str]]:
    """Return (id, words) of roles to choose from, saying which a colleague has to approve."""
    return [(role.id, _choice(request, role)) for role in roles if role.id not in but]


def _choice(request: Request, role: Role) -> str:
    name = role.names[request.locale_name]
    if not powers.is_guarded(role):
        return name
    return translate(request, _("${role} (a colleague has to approve it)", mapping={"role": name}))


def _if_suspended(person: PersonDetails) -> Any:
    return None if person.active else words.REFUSALS[Reason.SUSPENDED]


def _if_no_link_is_awaited(request: Request, person: PersonDetails) -> Any:
    if person.activated:
        return _("This account was activated already.")
    if not codes.needs_link(request.tenant, person.email):
        return _("Without email the code from the desk is enough: issue a new one.")
    return None
