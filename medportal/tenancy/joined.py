"""Sessions that end with the transaction of a request.

What ``zope.sqlalchemy.register`` does to one session, done once for a class: to register its
seven listeners takes longer than a query, and every request has a session or two. They hear
less, too: a session that reads has nothing to commit, and one that writes always commits, so
nothing needs to look, statement by statement, whether anything was written.
"""

from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.orm import Session
from zope.sqlalchemy.datamanager import (
    STATUS_ACTIVE,
    STATUS_CHANGED,
    ZopeStatus,
    join_transaction,
)

from medportal.tenancy.errors import CommittedAlone


class JoinedSession(Session):
    """A session that joins the transaction of ``manager`` when it begins."""

    #: What becomes of it at the end, in the words of zope.sqlalchemy.
    status: str

    def __init__(self, engine: Engine, manager: Any, **options: Any) -> None:
        super().__init__(engine, **options)
        self.manager = manager


class ReadingSession(JoinedSession):
    """One whose transactions only read: closed at the end."""

    status = STATUS_ACTIVE


class WritingSession(JoinedSession):
    """One whose transactions write: committed with the request's."""

    status = STATUS_CHANGED


def _join(session: JoinedSession, *_of_event: object) -> None:
    join_transaction(session, session.status, session.manager)


def _require_commit_by_manager(session: JoinedSession) -> None:
    """Raise ``CommittedAlone`` unless the transaction of the request is what commits."""
    if session.in_nested_transaction():
        return
    if session.manager.get().status != ZopeStatus.COMMITTING:
        raise CommittedAlone("a session that joined a request is committed with it, never alone")


event.listen(JoinedSession, "after_begin", _join, propagate=True)
# What is added before anything was asked for has begun no transaction of the database yet.
event.listen(JoinedSession, "after_attach", _join, propagate=True)
event.listen(JoinedSession, "before_commit", _require_commit_by_manager, propagate=True)
