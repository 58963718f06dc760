"""Queries of the vault."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, cast

from sqlalchemy import CursorResult, Result, Select, bindparam, func, select, text, update
from sqlalchemy.orm import Session

from medportal.db import Base
from medportal.db.dialect import insert_or
from medportal.db.reading import rows_of, table
from medportal.vault.keyring import WrappedKey
from medportal.vault.models import PatientKey

#: The version of the tenant key that wraps a key which was destroyed before it was made.
NO_VERSION = 0
#: How many patients one query asks for.
MANY = 500


def insert_if_absent(session: Session, model: type[Base], values: Mapping[str, Any]) -> bool:
    """Insert one row unless its primary key is taken; tell whether it was inserted."""
    keys = list(model.__table__.primary_key)
    statement = insert_or(session, model).values(values).on_conflict_do_nothing(index_elements=keys)
    # For an insert a driver may leave the number of rows out, unless it is asked for.
    options = {"preserve_rowcount": True}
    return _rows(session.execute(statement, execution_options=options)) == 1


def insert_those_absent(
    session: Session, model: type[Base], rows: Sequence[Mapping[str, Any]]
) -> int:
    """Insert those rows whose primary keys are free; return how many, or -1 if nobody knows."""
    keys = list(model.__table__.primary_key)
    statement = insert_or(session, model).on_conflict_do_nothing(index_elements=keys)
    # On the connection: the driver is given all rows at once, and says how many it inserted.
    options = {"preserve_rowcount": True}
    return _rows(
        session.connection().execute(
            statement, [dict(row) for row in rows], execution_options=options
        )
    )


def find_patient_key(session: Session, patient_id: str) -> Any | None:
    """Return the columns of the patient's row as the database has it now."""
    # No object: rows are changed by compare-and-swap behind the identity map's back.
    return next(iter(rows_of(session, _one_key(), {"patient": patient_id})), None)


@cache
def _one_key() -> Select[*tuple[Any, ...]]:
    one = table(PatientKey)
    return select(one).where(one.c.patient_id == bindparam("patient"))


def find_patient_keys(session: Session, patient_ids: Iterable[str]) -> dict[str, PatientKey]:
    """Return the rows of many patients as the database has them now, by patient."""
    found: dict[str, PatientKey] = {}
    wanted = sorted(set(patient_ids))
    for at in range(0, len(wanted), MANY):
        rows = session.scalars(_some_keys(), {"patients": wanted[at : at + MANY]})
        found.update((row.patient_id, row) for row in rows)
    return found


@cache
def _some_keys() -> Select[PatientKey]:
    among = PatientKey.patient_id.in_(bindparam("patients", expanding=True))
    return select(PatientKey).where(among).execution_options(populate_existing=True)


def hold_patient_key(session: Session, patient_id: str) -> PatientKey | None:
    """Return the patient's row and hold it until the transaction ends, shared with others.

    Whoever seals holds it: a new key for this patient, or none, waits until what was sealed under
    this one is committed. SQLite has one writer at a time, who needs no lock of a row.
    """
    statement = select(PatientKey).where(PatientKey.patient_id == patient_id)
    statement = statement.with_for_update(read=True).execution_options(populate_existing=True)
    return session.scalar(statement)


def take_patient_key(session: Session, patient_id: str) -> PatientKey | None:
    """Return the patient's row, for this transaction alone: nobody seals under it meanwhile."""
    statement = select(PatientKey).where(PatientKey.patient_id == patient_id)
    statement = statement.with_for_update().execution_options(populate_existing=True)
    return session.scalar(statement)


def destroy_patient_key(session: Session, patient_id: str, now: datetime) -> bool:
    """Destroy a patient's key for good; return whether there was a living one.

    Where there was never one, a destroyed one is noted: none is made later.
    """
    row = take_patient_key(session, patient_id)
    if row is None:
        values = {
            "patient_id": patient_id,
            "tenant_key_version": NO_VERSION,
            "wrapped": None,
            "created_at": now,
            "destroyed_at": now,
        }
        if insert_if_absent(session, PatientKey, values):
            return False
        # Somebody made one in this moment: it is there now, committed.
        row = take_patient_key(session, patient_id)
    if row is None or row.wrapped is None:
        return False
    return swap_patient_key(
        session, patient_id, row.wrapped, {"wrapped": None, "destroyed_at": now}
    )


def stale_patient_keys(
    session: Session, current: int, limit: int, after: str = ""
) -> list[tuple[str, WrappedKey]]:
    """Return, and take, up to ``limit`` living keys that an older tenant key wraps, by patient."""
    statement = (
        select(PatientKey.patient_id, PatientKey.tenant_key_version, PatientKey.wrapped)
        .where(
            PatientKey.tenant_key_version != current,
            PatientKey.wrapped.is_not(None),
            PatientKey.patient_id > after,
        )
        .order_by(PatientKey.patient_id)
        .limit(limit)
        # Rows that somebody holds are left for the next time: nobody waits for anybody in a
        # circle.
        .with_for_update(skip_locked=True)
    )
    rows = session.execute(statement)
    return [(row.patient_id, WrappedKey(row.tenant_key_version, row.wrapped)) for row in rows]


def stale_patients(session: Session, newest_stale: int, limit: int, after: str) -> list[str]:
    """Return up to ``limit`` patients with living keys under these versions of the tenant key."""
    statement = (
        select(PatientKey.patient_id)
        .where(
            PatientKey.tenant_key_version <= newest_stale,
            PatientKey.wrapped.is_not(None),
            PatientKey.patient_id > after,
        )
        .order_by(PatientKey.patient_id)
        .limit(limit)
    )
    return list(session.scalars(statement))


def count_stale(session: Session, current: int) -> int:
    """Return how many living patient keys an older version of the tenant key wraps."""
    found = count_by_version(session)
    return sum(number for version, number in found.items() if version != current)


def count_by_version(session: Session) -> dict[int, int]:
    """Return how many living patient keys each version of the tenant key wraps."""
    statement = (
        select(PatientKey.tenant_key_version, func.count())
        .where(PatientKey.wrapped.is_not(None))
        .group_by(PatientKey.tenant_key_version)
        .order_by(PatientKey.tenant_key_version)
    )
    return {row[0]: row[1] for row in session.execute(statement)}


def ages(session: Session) -> tuple[datetime | None, datetime | None, int]:
    """Return when the oldest and the newest living patient key was made, and how many are gone."""
    oldest, newest = session.execute(
        select(func.min(PatientKey.created_at), func.max(PatientKey.created_at)).where(
            PatientKey.wrapped.is_not(None)
        )
    ).one()
    gone = select(func.count()).select_from(PatientKey).where(PatientKey.wrapped.is_(None))
    return oldest, newest, session.scalar(gone) or 0


def settle_patient_keys(session: Session) -> None:
    """Wait until every transaction that made or changed a patient key has ended.

    Until the caller's own ends, nobody begins another; reading goes on. SQLite has one writer at
    a time: there it is the caller.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("LOCK TABLE patient_key IN SHARE ROW EXCLUSIVE MODE"))


def swap_many(session: Session, changes: Sequence[tuple[str, bytes, WrappedKey]]) -> None:
    """Change each row that still holds the bytes given: patient, those bytes, the new key."""
    if not changes:
        return
    table = PatientKey.__table__
    statement = (
        update(PatientKey)
        .where(table.c.patient_id == bindparam("whose"), table.c.wrapped == bindparam("expected"))
        .values(wrapped=bindparam("fresh"), tenant_key_version=bindparam("version"))
    )
    rows = [
        {"whose": patient_id, "expected": old, "fresh": new.wrapped, "version": new.version}
        for patient_id, old, new in changes
    ]
    # On the connection: the session would take this for a bulk update by primary key.
    session.connection().execute(statement, rows)


def swap_patient_key(
    session: Session, patient_id: str, expected: bytes, values: Mapping[str, Any]
) -> bool:
    """Change a row only if it still holds ``expected``; tell whether it did."""
    statement = (
        update(PatientKey)
        .where(PatientKey.patient_id == patient_id, PatientKey.wrapped == expected)
        .values(values)
        .execution_options(synchronize_session=False)
    )
    return _rows(session.execute(statement)) == 1


def _rows(result: Result[Any]) -> int:
    # Statements that change rows give a cursor result, whatever Session.execute declares.
    return cast("CursorResult[Any]", result).rowcount
