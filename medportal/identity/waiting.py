"""Ending what waits for a second person, where the account it is about has changed."""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, case, update
from sqlalchemy.orm import Session

from medportal.audit.append import append
from medportal.audit.events import COMMAND_LINE, Action, Event
from medportal.core.reasons import Reason
from medportal.identity.models_approvals import Approval, ApprovalKind, ApprovalState


def waits(now: datetime) -> ColumnElement[bool]:
    """Return the condition under which a request can still be decided."""
    return and_(Approval.state == ApprovalState.WAITING, Approval.expires_at > now)


def kept_value() -> Any:
    """Return what is kept of a request that waits no longer: an address is personal."""
    is_address = Approval.kind == ApprovalKind.CHANGE_EMAIL
    return case((is_address, ""), else_=Approval.value)


def withdraw_about(
    session: Session,
    person_id: str,
    by: str | None,
    now: datetime,
    kinds: Collection[ApprovalKind] = tuple(ApprovalKind),
) -> None:
    """Withdraw what waits about somebody, with an audit event each.

    ``by`` is whoever did what made it senseless; ``None`` for the command line.
    """
    gone = session.execute(
        update(Approval)
        .where(Approval.person_id == person_id, Approval.kind.in_(kinds), waits(now))
        .values(state=ApprovalState.WITHDRAWN, decided_by=by, decided_at=now, value=kept_value())
        .returning(Approval.id, Approval.kind)
    ).all()
    for row in gone:
        event = Event.create(
            Action.APPROVAL_WITHDRAWN,
            now=now,
            actor=by or COMMAND_LINE,
            object=person_id,
            reasons=[Reason.OVERTAKEN],
            details={"approval": row.id, "kind": row.kind},
        )
        append(session, event)
