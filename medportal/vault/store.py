"""Queries of the vault."""

from collections.abc import Mapping
from typing import Any, cast

from sqlalchemy import CursorResult, Result, select, update
from sqlalchemy.orm import Session

from medportal.db import Base
from medportal.db.dialect import insert_or
from medportal.vault.models import PatientKey


def insert_if_absent(session: Session, model: type[Base], values: Mapping[str, Any]) -> bool:
    """Insert one row unless its primary key is taken; tell whether it was inserted."""
    keys = list(model.__table__.primary_key)
    statement = insert_or(session, model).values(values).on_conflict_do_nothing(index_elements=keys)
    return _rows(session.execute(statement)) == 1


def find_patient_key(session: Session, patient_id: str) -> PatientKey | None:
    """Return the patient's row as the database has it now."""
    statement = select(PatientKey).where(PatientKey.patient_id == patient_id)
    # Rows are changed by compare-and-swap behind the identity map's back.
    return session.scalar(statement.execution_options(populate_existing=True))


def stale_patient_keys(session: Session, current: int, limit: int) -> list[PatientKey]:
    """Return up to ``limit`` living keys that an older tenant key wraps."""
    statement = (
        select(PatientKey)
        .where(PatientKey.tenant_key_version != current, PatientKey.wrapped.is_not(None))
        .order_by(PatientKey.patient_id)
        .limit(limit)
        .execution_options(populate_existing=True)
    )
    return list(session.scalars(statement))


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
