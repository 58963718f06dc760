"""A connection to PostgreSQL that keeps its prepared statements when a reading transaction ends.

The driver prepares a statement that it has seen a few times, so that the server reads and plans it
once a connection instead of once a page; but it forgets all of them at each ROLLBACK, since what
was rolled back may have changed tables. A transaction that may only read has changed nothing, and
every page ends one: it is ended by COMMIT, which forgets nothing. That is the same to it as long as
no reader leaves anything behind that only ROLLBACK takes back: SET, LISTEN, temporary tables.

Prepared statements outlive transactions now: ``docs/operations.md`` says what a pooler must do.
"""

from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import Engine, event


class PlanKeeping(psycopg.Connection[Any]):
    """A connection that ends reading transactions by COMMIT, also when it is told to roll back."""

    def rollback(self) -> None:
        """Roll back; a transaction that only reads, and in which nothing failed, commits."""
        if self.read_only and self.info.transaction_status is TransactionStatus.INTRANS:
            self.commit()
        else:
            super().rollback()


def keep_plans(engine: Engine) -> None:
    """Make every connection of an engine a :class:`PlanKeeping` one."""
    event.listen(engine, "do_connect", _connect)


def _connect(_dialect: Any, _record: Any, arguments: Any, options: Any) -> PlanKeeping:
    return PlanKeeping.connect(*arguments, **options)
