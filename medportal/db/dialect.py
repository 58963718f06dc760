"""The one statement that SQLite and PostgreSQL both have and SQLAlchemy spells twice."""

from typing import Any

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from medportal.db import Base


def insert_or(session: Session, model: type[Base]) -> Any:
    """Return an ``INSERT`` that offers ``on_conflict_do_nothing`` and ``..._do_update``."""
    if session.get_bind().dialect.name == "postgresql":
        return postgresql.insert(model)
    return sqlite.insert(model)
