"""Reading columns of tables, past what the ORM does for objects.

A page asks a dozen questions, and the ORM's way to an answer of plain columns takes longer than
the database does. Statements for this are made of tables (:func:`table`), once.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from sqlalchemy import Executable, Row, Table
from sqlalchemy.orm import Session

from medportal.db.base import Base


def table(model: type[Base]) -> Table:
    """Return the table of a model."""
    return cast(Table, model.__table__)


def rows_of(
    session: Session, statement: Executable, asked: Mapping[str, Any]
) -> Sequence[Row[*tuple[Any, ...]]]:
    """Return all rows, in the session's transaction, after what waits in it was written."""
    if session.autoflush:
        session.flush()
    return session.connection().execute(statement, asked).all()
