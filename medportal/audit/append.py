"""Writing an event, in the transaction of what it tells of."""

from collections.abc import Iterable
from typing import cast

from sqlalchemy import Table, bindparam, insert
from sqlalchemy.orm import Session

from medportal.audit.events import Event
from medportal.audit.models import AuditEvent
from medportal.db.prepared import Prepared

_NAMES = ("id", "at", "action", "outcome", "actor", "patient", "object", "body")
#: Into the table itself: an event is no object that a session has to know.
_INSERT = Prepared(
    insert(cast(Table, AuditEvent.__table__)).values({name: bindparam(name) for name in _NAMES})
)


def append(session: Session, event: Event) -> None:
    """Insert the event now; it commits or vanishes with the caller's transaction.

    The column for its number is not named: on PostgreSQL none but the sequencer may fill it in.
    """
    _INSERT.run(session, _row(event))


def append_all(session: Session, events: Iterable[Event]) -> None:
    """Insert several events now, in one statement; see :func:`append`."""
    _INSERT.run_all(session, [_row(event) for event in events])


def _row(event: Event) -> dict[str, object]:
    return {
        "id": event.id,
        "at": event.at,
        "action": str(event.action),
        "outcome": str(event.outcome),
        "actor": event.actor,
        "patient": event.patient,
        "object": event.object,
        "body": event.to_bytes(),
    }
