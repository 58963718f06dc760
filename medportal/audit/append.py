"""Writing an event, in the transaction of what it tells of."""

from sqlalchemy import insert
from sqlalchemy.orm import Session

from medportal.audit.events import Event
from medportal.audit.models import AuditEvent


def append(session: Session, event: Event) -> None:
    """Insert the event now; it commits or vanishes with the caller's transaction.

    The column for its number is not named: on PostgreSQL none but the sequencer may fill it in.
    """
    session.execute(
        insert(AuditEvent).values(
            id=event.id,
            at=event.at,
            action=str(event.action),
            outcome=str(event.outcome),
            actor=event.actor,
            patient=event.patient,
            object=event.object,
            body=event.to_bytes(),
        )
    )
