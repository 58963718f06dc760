"""The declarative base that every room's tables hang from.

Holds: ``Base`` with the naming convention, the column types, and :mod:`reading`, the short way
from a session to the rows of a statement that another room made; :mod:`prepared`, statements that
are rendered once.
May import: SQLAlchemy and core.
Never does: statements about any table, sessions, engines (those are tenancy's).
"""

from medportal.db.base import Base
from medportal.db.types import Id, UTCDateTime

__all__ = ["Base", "Id", "UTCDateTime"]
