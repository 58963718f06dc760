"""What an agreed erasure has to rest on before anything is destroyed.

A row that says "agreed" is one update of one table away. So whoever carries an erasure out looks
for what two people did where neither of them can take it back: the numbered events of the audit
log, which name both, the patient and the moments. Whoever forges those too leaves them in a signed
log that the patient reads.
"""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from medportal.audit.errors import MalformedEvent
from medportal.audit.events import Action, Event, Outcome
from medportal.audit.models import AuditEvent
from medportal.erasure.errors import NotGrounded, NotYetProven


def require_two_people(
    session: Session,
    *,
    erasure_id: str,
    patient_id: str,
    asked: tuple[str, datetime],
    agreed: tuple[str, datetime],
    wait: timedelta,
    now: datetime,
) -> None:
    """Refuse an erasure that the log does not tell of as two people's deed.

    ``asked`` and ``agreed`` are who and when, as the row has it. Raises ``NotYetProven`` for
    events that wait for the sequencer, ``NotGrounded`` for everything else that does not fit.
    """
    if len({asked[0], agreed[0], patient_id}) != 3:
        raise NotGrounded("not two people, or one of them is the patient")
    if agreed[1] < asked[1] + wait:
        raise NotGrounded("agreed to before the patient's time was over")
    if now < agreed[1]:
        # The clock of another machine is a little ahead, or a moment was made up.
        raise NotYetProven("the moment at which it was agreed to has not come")
    numbered = [
        _has_event(session, action, erasure_id, patient_id, who)
        for action, who in ((Action.ERASURE_ASKED, asked), (Action.ERASURE_AGREED, agreed))
    ]
    if not all(numbered):
        raise NotYetProven("the log has not numbered it yet")


def _has_event(
    session: Session, action: Action, erasure_id: str, patient_id: str, who: tuple[str, datetime]
) -> bool:
    """Tell whether the event of this deed has its number; raises ``NotGrounded`` without one."""
    wanted = (action, Outcome.ALLOWED, who[0], who[1], patient_id, erasure_id)
    rows = session.execute(
        select(AuditEvent.body, AuditEvent.sequence)
        .where(AuditEvent.object == erasure_id, AuditEvent.action == str(action))
        .order_by(AuditEvent.at, AuditEvent.id)
    )
    found = [row.sequence is not None for row in rows if _told(row.body) == wanted]
    if not found:
        raise NotGrounded(f"the log has no fitting {action} event")
    return any(found)


def _told(body: bytes) -> tuple[Any, ...]:
    """Return what an event says. The body counts: the columns beside it are for searching."""
    try:
        event = Event.from_bytes(body)
    except MalformedEvent:
        # The verifier of the log tells of it; it proves nothing.
        return ()
    return (event.action, event.outcome, event.actor, event.at, event.patient, event.object)
