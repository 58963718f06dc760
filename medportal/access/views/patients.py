"""The patients whom somebody may see: everybody for the desk, one's own as cards for others."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from pyramid.httpexceptions import HTTPNotFound
from pyramid.request import Request
from pyramid.view import view_config
from sqlalchemy import Select, or_, select

from medportal.access.care import patients_of
from medportal.access.models import BrokenGlass, PatientRule
from medportal.access.resources import PatientContext, Patients, Root
from medportal.access.rules import Effect, Whom
from medportal.access.summaries import Sees, sees_of
from medportal.audit.events import Action
from medportal.core.ids import is_id
from medportal.core.permissions import Permission, Reach
from medportal.patients import service as patients
from medportal.patients import support
from medportal.patients.models import Patient
from medportal.patients.support import Needs

BATCH = patients.PAGE + 1


@dataclass(frozen=True, slots=True)
class Card:
    """A patient on the list, and what the reader may know besides name and ward."""

    patient: patients.PatientCard
    sees: Sees
    needs: Needs = Needs()
    damaged: bool = False


@view_config(
    route_name="patients",
    permission=Permission.PATIENTS_LIST,
    request_method="GET",
    renderer="medportal.access:templates/patients.pt",
)
def patient_list(context: Patients, request: Request) -> dict[str, Any]:
    """List the patients whom one may see: everybody, or those whom one looks after now."""
    held = context.facts().held
    everybody = Reach.ANY in held.get(Permission.PATIENTS_LIST, frozenset())
    among = _everybody_else(request) if everybody else _mine(context, request)
    after = _cursor(context, request, among)
    found = list(islice(_seen(context, request, among, after), patients.PAGE + 1))
    page, more = found[: patients.PAGE], len(found) > patients.PAGE
    cards = [Card(one, sees_of(seen.decision)) for one, seen in page]
    if not everybody:
        cards = _with_needs(request, cards)
        _tell(request, cards, {one.id: seen for one, seen in page})
    request.audit(Action.PATIENTS_LISTED, details={"count": len(page)})
    return {
        "cards": cards,
        "everybody": everybody,
        "may_register": context.decision.allows(Permission.PATIENTS_REGISTER),
        "may_find": context.decision.allows(Permission.PATIENTS_FIND),
        "has_wards": bool(request.tenant.wards),
        "next": _next(request, page[-1][0]) if more else None,
        "is_first": "after" not in request.GET,
    }


def _everybody_else(request: Request) -> Select[str]:
    """Return the query of all patients but oneself, whom nobody sees as staff."""
    return select(Patient.person_id).where(Patient.person_id != request.identity.person_id)


def _mine(context: Root, request: Request) -> Select[str]:
    """Return the query of whom somebody may find on their list.

    Those whom they look after, those to whom they broke the glass, and those who allow it to
    them by name. Whether they may see each of them now is decided afterwards.
    """
    me, now = request.identity.person_id, request.now
    allowed = select(PatientRule.patient_id).where(
        PatientRule.whom == Whom.PERSON,
        PatientRule.whom_id == me,
        PatientRule.effect == Effect.ALLOW,
        PatientRule.ended_at.is_(None),
    )
    broken = select(BrokenGlass.patient_id).where(
        BrokenGlass.staff_id == me, BrokenGlass.since <= now, BrokenGlass.until > now
    )
    cared_for = patients_of(me, sorted(context.departments), now)
    return select(Patient.person_id).where(
        Patient.person_id != me,
        or_(*(Patient.person_id.in_(ids) for ids in (cared_for, broken, allowed))),
    )


def _seen(
    context: Patients, request: Request, among: Select[str], after: tuple[str, str] | None
) -> Iterator[tuple[patients.PatientCard, PatientContext]]:
    """Give the patients of a query whom the person may see now, by name, from a key on."""
    while True:
        batch = patients.list_patients(request.db, among=among, after=after, limit=BATCH)
        contexts = context.several([one.id for one in batch])
        for one in batch:
            seen = contexts[one.id]
            if seen.decision.allows(Permission.PATIENT_SEE):
                yield one, seen
        if len(batch) < BATCH:
            return
        after = (batch[-1].name, batch[-1].id)


def _with_needs(request: Request, cards: list[Card]) -> list[Card]:
    """Return the cards with as much of the support needs as each decision opens."""
    wanted = [c.patient.id for c in cards if c.sees.transport or c.sees.alerts]
    noted = support.current_of(request.db, request.keys.vault, wanted)
    return [_with(card, noted.get(card.patient.id, support.NOTHING)) for card in cards]


def _with(card: Card, noted: support.Noted) -> Card:
    seen = card.sees.transport or card.sees.alerts
    return replace(card, needs=card.sees.of(noted.needs), damaged=seen and noted.damaged)


def _tell(request: Request, cards: list[Card], seen: dict[str, PatientContext]) -> None:
    """Write an event for each patient of whom the list says more than their name and ward.

    Also where nothing is noted: that somebody has no allergy is something to know.
    """
    for card in cards:
        if card.sees.tells_more:
            why = seen[card.patient.id].why(Permission.PATIENT_SEE)
            request.audit(Action.PATIENT_VIEWED, **why, details={"page": "list"})


def _cursor(context: Patients, request: Request, among: Select[str]) -> tuple[str, str] | None:
    """Return the key of the last patient of the page before, one whom the person may see.

    It is the id alone: the name is looked up again, so that no name stands in an address.
    """
    after = request.GET.get("after")
    if after is None:
        return None
    key = patients.list_key(request.db, after, among) if is_id(after) else None
    if key is None or not context[after].decision.allows(Permission.PATIENT_SEE):
        raise HTTPNotFound()
    return key


def _next(request: Request, last: patients.PatientCard) -> str:
    path: str = request.route_path("patients", _query={"after": last.id})
    return path
