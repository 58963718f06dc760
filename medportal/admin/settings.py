"""Changing what the institution's file leaves to its admins: every change is a new version.

A version holds everything that differs from the file, whole. What an older one said can be
taken back without those between; that makes a new version as well, so nothing is ever lost
and the list says who did what.

Two people may have the same page open. Whoever saves second is refused if the first one
changed the same part of the settings; what others changed elsewhere is kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise

from sqlalchemy.orm import Session

from medportal.admin.errors import SettingsOvertaken, SettingsUnchanged, SettingsUnfit
from medportal.tenancy import store
from medportal.tenancy.effective import overlaid_of
from medportal.tenancy.models import SettingsVersion
from medportal.tenancy.overlay import (
    LOGO,
    Changes,
    Overlaid,
    UnreadableChanges,
    Value,
    apply,
    changed_keys,
    difference,
    load,
    values_of,
)
from medportal.tenancy.tenant import EDITABLE, Tenant
from medportal.web.colour import contrast

PAGE = 20


@dataclass(frozen=True, slots=True)
class Version:
    """One version of the settings: as it was saved, and as it would count today.

    Version 0 is the file alone; nobody made it. ``is_readable`` is false for one that was
    damaged in the database.
    """

    number: int
    changes: Changes
    logo: bytes | None = field(repr=False)
    overlaid: Overlaid
    by: str | None = None
    at: datetime | None = None
    is_readable: bool = True

    @property
    def tenant(self) -> Tenant:
        """Return the institution as this version has it."""
        return self.overlaid.tenant


@dataclass(frozen=True, slots=True)
class Line:
    """One version in the list: what it changed of the one before, table -> keys."""

    number: int
    by: str | None
    at: datetime | None
    keys: Mapping[str, list[str]]


@dataclass(frozen=True, slots=True)
class Saved:
    """What came of a change: the number of the new version, and its keys by table."""

    version: int
    keys: Mapping[str, list[str]]


def editable_parts(file: Tenant) -> tuple[str, ...]:
    """Return the parts that are edited on pages: what the file leaves to admins, where there is
    anything stricter than the file to choose.
    """
    fixed = {"second_factor"} if file.second_factor.remote_staff else set()
    return tuple(part for part in EDITABLE if part in file.editable - fixed)


def newest(session: Session, file: Tenant) -> Version:
    """Return the version that counts."""
    return _version(file, store.newest(session))


def find(session: Session, file: Tenant, number: int) -> Version | None:
    """Return one version, 0 for the file alone; ``None`` if there is none of that number."""
    if number == store.NONE:
        return _version(file, None)
    row = store.find(session, number)
    return None if row is None else _version(file, row)


def history(session: Session, file: Tenant, before: int | None = None) -> tuple[list[Line], bool]:
    """Return a page of versions, newest first, and whether there are older ones."""
    rows = store.versions_before(session, before, PAGE + 1)
    versions = [*(_version(file, row) for row in rows), _version(file, None)]
    lines = [
        Line(after.number, after.by, after.at, keys_between(earlier, after))
        for after, earlier in pairwise(versions)
    ]
    return lines[:PAGE], len(rows) > PAGE


def version_before(session: Session, file: Tenant, version: Version) -> Version:
    """Return the version that counted before another one."""
    rows = store.versions_before(session, version.number, 1)
    return _version(file, rows[0] if rows else None)


def keys_between(earlier: Version, later: Version) -> dict[str, list[str]]:
    """Return the keys, by table, in which two versions differ."""
    keys = changed_keys(earlier.changes, later.changes)
    if earlier.logo != later.logo:
        keys[LOGO] = [LOGO]
    return keys


def save_table(
    session: Session,
    file: Tenant,
    table: str,
    values: Mapping[str, Value],
    *,
    seen: int,
    by: str,
    now: datetime,
) -> Saved:
    """Save the values of one table; ``seen`` is the version that the person looked at.

    Raises ``SettingsOvertaken``, ``SettingsUnfit`` or ``SettingsUnchanged``.
    """
    current = newest(session, file)
    _require_untouched(session, file, current, seen, table)
    wanted = {**values_of(current.tenant), table: values}
    return _add(session, file, current, wanted, current.tenant.logo, by, now)


def save_logo(
    session: Session, file: Tenant, logo: bytes | None, *, seen: int, by: str, now: datetime
) -> Saved:
    """Save a picture, or with ``None`` the built-in symbol in its place.

    Raises ``SettingsOvertaken``, ``SettingsUnfit`` or ``SettingsUnchanged``.
    """
    current = newest(session, file)
    _require_untouched(session, file, current, seen, LOGO)
    return _add(session, file, current, values_of(current.tenant), logo, by, now)


def take_back(
    session: Session, file: Tenant, number: int, *, seen: int, by: str, now: datetime
) -> Saved | None:
    """Make what an older version said count again, as far as the file still allows it.

    Returns ``None`` if there is no such version. Raises ``SettingsOvertaken`` or
    ``SettingsUnchanged``.
    """
    current = newest(session, file)
    if current.number != seen:
        raise SettingsOvertaken(current.number)
    wanted = find(session, file, number)
    if wanted is None:
        return None
    return _add(session, file, current, values_of(wanted.tenant), wanted.tenant.logo, by, now)


def _add(
    session: Session,
    file: Tenant,
    current: Version,
    wanted: Changes,
    logo: bytes | None,
    by: str,
    now: datetime,
) -> Saved:
    changes = difference(file, wanted)
    problems = apply(file, changes, logo, contrast).left_out
    if problems:
        raise SettingsUnfit(problems)
    saved = Version(current.number + 1, changes, logo, Overlaid(file))
    keys = keys_between(current, saved)
    # One that cannot be read is replaced by whatever somebody saves, even by nothing.
    if not keys and current.is_readable:
        raise SettingsUnchanged
    store.add(session, saved.number, changes, logo, by=by, at=now)
    return Saved(saved.number, keys)


def _require_untouched(
    session: Session, file: Tenant, current: Version, seen: int, table: str
) -> None:
    """Raise ``SettingsOvertaken`` if a part of the settings is not what somebody looked at."""
    if seen == current.number:
        return
    looked_at = find(session, file, seen)
    if looked_at is None or table in keys_between(looked_at, current):
        raise SettingsOvertaken(current.number)


def _version(file: Tenant, row: SettingsVersion | None) -> Version:
    if row is None:
        return Version(store.NONE, {}, None, Overlaid(file))
    overlaid = overlaid_of(file, row.changes, row.logo)
    try:
        changes, is_readable = load(row.changes), True
    except UnreadableChanges:
        changes, is_readable = {}, False
    return Version(row.version, changes, row.logo, overlaid, row.by, row.at, is_readable)
