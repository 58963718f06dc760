"""The latest vital signs, for those who may know these and nothing else of a record."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from itertools import islice
from typing import Any

from pyramid.request import Request

from medportal.access.decisions import Decision
from medportal.access.grants import mint
from medportal.access.resources import PatientContext, why_of
from medportal.audit.events import Action, Outcome
from medportal.core.categories import Category
from medportal.core.obligations import Obligation
from medportal.core.permissions import Permission
from medportal.records import catalogue as catalogues
from medportal.records import service, store
from medportal.records.content import RecordStatus
from medportal.records.errors import RecordDamaged
from medportal.records.fhir import Reading
from medportal.records.fhir_write import OBSERVATION_CATEGORIES
from medportal.records.presentation import Row, rows_of

#: How many records are looked into, the newest first: older signs are no news of a patient.
LOOKED_INTO = 12
_SIGNS = OBSERVATION_CATEGORIES[Category.VITAL_SIGNS]


@dataclass(frozen=True, slots=True)
class Vital:
    """One value of a vital sign, and the day of which it is."""

    row: Row
    on: date


@dataclass(frozen=True, slots=True)
class Vitals:
    """The newest value of each vital sign; ``damaged`` if a record could not be trusted."""

    values: tuple[Vital, ...] = ()
    damaged: bool = False


def latest(context: PatientContext, request: Request) -> Vitals:
    """Return the newest value of each vital sign in the records that the person may look into.

    Every record that is opened for it has an event of its own.
    """
    found: dict[str, list[Vital]] = {}
    damaged = False
    for entry, decision in islice(_open_to(context, request), LOOKED_INTO):
        reading = _opened(context, request, entry, decision)
        damaged = damaged or reading is None
        for code, one in _each(reading) if reading else ():
            if code not in found:
                rows = rows_of(request, one, catalogues.load())
                found[code] = [Vital(row, entry.effective_on) for row in rows]
    return Vitals(tuple(vital for values in found.values() for vital in values), damaged)


def _open_to(
    context: PatientContext, request: Request
) -> Iterator[tuple[store.IndexEntry, Decision]]:
    """Give the newest records whose vital signs the person may see now, without more ado."""
    before = None
    while True:
        found = store.timeline(request.db, context.patient_id, before=before)
        for entry in found:
            decision = context.record_decision(store.facts_of(entry))
            # A summary asks nobody for their password: what needs it first is left out.
            if decision.allows(Permission.PATIENT_VITALS) and not decision.demands(
                Permission.PATIENT_VITALS, Obligation.CONFIRM_FIRST
            ):
                yield entry, decision
        if len(found) < store.PAGE:
            return
        before = (found[-1].effective_on, found[-1].id)


def _opened(
    context: PatientContext, request: Request, entry: store.IndexEntry, decision: Decision
) -> Reading | None:
    """Return what is left of a record without anything but vital signs, ``None`` if damaged."""
    grant = mint(
        request.identity,
        decision,
        Permission.PATIENT_VITALS,
        context.patient_id,
        request.now,
        entry.id,
    )
    about: dict[str, Any] = {
        "patient": context.patient_id,
        "object": entry.id,
        **why_of(decision, Permission.PATIENT_VITALS),
    }
    try:
        opened = service.open_record(request.db, request.documents, request.keys, grant, entry)
    except RecordDamaged as error:
        details = {"part": _SIGNS, "damaged": error.code}
        request.audit(Action.RECORD_READ, Outcome.FAILED, **about, details=details)
        return None
    reading = vital_signs_of(opened.reading)
    if reading.shown:
        request.audit(Action.RECORD_READ, **about, details={"part": _SIGNS})
    return reading


def vital_signs_of(reading: Reading) -> Reading:
    """Return a record without anything but its vital signs.

    What is one was signed with the value; of a record that was taken back, nothing is left.
    """
    kept = [
        (one, shown)
        for one, shown in zip(reading.record.observations, reading.shown, strict=True)
        if shown.category == _SIGNS and reading.record.status is not RecordStatus.ENTERED_IN_ERROR
    ]
    record = replace(
        reading.record,
        observations=tuple(one for one, _shown in kept),
        diagnosis=None,
        diagnosis_code=None,
        change_reason=None,
        notes=None,
    )
    return Reading(record, reading.subject, tuple(shown for _one, shown in kept))


def _each(reading: Reading) -> Iterator[tuple[str, Reading]]:
    """Give (code, a record of this one value) of each value."""
    for one, shown in zip(reading.record.observations, reading.shown, strict=True):
        record = replace(reading.record, observations=(one,))
        yield one.code, Reading(record, reading.subject, (shown,))
