"""The declarative base that every room's tables hang from.

Holds: ``Base`` with the naming convention and the column types.
May import: SQLAlchemy and core.
Never does: queries, sessions, engines (those are tenancy's).
"""

from medportal.db.base import Base
from medportal.db.types import Id, UTCDateTime

__all__ = ["Base", "Id", "UTCDateTime"]
