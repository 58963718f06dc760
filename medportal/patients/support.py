"""Support needs: how to move a patient, what they eat, what they are allergic to.

The words are sealed under the patient's key. Every change is a version of its own; the newest
counts, and none is overwritten, so that it can be shown who knew what when.
"""

import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import Select, bindparam, func, select
from sqlalchemy.orm import Session

from medportal.core import canonical
from medportal.core.ids import new_id
from medportal.db.reading import rows_of
from medportal.identity.accounts import commitment
from medportal.patients.errors import SupportRefused
from medportal.patients.models import Patient, SupportNeeds
from medportal.vault.errors import VaultError
from medportal.vault.service import Vault

PURPOSE = "support-needs"
SALT_BYTES = 32
#: Characters that each of the texts may have.
LONGEST = 500
#: The least difference between two moments that the database keeps apart.
RESOLUTION = timedelta(microseconds=1)
#: The version of a patient of whom nothing was ever noted.
NONE_YET = ""


@dataclass(frozen=True, slots=True)
class Needs:
    """What those who look after a patient have to know; each may be empty."""

    transport: str = ""
    diet: str = ""
    allergies: str = ""

    def __bool__(self) -> bool:
        """Tell whether anything was noted."""
        return bool(self.transport or self.diet or self.allergies)


@dataclass(frozen=True, slots=True)
class Noted:
    """The support needs that count now: which version, since when, from whom.

    ``damaged``: something is noted, and is not what was written. That must never look as if
    there were no allergy.
    """

    version: str
    needs: Needs
    at: datetime | None
    by: str | None
    damaged: bool = False


@dataclass(frozen=True, slots=True)
class Kept:
    """A version that was written, and the salted commitment for the audit log."""

    version: str
    commitment: str


NOTHING = Noted(NONE_YET, Needs(), None, None)


def current(session: Session, vault: Vault, patient_id: str) -> Noted:
    """Return the support needs that count now.

    The caller has decided who may see which of the texts.
    """
    return current_of(session, vault, [patient_id]).get(patient_id, NOTHING)


def current_of(session: Session, vault: Vault, patient_ids: Collection[str]) -> dict[str, Noted]:
    """Return the support needs that count now of several patients; nothing noted: not there."""
    rows = rows_of(session, _newest(), {"patients": sorted(patient_ids)})
    return {row.patient_id: _noted(session, vault, row) for row in rows}


@cache
def _newest() -> Select[SupportNeeds]:
    newest = (
        select(SupportNeeds.patient_id, func.max(SupportNeeds.at).label("at"))
        .where(SupportNeeds.patient_id.in_(bindparam("patients", expanding=True)))
        .group_by(SupportNeeds.patient_id)
        .subquery()
    )
    same = (SupportNeeds.patient_id == newest.c.patient_id) & (SupportNeeds.at == newest.c.at)
    return select(SupportNeeds).join(newest, same)


def _noted(session: Session, vault: Vault, row: Any) -> Noted:
    try:
        words = canonical.decode(
            vault.open_note(session, row.patient_id, PURPOSE, row.id, row.sealed)
        )
        needs = Needs(words["transport"], words["diet"], words["allergies"])
    except (VaultError, canonical.NotCanonical, KeyError, TypeError):
        return Noted(row.id, Needs(), row.at, row.by, damaged=True)
    return Noted(row.id, needs, row.at, row.by)


def keep(
    session: Session,
    vault: Vault,
    patient_id: str,
    needs: Needs,
    *,
    seen: str,
    by: str | None,
    now: datetime,
) -> Kept | None:
    """Write a new version; return ``None`` where the same stands there already.

    ``seen`` is the version that was looked at. Raises ``SupportRefused`` if another one counts
    now: an allergy that a colleague noted a minute ago must not be lost by saving an old page.
    """
    # Two at once: the second waits here and then sees what the first wrote.
    session.execute(
        select(Patient.person_id).where(Patient.person_id == patient_id).with_for_update()
    )
    before = current(session, vault, patient_id)
    if before.needs == needs and not before.damaged:
        return None
    if before.version != seen:
        raise SupportRefused("changed-meanwhile")
    salt = secrets.token_bytes(SALT_BYTES)
    words = {
        "salt": salt,
        "transport": needs.transport,
        "diet": needs.diet,
        "allergies": needs.allergies,
    }
    version = new_id()
    sealed = vault.seal_note(session, patient_id, PURPOSE, version, canonical.encode(words))
    # Versions of one patient have times of their own, in the order in which they were written,
    # also where a clock was set back: the newest one is found by its time.
    at = now if before.at is None else max(now, before.at + RESOLUTION)
    session.add(SupportNeeds(id=version, patient_id=patient_id, sealed=sealed, at=at, by=by))
    return Kept(version, commitment(salt, "\0".join(_texts(needs))))


def _texts(needs: Needs) -> tuple[str, str, str]:
    return needs.transport, needs.diet, needs.allergies
