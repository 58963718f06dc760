"""Versions of an institution's edited settings, as its database keeps them."""

from datetime import datetime

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from medportal.tenancy.models import SettingsVersion
from medportal.tenancy.overlay import Changes, dump

#: Before the first change: nothing differs from the file.
NONE = 0


def newest_mark(session: Session) -> tuple[int, datetime] | None:
    """Return number and time of the version that counts; ``None`` before the first."""
    row = session.execute(
        select(SettingsVersion.version, SettingsVersion.at)
        .order_by(SettingsVersion.version.desc())
        .limit(1)
    ).one_or_none()
    return None if row is None else (row.version, row.at)


def newest(session: Session) -> SettingsVersion | None:
    """Return the version that counts; ``None`` before the first."""
    return session.scalars(
        select(SettingsVersion).order_by(SettingsVersion.version.desc()).limit(1)
    ).one_or_none()


def find(session: Session, version: int) -> SettingsVersion | None:
    """Return one version."""
    return session.get(SettingsVersion, version)


def versions_before(session: Session, before: int | None, limit: int) -> list[SettingsVersion]:
    """Return versions, newest first, that are older than the one given, if one is."""
    query = select(SettingsVersion).order_by(SettingsVersion.version.desc()).limit(limit)
    if before is not None:
        query = query.where(SettingsVersion.version < before)
    return list(session.scalars(query))


def add(
    session: Session, version: int, changes: Changes, logo: bytes | None, *, by: str, at: datetime
) -> None:
    """Add a version; raises ``IntegrityError`` if somebody else added that one meanwhile."""
    session.execute(
        insert(SettingsVersion).values(
            version=version, changes=dump(changes), logo=logo, by=by, at=at
        )
    )
