"""The index by which partners' pseudonyms find a patient, one per partner and key.

Every registration updates it in its own transaction (``index_patient``). For a new partner or key
it is built from the registered patients (``begin_index``, ``build_index``); until that is complete
a miss answers ``IndexIncomplete`` and never "unknown".
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import cast

from sqlalchemy import (
    ColumnElement,
    Table,
    bindparam,
    delete,
    func,
    select,
    tuple_,
    update,
)
from sqlalchemy.orm import Session

from medportal.core.errors import MedportalError
from medportal.db.prepared import Prepared, one_of
from medportal.patients.models_index import PartnerIndex, PartnerIndexState
from medportal.patients.pseudonyms import (
    PSEUDONYM_BYTES,
    Demographics,
    MalformedIdentifier,
    PartnerKey,
    check_scheme,
    demographic_tag,
    normal_name,
    normal_number,
    pseudonym,
)

_LOCK = 0x6D70_6978  # "mpix", the advisory lock's number on PostgreSQL.


class PseudonymTaken(MedportalError):
    """An identifier already leads to another patient; merging or moving it must come first."""


@dataclass(frozen=True, slots=True)
class Hit:
    """The patient a pseudonym names, and the tag to compare name and birth date with."""

    patient_id: str
    tag: bytes


@dataclass(frozen=True, slots=True)
class IndexIncomplete:
    """Not found, but the index does not hold every patient yet: answer BUSY."""


def lookup(
    session: Session, partner: str, key_id: str, asked: bytes
) -> Hit | IndexIncomplete | None:
    """Return whom a partner asks for, ``None`` if there is no such patient here.

    Raises ``MalformedIdentifier`` for bytes that cannot be a pseudonym.
    """
    return lookup_all(session, partner, key_id, [asked])[asked]


def lookup_all(
    session: Session, partner: str, key_id: str, asked: Collection[bytes]
) -> dict[bytes, Hit | IndexIncomplete | None]:
    """Return whom a partner asks for, of several pseudonyms under one key; see :func:`lookup`."""
    if any(len(each) != PSEUDONYM_BYTES for each in asked):
        raise MalformedIdentifier("not a pseudonym")
    # Whether the index is complete is read first: the other way round, a build that completes
    # between the two reads could turn a patient into "unknown".
    complete = is_complete(session, partner, key_id)
    of_whom = {"partner": partner, "key_id": key_id, "asked": list(asked)}
    rows = _HITS.rows(session, of_whom)
    hits = {found: Hit(patient_id, tag) for found, patient_id, tag in rows}
    missing = None if complete else IndexIncomplete()
    return {each: hits.get(each, missing) for each in asked}


_INDEX = cast(Table, PartnerIndex.__table__).c
#: Made once: for every question of a partner it would cost more than the look at the index.
_HITS = Prepared(
    select(_INDEX.pseudonym, _INDEX.patient_id, _INDEX.tag).where(
        _INDEX.partner == bindparam("partner"),
        _INDEX.key_id == bindparam("key_id"),
        one_of(_INDEX.pseudonym, "asked"),
    )
)


def is_complete(session: Session, partner: str, key_id: str) -> bool:
    """Tell whether the index for a partner's key holds every patient."""
    return _COMPLETE.scalar(session, {"partner": partner, "key_id": key_id}) is not None


_STATE = cast(Table, PartnerIndexState.__table__).c
_COMPLETE = Prepared(
    select(_STATE.complete_at).where(
        _STATE.partner == bindparam("partner"), _STATE.key_id == bindparam("key_id")
    )
)


def _state_of(partner: str, key_id: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return PartnerIndexState.partner == partner, PartnerIndexState.key_id == key_id


def index_patient(session: Session, keys: Iterable[PartnerKey], patient: Demographics) -> None:
    """Bring every partner's index up to date for a patient registered or changed.

    Call it in the transaction that does so, with the keys of all partners. An index whose key
    is not among them (trusted a moment ago, by another process) stops being complete, so that
    partners hear BUSY and not "unknown" until it is built again.

    Raises ``MalformedIdentifier`` and ``PseudonymTaken``.
    """
    _lock(session, shared=True)
    held = list(keys)
    for key in held:
        _put(session, key, patient)
    _outdate_others(session, held)


def _put(session: Session, key: PartnerKey, patient: Demographics) -> None:
    wanted = {pseudonym(key.key, scheme, number) for scheme, number in patient.identifiers}
    _refuse_taken(session, key, patient.patient_id, wanted)
    _forget(session, key, patient.patient_id)
    if not wanted:
        return
    tag = demographic_tag(key.key, patient.name, patient.birth_date)
    session.add_all(
        PartnerIndex(
            partner=key.partner,
            key_id=key.key_id,
            pseudonym=name,
            patient_id=patient.patient_id,
            tag=tag,
        )
        for name in sorted(wanted)
    )
    # The next patient's check must see these rows, also in a session without autoflush.
    session.flush()


def _refuse_taken(session: Session, key: PartnerKey, patient_id: str, wanted: set[bytes]) -> None:
    taken = session.scalar(
        select(func.count())
        .select_from(PartnerIndex)
        .where(
            PartnerIndex.partner == key.partner,
            PartnerIndex.key_id == key.key_id,
            PartnerIndex.pseudonym.in_(wanted),
            PartnerIndex.patient_id != patient_id,
        )
    )
    if taken:
        raise PseudonymTaken("an identifier leads to another patient")


def _forget(session: Session, key: PartnerKey, patient_id: str) -> None:
    session.execute(
        delete(PartnerIndex)
        .where(
            PartnerIndex.partner == key.partner,
            PartnerIndex.key_id == key.key_id,
            PartnerIndex.patient_id == patient_id,
        )
        .execution_options(synchronize_session="fetch")
    )


def _outdate_others(session: Session, held: Sequence[PartnerKey]) -> None:
    names = [(key.partner, key.key_id) for key in held]
    query = update(PartnerIndexState)
    if names:
        query = query.where(
            tuple_(PartnerIndexState.partner, PartnerIndexState.key_id).not_in(names)
        )
    session.execute(
        query.values(
            complete_at=None, generation=PartnerIndexState.generation + 1
        ).execution_options(synchronize_session=False)
    )


def unindex_patient(session: Session, patient_id: str) -> None:
    """Take a patient out of every partner's index (merged into another, or erased)."""
    _lock(session, shared=True)
    session.execute(
        delete(PartnerIndex)
        .where(PartnerIndex.patient_id == patient_id)
        .execution_options(synchronize_session=False)
    )


# Building an index


@dataclass(frozen=True, slots=True)
class Build:
    """A build under way: of which key, and as of which generation."""

    key: PartnerKey
    generation: int


def begin_index(session: Session, key: PartnerKey) -> Build:
    """Start building the index for a partner's key; commit before the first batch.

    Waits for registrations under way, so that each one either is seen by the build or sees it.
    """
    _lock(session, shared=False)
    state = session.get(PartnerIndexState, (key.partner, key.key_id), populate_existing=True)
    if state is None:
        state = PartnerIndexState(partner=key.partner, key_id=key.key_id, generation=0)
        session.add(state)
    state.complete_at = None
    return Build(key, state.generation)


def build_index(
    session: Session, build: Build, read: Callable[[Session], Iterable[Demographics]]
) -> int:
    """Index one batch of patients, which ``read`` gets; return how many they were.

    ``read`` runs after registrations are locked out, so that a batch cannot overwrite newer
    demographics with older ones. Patients without a usable identifier or name are left out: they
    cannot be asked for.
    """
    _lock(session, shared=False)
    count = 0
    for patient in read(session):
        count += 1
        _put(session, build.key, _usable(patient))
    return count


def _usable(patient: Demographics) -> Demographics:
    identifiers = filter(_is_usable, patient.identifiers) if _is_name(patient.name) else ()
    return replace(patient, identifiers=tuple(identifiers))


def _is_usable(identifier: tuple[str, str]) -> bool:
    scheme, number = identifier
    try:
        check_scheme(scheme)
        normal_number(number)
    except MalformedIdentifier:
        return False
    return True


def _is_name(name: str) -> bool:
    try:
        normal_name(name)
    except MalformedIdentifier:
        return False
    return True


def finish_index(session: Session, build: Build, now: datetime) -> bool:
    """Declare the index complete; return False if it has to be built again.

    That is so if, since ``begin_index``, a patient was changed by a process without this key.
    """
    _lock(session, shared=False)
    finished = session.execute(
        update(PartnerIndexState)
        .where(
            *_state_of(build.key.partner, build.key.key_id),
            PartnerIndexState.generation == build.generation,
        )
        .values(complete_at=now)
        .returning(PartnerIndexState.key_id)
        .execution_options(synchronize_session=False)
    )
    return finished.one_or_none() is not None


def incomplete_indexes(session: Session) -> list[tuple[str, str]]:
    """Return (partner, key id) of every index that has to be built."""
    rows = session.execute(
        select(PartnerIndexState.partner, PartnerIndexState.key_id)
        .where(PartnerIndexState.complete_at.is_(None))
        .order_by(PartnerIndexState.partner, PartnerIndexState.key_id)
    )
    return [(row.partner, row.key_id) for row in rows]


def drop_index(session: Session, partner: str, key_id: str | None = None) -> None:
    """Forget a partner's index, or that of one of its keys (revoked, or rotated away)."""
    for model in (PartnerIndex, PartnerIndexState):
        query = delete(model).where(model.partner == partner)
        if key_id is not None:
            query = query.where(model.key_id == key_id)
        session.execute(query.execution_options(synchronize_session=False))


def _lock(session: Session, *, shared: bool) -> None:
    # SQLite's writing transactions begin IMMEDIATE and are alone anyway.
    if session.get_bind().dialect.name != "postgresql":
        return
    take = func.pg_advisory_xact_lock_shared if shared else func.pg_advisory_xact_lock
    session.execute(select(take(_LOCK)))
