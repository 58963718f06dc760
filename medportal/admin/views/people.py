"""The people of the institution: the list, one of them, finding somebody by number."""

from typing import Any

from pyramid.httpexceptions import HTTPNotFound, HTTPSeeOther
from pyramid.request import Request
from pyramid.view import view_config

from medportal.admin import approvals, service, words
from medportal.admin.forms_people import search_schema
from medportal.admin.views.answers import patient_id, person_of
from medportal.audit.events import Action
from medportal.core.ids import is_id
from medportal.core.permissions import Permission
from medportal.core.reasons import Reason
from medportal.identity import codes, directory, email_change, powers, throttle
from medportal.identity.directory import PersonDetails, PersonLine, Standing, Wanted
from medportal.identity.errors import Throttled
from medportal.identity.people import find_person, names_of
from medportal.identity.sessions import sessions_of
from medportal.identity.views.answers import refuse_throttled, throttled
from medportal.patients.forms import find_schema
from medportal.patients.views import usable_number
from medportal.web.forms import Form, make_form
from medportal.web.i18n import LANGUAGES, _
from medportal.web.limits import posted_text


@view_config(
    route_name="people",
    permission=Permission.PEOPLE_MANAGE,
    renderer="medportal.admin:templates/people.pt",
    request_method="GET",
)
def people(request: Request) -> dict[str, Any]:
    """List the people who hold a role of staff, or none."""
    form = _search_form(request)
    wanted = _wanted(request, form)
    return _list(request, form, wanted, request.GET.get("after"))


@view_config(
    route_name="people",
    permission=Permission.PEOPLE_MANAGE,
    renderer="medportal.admin:templates/people.pt",
    request_method="POST",
)
def search(request: Request) -> Any:
    """Search by name: in the body of the request, so that no name stands in an address."""
    form = _search_form(request)
    values = form.validate(request.POST.items())
    if values is None:
        return {"form": form, "lines": None, "next": None, "is_first": True}
    name = values.pop("name")
    if not name:
        query = {key: value for key, value in values.items() if value}
        return HTTPSeeOther(request.route_path("people", _query=query))
    standing = Standing(values["standing"]) if values["standing"] else None
    wanted = Wanted(name, values["role"], standing)
    return _list(request, form, wanted, posted_text(request, "after") or None)


def _search_form(request: Request) -> Form:
    roles = [
        (role.id, role.names[request.locale_name])
        for role in powers.grantable_roles(request.tenant)
    ]
    action = request.route_path("people")
    return make_form(request, search_schema(roles), submit=_("Search"), action=action)


def _wanted(request: Request, form: Form) -> Wanted:
    """Return what the address asks for. Raises ``HTTPNotFound`` for what no link of ours says."""
    role, standing = request.GET.get("role", ""), request.GET.get("standing", "")
    known_role = not role or role in {r.id for r in powers.grantable_roles(request.tenant)}
    if not known_role or standing not in {"", *Standing}:
        raise HTTPNotFound()
    form.fill({"role": role, "standing": standing})
    return Wanted("", role, Standing(standing) if standing else None)


def _list(request: Request, form: Form, wanted: Wanted, after: str | None) -> dict[str, Any]:
    # Also a search by name only reads: it shall not wait for whoever writes.
    with request.database.reader() as session:
        key = None
        if after is not None:
            key = directory.list_key(session, after) if is_id(after) else None
            if key is None:
                raise HTTPNotFound()
        found = directory.list_people(session, wanted, after=key, limit=directory.PAGE + 1)
    page, more = found[: directory.PAGE], len(found) > directory.PAGE
    request.audit(Action.PEOPLE_LISTED, details={"count": len(page)})
    return {
        "form": form,
        "lines": [_line(request, line) for line in page],
        "is_first": after is None,
        "next": _next(wanted, page[-1]) if more else None,
        "by_name": bool(wanted.name),
    }


def _line(request: Request, line: PersonLine) -> tuple[str, str, str, tuple[str, Any]]:
    """Return address, name, roles and state of a line; not whether a colleague is a patient."""
    staff = [role for role in line.roles if powers.may_be_granted_here(role)]
    return (
        request.route_path("person", person=line.id),
        line.name,
        ", ".join(words.role_words(request, role) for role in staff),
        words.person_state(line.active, line.held, line.activated),
    )


def _next(wanted: Wanted, last: PersonLine) -> dict[str, str]:
    """Return the fields that lead to the next page."""
    fields = {
        "name": wanted.name,
        "role": wanted.role,
        "standing": str(wanted.standing or ""),
        "after": last.id,
    }
    return {key: value for key, value in fields.items() if value}


@view_config(
    route_name="person-find",
    permission=Permission.PEOPLE_MANAGE,
    renderer="medportal.admin:templates/person_find.pt",
)
def find(request: Request) -> Any:
    """Find anybody by the exact number; a miss says so, and is audited like a hit.

    Misses are counted for whoever looks, and slow them down, so that nobody learns by trying
    numbers one after the other who is known here. A hit does not make up for them.
    """
    schema = find_schema(
        request.tenant, is_number=lambda typed: usable_number(request, typed) is not None
    )
    form = make_form(request, schema, submit=_("Find"))
    if request.method != "POST":
        return {"form": form}
    values = form.validate(request.POST.items())
    if values is None:
        return {"form": form}
    number = usable_number(request, values["number"]) or ""
    keys = throttle.keys(
        "person-find", request.identity.person_id, request.client_address, anywhere=True
    )
    try:
        with request.database.reader() as session:
            refuse_throttled(session, keys, request.now)
            found = find_person(session, request.tenant.identifiers.scheme, number)
        # Of many at one moment only so many get an answer as may be made in a row.
        refuse_throttled(request.db, keys, request.now, in_turn=True)
    except Throttled as error:
        return throttled(request, form, error.seconds)
    request.audit(Action.PERSON_SOUGHT, object=found, details={"found": int(found is not None)})
    if found is None:
        throttle.note_failure(request.db, keys, request.now)
        form.fail("number", _("Nobody with this number is known here."))
        return {"form": form}
    return HTTPSeeOther(request.route_path("person", person=found))


@view_config(
    route_name="person",
    permission=Permission.PEOPLE_MANAGE,
    renderer="medportal.admin:templates/person.pt",
    request_method="GET",
)
def person(request: Request) -> dict[str, Any]:
    """Show one account: roles, how it stands, what waits, what was done to it and why."""
    found = person_of(request)
    request.audit(
        Action.PERSON_VIEWED,
        object=found.id,
        patient=patient_id(found),
        reasons=[Reason.ROLE_ANY],
    )
    open_sessions = sessions_of(request.db, request.tenant, found.id, request.now)
    change = email_change.change_by_staff(request.db, found.id, request.now)
    notes = directory.notes_of(request.db, found.id)
    return {
        "person": found,
        "is_self": found.id == request.identity.person_id,
        "state": words.person_state(found.active, found.held, found.activated),
        "contact": service.shows_contact(request.tenant, found),
        "language": LANGUAGES.get(found.language, found.language),
        "roles": _roles(request, found),
        "sessions": len(open_sessions),
        "last_sign_in": directory.last_sign_in(request.db, found.id),
        "waiting": [
            (
                request.route_path("approval", approval=shown.id),
                words.kind_words(shown.kind),
                _value(request, shown),
                shown.requester_name,
                shown.requested_at,
            )
            for shown in approvals.waiting_for(request.db, found.id, request.now)
        ],
        "notes": [
            (
                note.at,
                words.ACTIONS.get(Action(note.action), note.action),
                words.why_words(note.reason),
                note.by,
                note.note,
            )
            for note in notes
        ],
        "address_changes_at": change.effective_at if change else None,
        "deeds": _deeds(request, found, len(open_sessions), changes_address=change is not None),
    }


def _value(request: Request, shown: approvals.Shown) -> str:
    return words.role_words(request, shown.value) if shown.value in request.tenant.roles else ""


def _roles(request: Request, found: PersonDetails) -> list[tuple[str, Any, str]]:
    """Return name, since when and by whose hand of the roles that are shown."""
    names = names_of(request.db, [held.by for held in found.roles if held.by])
    visible = service.shown_roles(found)
    return [
        (words.role_words(request, held.role), held.since, names.get(held.by or "", ""))
        for held in found.roles
        if held.role in visible
    ]


def _deeds(
    request: Request, found: PersonDetails, open_sessions: int, *, changes_address: bool
) -> list[tuple[str, Any]]:
    """Return address and words of what can be done to an account as it is."""
    if found.id == request.identity.person_id:
        return []
    staff_roles = [held for held in found.roles if powers.may_be_granted_here(held.role)]
    waits_for_link = not found.activated and codes.needs_link(request.tenant, found.email)
    possible = (
        (found.active, "person-role-add", _("Add a role")),
        (bool(staff_roles), "person-role-remove", _("Remove a role")),
        (found.active and waits_for_link, "person-link", _("Send the activation email again")),
        (found.active, "person-code", _("Issue a new code for the desk")),
        (found.active, "person-email", _("Change the email address")),
        (
            found.active and changes_address,
            "person-email-cancel",
            _("Call off the change of the email address"),
        ),
        (
            found.active and found.has_second_factor,
            "person-second-factor",
            _("Remove the second proof"),
        ),
        (open_sessions > 0, "person-sessions-end", _("Sign this person out everywhere")),
        (found.active, "person-suspend", _("Suspend the account")),
        (not found.active, "person-reinstate", _("Reinstate the account")),
    )
    return [
        (request.route_path(route, person=found.id), label) for now, route, label in possible if now
    ]
