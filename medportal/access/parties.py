"""Who has a part in what is complained about or reviewed, and so has no business deciding it.

Besides whoever did it and the patient: the patient's representatives, of now and of before;
whom the deed put in charge, or let go; and who made what it rested on.
"""

from collections.abc import Iterable

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from medportal.access.log import bases_of
from medportal.access.models import BrokenGlass, CareAssignment, Representative, WardTeamMember
from medportal.audit.events import Event
from medportal.core.ids import is_id


def representatives(session: Session, patient_id: str) -> frozenset[str]:
    """Return who represents a patient, or ever did, also who was only named for it."""
    return frozenset(
        session.scalars(
            select(Representative.person_id).where(Representative.patient_id == patient_id)
        )
    )


def parties_of(session: Session, patient_id: str, event: Event) -> frozenset[str]:
    """Return the ids of those who have a part in an event about a patient.

    What an event is about is a person or a thing; the id of a thing is nobody's, and does no
    harm here.
    """
    found = {event.actor, event.object}
    for basis in bases_of(session, patient_id, [event]).values():
        found |= {basis.by}
        if basis.ward and event.actor:
            found |= _added_by(session, basis.ward, event.actor)
    found |= _made(session, patient_id, event)
    return frozenset(who for who in found if who and is_id(who))


def _added_by(session: Session, ward: str, staff_id: str) -> set[str | None]:
    """Return who put somebody into the team through which an assignment reached them."""
    return set(
        session.scalars(
            select(WardTeamMember.added_by).where(
                WardTeamMember.ward == ward, WardTeamMember.staff_id == staff_id
            )
        )
    )


def _made(session: Session, patient_id: str, event: Event) -> set[str | None]:
    """Return who made, approved or used what the event tells of."""
    people = [who for who in (event.actor, event.object) if who]
    things = [*people, str(event.details.get("assignment", ""))]
    rows: list[Iterable[str | None]] = [
        *session.execute(
            select(
                Representative.person_id, Representative.made_by, Representative.approved_by
            ).where(
                Representative.patient_id == patient_id,
                or_(Representative.id.in_(things), Representative.person_id.in_(people)),
            )
        ),
        *session.execute(
            select(CareAssignment.staff_id, CareAssignment.assigned_by).where(
                CareAssignment.patient_id == patient_id, CareAssignment.id.in_(things)
            )
        ),
        *session.execute(
            select(BrokenGlass.staff_id).where(
                BrokenGlass.patient_id == patient_id, BrokenGlass.id.in_(things)
            )
        ),
    ]
    return {who for row in rows for who in row}
