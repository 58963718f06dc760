"""Events as lines that a patient can read: who is this, and why?

Names, records and what an answer rested on are loaded once for many events.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pyramid.request import Request
from sqlalchemy import select
from sqlalchemy.orm import Session

from medportal.access import explanations as words
from medportal.access.institutions import institution_name
from medportal.access.log import Basis, BasisKind, bases_of
from medportal.access.models import Representative
from medportal.access.resources import PatientContext
from medportal.audit.events import Action, Event
from medportal.core.ids import is_id
from medportal.core.reasons import Reason
from medportal.identity.people import names_of
from medportal.tenancy.tenant import PATIENT_ROLE
from medportal.web.i18n import _, format_datetime, format_number, translate

#: The role of whoever stands for a patient, where the institution's catalogue has it.
REPRESENTATIVE_ROLE = "representative"
#: Roles that are nobody's work.
NOT_STAFF = frozenset({PATIENT_ROLE, REPRESENTATIVE_ROLE})
#: Actions whose object is the person whom they put in charge, or let go.
ABOUT_SOMEBODY = frozenset(
    {
        Action.CARE_ASSIGNED,
        Action.CARE_ENDED,
        Action.REPRESENTATIVE_MADE,
        Action.REPRESENTATIVE_ENDED,
    }
)
#: What a list of records was shown as, where that was not the timeline.
PARTS = {
    "search": _("What a search among the records found"),
    "trends": _("How values changed over time"),
}
Fact = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Line:
    """One event, told in the page's language.

    ``actor`` is by whom the log can be narrowed, empty where that is not the patient's to
    know. ``outcome`` is kind and words of a tag, ``why`` are sentences, ``facts`` further
    (label, value); ``record`` is (name, address) of the record it was about, if any.
    """

    id: str
    at: datetime
    who: str
    actor: str
    sentence: str
    outcome: tuple[str, str]
    why: tuple[str, ...]
    place: str
    facts: tuple[Fact, ...]
    record: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class _Known:
    """What was loaded for a number of events."""

    names: Mapping[str, str]
    representatives: frozenset[str]
    bases: Mapping[str, Basis]
    titles: Mapping[str, str]


class Teller:
    """Tells events about one patient.

    What a record is called is told to those who may read it, and only in the light of a
    ``context``, which decides that record by record.
    """

    def __init__(
        self, request: Request, patient_id: str, context: PatientContext | None = None
    ) -> None:
        self._request = request
        self._patient_id = patient_id
        self._context = context

    def lines(self, session: Session, events: Sequence[Event]) -> list[Line]:
        """Return a line for each event."""
        known = self._load(session, events)
        return [self._line(event, known) for event in events]

    def _load(self, session: Session, events: Sequence[Event]) -> _Known:
        bases = bases_of(session, self._patient_id, events)
        people = [e.actor for e in events] + [b.by for b in bases.values()]
        people += [e.object for e in events if e.action in ABOUT_SOMEBODY]
        ids = {person for person in people if person and is_id(person)}
        return _Known(
            names_of(session, ids),
            _representatives(session, self._patient_id, ids),
            bases,
            self._titles(session, events),
        )

    def _titles(self, session: Session, events: Sequence[Event]) -> dict[str, str]:
        if self._context is None:
            return {}
        ids = {record_id for event in events if (record_id := _record_of(event))}
        load = self._request.registry["record_titles"]
        found: dict[str, str] = load(self._request, session, self._context, ids)
        return found

    def _line(self, event: Event, known: _Known) -> Line:
        who = self._who(event, known)
        kind, outcome = words.OUTCOMES[event.outcome]
        return Line(
            id=event.id,
            at=event.at,
            who=self._text(who or words.SOMEBODY),
            actor=(event.actor or "") if who else "",
            sentence=self._text(words.sentence_of(event, self._text(who or words.SOMEBODY))),
            outcome=(kind, self._text(outcome)),
            why=tuple(self._text(words.why(code)) for code in event.reasons),
            place=self._place(event),
            facts=tuple(self._facts(event, known)),
            record=self._record(event, known),
        )

    def _who(self, event: Event, known: _Known) -> Any | None:
        """Return who it was, with the roles in which they came then; ``None`` for a secret."""
        actor = event.actor
        if actor is None:
            return words.NOBODY
        if actor == self._patient_id:
            return words.YOU
        if actor.startswith(words.PARTNER):
            return institution_name(self._request, actor.removeprefix(words.PARTNER))
        if actor.startswith(words.PROCESS):
            return words.PROCESSES.get(actor, words.PROCESSES["process:jobs"])
        return self._person(actor, event, known)

    def _person(self, actor: str, event: Event, known: _Known) -> Any | None:
        """Return the name of a member of staff or of a representative, and of nobody else.

        Who else has an account here is a patient: that they are one is theirs to tell.
        """
        name = known.names.get(actor)
        roles = [role for role in str(event.details.get("roles", "")).split(",") if role]
        staff = [role for role in roles if role not in NOT_STAFF]
        if name is not None and staff:
            return f"{name} ({', '.join(self._role(role) for role in staff)})"
        if name is not None and (actor in known.representatives or _represented(event)):
            return _("${name}, who represents you", mapping={"name": name})
        # No role counted for them: somebody who works here, whose proof was too weak for it.
        return name if "roles" in event.details and not roles else None

    def _role(self, role: str) -> str:
        known = self._request.tenant.roles.get(role)
        return str(known.names[self._request.locale_name]) if known else role

    def _place(self, event: Event) -> str:
        """Return from where somebody came: which institution, and whether within it."""
        actor, place = event.actor or "", event.details.get("place")
        if actor.startswith(words.PARTNER):
            return institution_name(self._request, actor.removeprefix(words.PARTNER))
        if actor.startswith(words.PROCESS):
            return self._text(words.BY_ITSELF)
        here = {"institution": institution_name(self._request, self._request.tenant.id)}
        if place == "on-site":
            return self._text(_("Inside ${institution}", mapping=here))
        if place == "remote":
            return self._text(_("Outside, signed in at ${institution}", mapping=here))
        return ""

    def _facts(self, event: Event, known: _Known) -> Iterable[Fact]:
        page = words.page_of(event)
        if page is not None:
            yield self._text(_("What they wanted to see")), self._text(page)
        partner = event.details.get("partner") or event.details.get("origin")
        if partner:
            name = institution_name(self._request, str(partner))
            yield self._text(_("Other institution")), name
        if event.action in ABOUT_SOMEBODY and event.object in known.names:
            yield self._text(_("Whom it concerns")), known.names[str(event.object)]
        if "ward" in event.details:
            yield self._text(_("Ward")), str(event.details["ward"])
        if event.action is Action.RECORDS_LISTED and "count" in event.details:
            count = format_number(self._request, int(event.details["count"]))
            yield self._text(_("Number of records on the list")), count
        if event.action is Action.RECORDS_LISTED and event.details.get("part") in PARTS:
            yield self._text(_("Shown as")), self._text(PARTS[str(event.details["part"])])
        basis = known.bases.get(str(event.details.get("basis", "")))
        if basis is not None:
            yield self._text(_("On what it rested")), self._rests_on(basis, known)

    def _rests_on(self, basis: Basis, known: _Known) -> str:
        sentences = [self._begun(basis, known)]
        if basis.reason:
            sentences.append(words.why(basis.reason))
        if basis.until is not None:
            until = {"until": format_datetime(self._request, basis.until)}
            sentences.append(_("It counts until ${until}.", mapping=until))
        return " ".join(self._text(sentence) for sentence in sentences)

    def _begun(self, basis: Basis, known: _Known) -> Any:
        told = {
            "since": format_datetime(self._request, basis.since),
            "by": known.names.get(basis.by or "", ""),
            "ward": basis.ward,
        }
        match basis.kind:
            case BasisKind.RULE:
                return _("Your rule, in force since ${since}.", mapping=told)
            case BasisKind.GLASS:
                return _("Emergency access, begun ${since}.", mapping=told)
            case _ if basis.ward:
                return _(
                    "The team of the ward ${ward} was put in charge of you on ${since}.",
                    mapping=told,
                )
            case _ if told["by"]:
                return _("${by} put them in charge of you on ${since}.", mapping=told)
            case _:
                return _("They were put in charge of you on ${since}.", mapping=told)

    def _record(self, event: Event, known: _Known) -> tuple[str, str] | None:
        record_id = _record_of(event)
        title = known.titles.get(record_id)
        if title is None:
            return None
        path = self._request.route_path("record", patient=self._patient_id, record=record_id)
        return title, path

    def _text(self, message: Any) -> str:
        return translate(self._request, message)


def _record_of(event: Event) -> str:
    """Return the id that may be a record's; what it is not, no record has."""
    return str(event.details.get("record") or event.object or "")


def _represented(event: Event) -> bool:
    return Reason.REPRESENTATIVE in event.reasons


def _representatives(session: Session, patient_id: str, ids: Iterable[str]) -> frozenset[str]:
    """Return who of these represents the patient, or did; who was only named never did."""
    rows = session.scalars(
        select(Representative.person_id).where(
            Representative.patient_id == patient_id,
            Representative.person_id.in_(sorted(ids)),
            Representative.approved_by.is_not(None),
        )
    )
    return frozenset(rows)
