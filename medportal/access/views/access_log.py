"""Who looked, and why: the access log of a patient, one entry of it, and a copy to take along."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import structlog
from pyramid.httpexceptions import HTTPNotFound, HTTPSeeOther
from pyramid.request import Request
from pyramid.response import Response
from pyramid.view import view_config

from medportal.access import complaints
from medportal.access.complaints import About, Held
from medportal.access.downloads import FORMATS, attachment, csv_pieces, json_pieces
from medportal.access.errors import ComplaintRefused
from medportal.access.explanations import PARTNER, PROCESS, TOPICS, Topic, topic_actions
from medportal.access.forms_complaints import FINDING_WORDS, complaint_schema
from medportal.access.lines import Line, Teller
from medportal.access.log import BATCH, PAGE, Place, Wanted, cursor_of, events_of, find_event
from medportal.access.period import NoPeriod, Period, asked_period, bounds
from medportal.access.resources import PatientContext
from medportal.audit.events import Action, Event, Outcome
from medportal.core.ids import is_id
from medportal.core.permissions import Permission
from medportal.core.reasons import Reason
from medportal.vault.errors import VaultError
from medportal.web.flash import flash
from medportal.web.forms import Form, make_form
from medportal.web.i18n import _, format_datetime, translate

log = structlog.get_logger()
#: Instead of a topic: only what was refused.
REFUSED = "refused"
#: How many of the patient's questions stand above the log.
QUESTIONS = 10
#: Whose entries: everybody's, or those of one; without either, everybody's but one's own.
EVERYBODY = "all"
REFUSALS = {
    "asked-already": _("You have asked about this entry already. You get a mail with the answer."),
    "too-many": _(
        "Many of your questions wait for an answer. Ask again when some have been answered, or "
        "talk to us."
    ),
}
#: Heads of the columns of a table to take along.
COLUMNS = (
    _("When"),
    _("Who"),
    _("What happened"),
    _("Outcome"),
    _("Why"),
    _("From where"),
    _("Record"),
    _("More"),
    _("Entry"),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the address of a log asks for; ``fields`` say it again, for a link."""

    wanted: Wanted
    topic: str
    who: str
    period: Period

    @property
    def fields(self) -> dict[str, str]:
        """Return what an address says of it."""
        named = {"topic": self.topic, "who": self.who, **self.period.fields}
        return {name: value for name, value in named.items() if value}


@view_config(
    route_name="access-log",
    permission=Permission.ACCESS_LOG_VIEW,
    renderer="medportal.access:templates/access_log.pt",
    request_method="GET",
)
def access_log(context: PatientContext, request: Request) -> dict[str, Any]:
    """Show who looked, newest first, and what became of the patient's questions."""
    problem = None
    try:
        asked = _asked(request, asked_period(request))
    except NoPeriod as error:
        problem, asked = error.words, _asked(request, Period())
        request.response.status_int = 422
    events = events_of(
        request.db,
        context.patient_id,
        asked.wanted,
        after=_after(context, request),
        limit=PAGE + 1,
    )
    page, more = events[:PAGE], len(events) > PAGE
    lines = Teller(request, context.patient_id, context).lines(request.db, page)
    is_first = "after" not in request.GET
    questions, more_questions = _questions(context, request) if is_first else ([], None)
    request.audit(
        Action.ACCESS_LOG_VIEWED,
        **context.why(Permission.ACCESS_LOG_VIEW),
        details={"count": len(page)},
    )
    return {
        "patient_id": context.patient_id,
        "is_self": context.patient.is_self,
        "lines": lines,
        "next": page[-1].id if more else None,
        "is_first": is_first,
        "asked": asked,
        "problem": problem,
        "typed": {name: request.GET.get(name, "") for name in ("from", "until")},
        "topics": [(str(topic), words) for topic, words in TOPICS.items()],
        "chosen": _chosen(asked, lines),
        "questions": questions,
        "next_questions": more_questions,
        "formats": FORMATS,
    }


def _asked(request: Request, period: Period) -> Asked:
    """Return what is asked for. Raises ``HTTPNotFound`` for what no link of ours says."""
    topic, who = request.GET.get("topic", ""), request.GET.get("who", "")
    if topic not in {"", REFUSED, *Topic} or not _may_be_asked(who):
        raise HTTPNotFound()
    since, until = bounds(request, period)
    wanted = Wanted(
        actions=topic_actions(Topic(topic)) if topic in set(Topic) else (),
        outcomes=(Outcome.DENIED,) if topic == REFUSED else (),
        actor=who if who != EVERYBODY else "",
        but=request.identity.person_id if not who else "",
        since=since,
        until=until,
    )
    return Asked(wanted, topic, who, period)


def _may_be_asked(who: str) -> bool:
    named = is_id(who) or (who.startswith((PARTNER, PROCESS)) and len(who) < 100)
    return who in {"", EVERYBODY} or named


def _after(context: PatientContext, request: Request) -> Place | None:
    """Return where the page before ended. Raises ``HTTPNotFound`` for no entry of this log."""
    event_id = request.GET.get("after")
    if event_id is None:
        return None
    found = cursor_of(request.db, context.patient_id, event_id) if is_id(event_id) else None
    if found is None:
        raise HTTPNotFound()
    return found


def _chosen(asked: Asked, lines: list[Line]) -> str | None:
    """Return the name of the one whose entries alone are shown."""
    if asked.who in {"", EVERYBODY}:
        return None
    return next((line.who for line in lines if line.actor == asked.who), "")


def _questions(
    context: PatientContext, request: Request
) -> tuple[list[dict[str, Any]], str | None]:
    """Return the patient's newest questions, and behind which one of them there are more."""
    found = complaints.of_patient(
        request.db,
        context.patient_id,
        after=_after_question(context, request),
        limit=QUESTIONS + 1,
    )
    held = found[:QUESTIONS]
    shown = [
        {
            "path": request.route_path(
                "access-log-event", patient=context.patient_id, event=complaint.about.event_id
            ),
            "made_at": complaint.made_at,
            "state": _state(complaint),
        }
        for complaint in held
    ]
    return shown, held[-1].id if len(found) > QUESTIONS else None


def _after_question(context: PatientContext, request: Request) -> Place | None:
    """Return where the questions before ended. Raises ``HTTPNotFound`` for none of this patient."""
    complaint_id = request.GET.get("questions")
    if complaint_id is None:
        return None
    found = complaints.find(request.db, complaint_id) if is_id(complaint_id) else None
    if found is None or found.about.patient_id != context.patient_id:
        raise HTTPNotFound()
    return found.made_at, found.id


def _state(held: Held) -> tuple[str, Any]:
    return ("wait", _("Not answered yet")) if held.answered_at is None else ("ok", _("Answered"))


@view_config(
    route_name="access-log-event",
    permission=Permission.ACCESS_LOG_VIEW,
    renderer="medportal.access:templates/access_event.pt",
    request_method="GET",
)
def access_event(context: PatientContext, request: Request) -> dict[str, Any]:
    """Show one entry with all that is known of it, and ask what looks wrong.

    Questions and answers outlive the entry that they are about, which is forgotten some time.
    """
    event_id = request.matchdict["event"]
    held = complaints.of_event(request.db, context.patient_id, event_id) if is_id(event_id) else []
    event = None if _is_gone(context, request, held) else _event(context, request)
    request.audit(
        Action.ACCESS_LOG_VIEWED,
        **context.why(Permission.ACCESS_LOG_VIEW),
        details={"entry": event_id},
    )
    return _entry_page(context, request, event, held, _form(request))


def _is_gone(context: PatientContext, request: Request, held: list[Held]) -> bool:
    """Tell whether nothing but questions is left of an entry."""
    return bool(held) and (
        find_event(request.db, context.patient_id, held[0].about.event_id) is None
    )


@view_config(
    route_name="access-log-event",
    permission=Permission.COMPLAINT_MAKE,
    renderer="medportal.access:templates/access_event.pt",
    request_method="POST",
)
def complain(context: PatientContext, request: Request) -> Any:
    """Take what looks wrong to the patient, for the privacy officer."""
    event, form = _event(context, request), _form(request)
    values = form.validate(request.POST.items())
    if values is None or not _complained(context, request, event, form, values["text"]):
        request.audit(
            Action.ACCESS_LOG_VIEWED,
            **context.why(Permission.COMPLAINT_MAKE),
            details={"entry": event.id},
        )
        held = complaints.of_event(request.db, context.patient_id, event.id)
        return _entry_page(context, request, event, held, form)
    flash(request, _("Thank you. The privacy officer gets your question and answers it."), "ok")
    return HTTPSeeOther(_path(context, request, event.id))


def _complained(
    context: PatientContext, request: Request, event: Event, form: Form, text: str
) -> bool:
    about = About(context.patient_id, event.id, event.actor)
    asker = request.identity.person_id
    try:
        made = complaints.make(request.db, request.keys.vault, about, text, asker, request.now)
    except ComplaintRefused as error:
        form.fail(None, REFUSALS[error.code])
        return False
    request.audit(
        Action.COMPLAINT_MADE,
        object=made.complaint_id,
        **context.why(Permission.COMPLAINT_MAKE),
        details={"entry": event.id, "commitment": made.commitment},
    )
    return True


def _event(context: PatientContext, request: Request) -> Event:
    event_id = request.matchdict["event"]
    found = find_event(request.db, context.patient_id, event_id) if is_id(event_id) else None
    if found is None:
        raise HTTPNotFound()
    return found


def _path(context: PatientContext, request: Request, event_id: str) -> str:
    path: str = request.route_path("access-log-event", patient=context.patient_id, event=event_id)
    return path


def _form(request: Request) -> Form:
    return make_form(request, complaint_schema(), submit=_("Ask the privacy officer"))


def _entry_page(
    context: PatientContext,
    request: Request,
    event: Event | None,
    held: list[Held],
    form: Form,
) -> dict[str, Any]:
    waits = any(complaint.answered_at is None for complaint in held)
    may_ask = event is not None and context.decision.allows(Permission.COMPLAINT_MAKE)
    told = [event] if event is not None else []
    lines = Teller(request, context.patient_id, context).lines(request.db, told)
    return {
        "patient_id": context.patient_id,
        "is_self": context.patient.is_self,
        "line": next(iter(lines), None),
        "by_self": event is not None and event.actor == request.identity.person_id,
        "questions": [_question(request, complaint) for complaint in held],
        "form": form if may_ask and (not waits or form.problems) else None,
    }


def _question(request: Request, held: Held) -> dict[str, Any]:
    """Return a question with its answer; the words are for the patient and for who asked."""
    may_read = request.identity.person_id in {held.made_by, held.about.patient_id}
    finding = FINDING_WORDS.get(Reason(held.finding)) if held.finding else None
    return {
        "made_at": held.made_at,
        "answered_at": held.answered_at,
        "state": _state(held),
        "finding": finding,
        "texts": _texts(request, held) if may_read else None,
    }


def _texts(request: Request, held: Held) -> complaints.Texts | None:
    """Return the words, or ``None`` if they cannot be opened any more."""
    try:
        return complaints.opened(request.db, request.keys.vault, held)
    except VaultError as error:
        log.error("words of a complaint cannot be opened", kind=type(error).__name__, id=held.id)
        return None


@view_config(
    route_name="access-log-download",
    permission=Permission.ACCESS_LOG_VIEW,
    request_method="GET",
)
def download(context: PatientContext, request: Request) -> Response:
    """Give the entries as a table to take along; what the page was narrowed to counts here too."""
    name = request.GET.get("format", "")
    try:
        asked = _asked(request, asked_period(request))
    except NoPeriod:
        raise HTTPNotFound() from None
    if name not in FORMATS:
        raise HTTPNotFound()
    # What is written while the file is made is no part of it.
    until = min(asked.wanted.until or request.now, request.now)
    request.audit(
        Action.ACCESS_LOG_VIEWED,
        **context.why(Permission.ACCESS_LOG_VIEW),
        details={"format": name},
    )
    lines = _all_lines(context, request, replace(asked.wanted, until=until))
    filename = f"access-log-{request.now:%Y-%m-%d}.{name}"
    if name == "csv":
        heads = [translate(request, head) for head in COLUMNS]
        pieces = csv_pieces(heads, (_cells(request, line) for _event, line in lines))
        return attachment(pieces, "text/csv", filename)
    return attachment(_json(request, asked, lines), "application/json", filename)


def _all_lines(
    context: PatientContext, request: Request, wanted: Wanted
) -> Iterator[tuple[Event, Line]]:
    """Give every wanted event with its line, read batch by batch after the request has ended."""
    patient_id = context.patient_id
    teller = Teller(request, patient_id, context)
    after: Place | None = None
    with request.database.reader() as session:
        while True:
            events = events_of(session, patient_id, wanted, after=after, limit=BATCH)
            yield from zip(events, teller.lines(session, events), strict=True)
            if len(events) < BATCH:
                return
            after = (events[-1].at, events[-1].id)


def _cells(request: Request, line: Line) -> list[str]:
    return [
        format_datetime(request, line.at, seconds=True),
        line.who,
        line.sentence,
        line.outcome[1],
        " ".join(line.why),
        line.place,
        line.record[0] if line.record else "",
        "; ".join(f"{label}: {value}" for label, value in line.facts),
        line.id,
    ]


def _json(request: Request, asked: Asked, lines: Iterator[tuple[Event, Line]]) -> Iterator[bytes]:
    head = {
        "institution": request.tenant.id,
        "language": request.locale_name,
        "made": request.now.isoformat(),
        "narrowed": asked.fields,
    }
    return json_pieces(head, "entries", (_entry(event, line) for event, line in lines))


def _entry(event: Event, line: Line) -> dict[str, Any]:
    """Return an entry with its codes, for programs, and in words; not who else has an account."""
    return {
        "id": event.id,
        "at": event.at.isoformat(),
        "action": str(event.action),
        "outcome": str(event.outcome),
        "reasons": list(event.reasons),
        "who": line.who,
        "what": line.sentence,
        "why": list(line.why),
        "where": line.place,
        "record": line.record[0] if line.record else None,
        "more": [{"name": label, "value": value} for label, value in line.facts],
    }
