"""The audit log, for those who oversee access: what was done, one event, finding by number.

Whoever looks at events about a patient is in that patient's access log: a page of the log
leaves an event for each patient whom it names.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from pyramid.httpexceptions import HTTPNotFound, HTTPSeeOther
from pyramid.request import Request
from pyramid.view import view_config

from medportal.access.looked_at import patients_among
from medportal.access.resources import why_of
from medportal.admin import words
from medportal.admin.audit_filter import PARTNER, Filter, MalformedFilter
from medportal.admin.forms_audit import search_schema
from medportal.audit.events import Action, Event, Outcome
from medportal.audit.merkle import leaf_hash
from medportal.audit.search import Cursor, Stored, find, one
from medportal.audit.store import head_covering, last_head
from medportal.core.clock import from_micros, to_micros
from medportal.core.ids import is_id
from medportal.core.permissions import Permission
from medportal.identity import throttle
from medportal.identity.errors import Throttled
from medportal.identity.people import find_person, names_of
from medportal.identity.views.answers import refuse_throttled, throttled
from medportal.patients.views import usable_number
from medportal.records.presentation import institution_name
from medportal.web.forms import Form, make_form
from medportal.web.i18n import _, format_date

#: What the small form on the page leaves as it is.
KEPT = ("person", "patient", "since", "until")


@view_config(
    route_name="audit-log",
    permission=Permission.AUDIT_VIEW,
    renderer="medportal.admin:templates/audit.pt",
    request_method="GET",
)
def audit_log(request: Request) -> dict[str, Any]:
    """Show the events that fit, newest first; looking at them is an event too."""
    wanted = filter_of(request.GET)
    query = wanted.query(request.tenant.time_zone)
    page = find(request.db, query, after=_cursor(request))
    request.audit(
        Action.AUDIT_VIEWED,
        patient=wanted.patient or None,
        object=wanted.person if is_id(wanted.person) else None,
        details={"count": len(page.events)},
        **why(request),
    )
    _tell_patients(request, page.events, but=wanted.patient)
    names = names_in(request, page.events)
    named = names_of(request.db, [one for one in (wanted.person, wanted.patient) if is_id(one)])
    return {
        "lines": [_line(request, event, names) for event in page.events],
        "next": page.next and f"{to_micros(page.next.at)}.{page.next.id}",
        "wanted": wanted,
        "fields": wanted.fields,
        "kept": [(name, wanted.fields[name]) for name in KEPT if name in wanted.fields],
        "told": _told(request, wanted, named),
        "actions": action_choices(),
        "words": words,
        "head": last_head(request.db),
        "may_export": request.context.decision.allows(Permission.AUDIT_EXPORT),
    }


def _tell_patients(request: Request, events: Iterable[Event], *, but: str) -> None:
    """Leave an event for each patient whom a page names, as what an event is about."""
    named = {event.patient or event.object or "" for event in events} - {but}
    for patient in patients_among(request.db, named):
        request.audit(
            Action.AUDIT_VIEWED, patient=patient, details={"list": "audit-log"}, **why(request)
        )


def filter_of(given: Mapping[str, str]) -> Filter:
    """Return what is wanted. Raises ``HTTPNotFound`` for what no page of ours asks for."""
    try:
        return Filter.read(given)
    except MalformedFilter:
        raise HTTPNotFound() from None


def why(request: Request, permission: Permission = Permission.AUDIT_VIEW) -> dict[str, Any]:
    """Return what an event says of how one came to look."""
    return why_of(request.context.decision, permission)


def action_choices() -> list[tuple[str, Any]]:
    """Return (code, words) of every action."""
    return [(str(action), words.action_words(action)) for action in Action]


def names_in(request: Request, events: Iterable[Event]) -> dict[str, str]:
    """Return the names of the people who stand in events, by id."""
    ids = {who for e in events for who in (e.actor, e.patient, e.object)}
    return names_of(request.db, [who for who in ids if who and is_id(who)])


def _told(request: Request, wanted: Filter, named: Mapping[str, str]) -> list[tuple[Any, Any]]:
    """Return what a search wanted, in words."""
    shown = (
        (_("Done by"), wanted.person and _who(request, wanted.person, named)),
        (_("About the patient"), wanted.patient and named.get(wanted.patient, wanted.patient)),
        (_("From this day on"), wanted.since and format_date(request, wanted.since)),
        (_("Up to this day, included"), wanted.until and format_date(request, wanted.until)),
        (_("Action"), wanted.action and words.action_words(Action(wanted.action))),
        (_("Outcome"), wanted.outcome and words.OUTCOMES[Outcome(wanted.outcome)][1]),
    )
    return [(label, value) for label, value in shown if value]


def _process(request: Request, actor: str) -> Any:
    if actor.startswith(PARTNER):
        return institution_name(request, actor.removeprefix(PARTNER))
    return words.PROCESSES.get(actor, actor)


def _who(request: Request, actor: str | None, names: Mapping[str, str]) -> Any:
    return (names.get(actor) or _process(request, actor)) if actor else None


def _line(request: Request, event: Event, names: Mapping[str, str]) -> dict[str, Any]:
    return {
        "event": event,
        "url": request.route_path("audit-event", event=event.id),
        "what": words.action_words(event.action),
        "who": _who(request, event.actor, names),
        "about": names.get(event.patient or "") or names.get(event.object or ""),
        "reasons": [words.reason_words(code) for code in event.reasons],
    }


def _cursor(request: Request) -> Cursor | None:
    text = request.GET.get("after")
    if text is None:
        return None
    micros, _dot, event_id = text.partition(".")
    try:
        if is_id(event_id) and micros.isascii() and micros.isdigit() and len(micros) < 20:
            return Cursor(from_micros(int(micros)), event_id)
    except ValueError:
        raise HTTPNotFound() from None
    raise HTTPNotFound()


@view_config(
    route_name="audit-find",
    permission=Permission.AUDIT_VIEW,
    renderer="medportal.admin:templates/audit_find.pt",
)
def search(request: Request) -> Any:
    """Search by number, action, outcome and time; a number is sent in the body and becomes an id.

    A look-up by number is audited like any other, and misses slow down whoever makes them.
    """
    form = _search_form(request)
    if request.method != "POST":
        return {"form": form}
    values = form.validate(request.POST.items())
    if values is None:
        return {"form": form}
    found = ""
    if values["number"]:
        try:
            found = _look_up(request, values["number"]) or ""
        except Throttled as error:
            return throttled(request, form, error.seconds)
        if not found:
            form.fail("number", _("Nobody with this number is known here."))
            return {"form": form}
    wanted = Filter(
        action=values["action"],
        outcome=values["outcome"],
        since=values["since"],
        until=values["until"],
        **({values["whom"]: found} if found else {}),
    )
    return HTTPSeeOther(request.route_path("audit-log", _query=wanted.fields))


def _search_form(request: Request) -> Form:
    schema = search_schema(
        request.tenant,
        action_choices(),
        [(str(outcome), words.OUTCOMES[outcome][1]) for outcome in Outcome],
        is_number=lambda typed: usable_number(request, typed) is not None,
    )
    return make_form(request, schema, submit=_("Search"), action=request.route_path("audit-find"))


def _look_up(request: Request, typed: str) -> str | None:
    """Return who has a number. Raises ``Throttled``."""
    number = usable_number(request, typed) or ""
    keys = throttle.keys(
        "person-find", request.identity.person_id, request.client_address, anywhere=True
    )
    with request.database.reader() as session:
        refuse_throttled(session, keys, request.now)
        found = find_person(session, request.tenant.identifiers.scheme, number)
    # Of many at one moment only so many get an answer as may be made in a row.
    refuse_throttled(request.db, keys, request.now, in_turn=True)
    request.audit(
        Action.PERSON_SOUGHT,
        object=found,
        details={"found": int(found is not None)},
        **why(request),
    )
    if found is None:
        throttle.note_failure(request.db, keys, request.now)
    return found


@view_config(
    route_name="audit-event",
    permission=Permission.AUDIT_VIEW,
    renderer="medportal.admin:templates/audit_event.pt",
    request_method="GET",
)
def audit_event(request: Request) -> dict[str, Any]:
    """Show everything that one event says, and which signed head covers it."""
    event_id = request.matchdict["event"]
    stored = one(request.db, event_id) if is_id(event_id) else None
    if stored is None:
        raise HTTPNotFound()
    event = stored.event
    request.audit(Action.AUDIT_VIEWED, patient=event.patient, object=event.id, **why(request))
    names = names_in(request, [event])
    return {
        "line": _line(request, event, names),
        "patient": names.get(event.patient or ""),
        "object": names.get(event.object or ""),
        "details": sorted(event.details.items()),
        "words": words,
        "number": stored.sequence,
        "leaf": leaf_hash(event.to_bytes()).hex(),
        "head": _head_of(request, stored),
        "same_actor": _link(request, person=event.actor),
        "same_patient": _link(request, patient=event.patient),
    }


def _head_of(request: Request, stored: Stored) -> Any:
    return None if stored.sequence is None else head_covering(request.db, stored.sequence)


def _link(request: Request, **wanted: str | None) -> str | None:
    fields = {name: value for name, value in wanted.items() if value}
    return request.route_path("audit-log", _query=fields) if fields else None
