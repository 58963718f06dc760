"""Use-cases of patients: register, place, name who gets results, find, list."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from typing import Any

from sqlalchemy import Select, bindparam, select, tuple_
from sqlalchemy.orm import Session

from medportal.db.reading import rows_of
from medportal.identity.accounts import begin_anew, lock
from medportal.identity.errors import NotTheSamePerson
from medportal.identity.models import Person, PersonIdentifier
from medportal.identity.people import (
    Profile,
    find_person,
    register_person,
    replace_contact,
    require_same_person,
    roles_of,
)
from medportal.patients.admissions import Place, begin_with, is_taken, lock_beds
from medportal.patients.errors import AlreadyRegistered, RegistrationRefused
from medportal.patients.models import Destination, Patient, PatientStatus
from medportal.patients.partner_index import Build, build_index, index_patient
from medportal.patients.pseudonyms import Demographics, PartnerKey
from medportal.tenancy.tenant import PATIENT_ROLE

PAGE = 25


@dataclass(frozen=True, slots=True)
class Registration:
    """What a clerk enters to register a patient."""

    scheme: str
    number: str
    profile: Profile
    ward: str = ""
    bed: str = ""
    destinations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PatientCard:
    """A patient as lists show them."""

    id: str
    name: str
    birth_date: date
    ward: str
    bed: str


@dataclass(frozen=True, slots=True)
class PatientDetails:
    """A patient's registration data."""

    id: str
    name: str
    birth_date: date
    sex: str
    email: str
    phone: str
    city: str
    scheme: str
    number: str
    ward: str
    bed: str
    status: str
    destinations: tuple[str, ...]


def register_patient(
    session: Session,
    registration: Registration,
    keys: Iterable[PartnerKey],
    *,
    by: str | None,
    now: datetime,
    vouching_roles: Collection[str] = (),
) -> tuple[str, bool]:
    """Register somebody as a patient, index them for every partner, all in one transaction.

    Returns the patient's id and whether the person was new here. Raises
    ``AlreadyRegistered``; of a person known in another role nothing is changed but the role.
    Their account begins anew, unless they hold one of ``vouching_roles``: until now it opened
    no record, and one administrator alone may have set it up (see ``identity.powers``), with
    a mailbox and a phone of their own. So those are replaced by what was typed now.
    Raises ``RegistrationRefused`` for oneself, where the number is that of somebody with
    another name or date of birth (a slip of the keyboard must not make the wrong one a
    patient), and for a bed in which somebody lies.
    """
    place = Place(registration.ward, registration.bed)
    known = find_person(session, registration.scheme, registration.number)
    if known is not None and session.get(Patient, known) is not None:
        raise AlreadyRegistered(known)
    if known is not None:
        _check_known(session, known, registration.profile, by)
    _require_free(session, place)
    if known is not None:
        # What an administrator does to the account at this moment comes before, or after.
        lock(session, known)
        if roles_of(session, known).isdisjoint(vouching_roles):
            begin_anew(session, known, now, by)
            profile = registration.profile
            replace_contact(session, known, profile.email, profile.phone, now)
    person = register_person(
        session,
        scheme=registration.scheme,
        number=registration.number,
        profile=registration.profile,
        role=PATIENT_ROLE,
        by=by,
        now=now,
    )
    session.add(
        Patient(
            person_id=person.person_id,
            status=PatientStatus.ACTIVE,
            ward="",
            bed="",
            registered_at=now,
            registered_by=by,
        )
    )
    # The rows below refer to the patient, and foreign keys are checked at each statement.
    session.flush()
    begin_with(session, person.person_id, place, by=by, now=now)
    session.add_all(
        Destination(patient_id=person.person_id, partner=partner, named_at=now, named_by=by)
        for partner in registration.destinations
    )
    index_patient(session, keys, demographics(session, person.person_id))
    return person.person_id, person.created


def _require_free(session: Session, place: Place) -> None:
    if not place.bed:
        return
    if not place.ward:
        raise RegistrationRefused("bed-without-ward")
    lock_beds(session)
    if is_taken(session, place):
        raise RegistrationRefused("bed-taken")


def _check_known(session: Session, known: str, profile: Profile, by: str | None) -> None:
    if known == by:
        raise RegistrationRefused("oneself")
    try:
        require_same_person(session, known, profile)
    except NotTheSamePerson as error:
        raise RegistrationRefused("somebody-else") from error


def demographics(session: Session, patient_id: str) -> Demographics:
    """Return what partners find and compare a patient by."""
    return next(iter(_demographics(session, [patient_id])))


def _demographics(session: Session, patient_ids: Sequence[str]) -> list[Demographics]:
    people = {
        row.id: row
        for row in session.execute(
            select(Person.id, Person.name, Person.birth_date).where(Person.id.in_(patient_ids))
        )
    }
    numbers: dict[str, list[tuple[str, str]]] = {patient_id: [] for patient_id in people}
    for row in session.execute(
        select(PersonIdentifier.person_id, PersonIdentifier.scheme, PersonIdentifier.value).where(
            PersonIdentifier.person_id.in_(patient_ids)
        )
    ):
        numbers[row.person_id].append((row.scheme, row.value))
    return [
        Demographics(i, tuple(numbers[i]), people[i].name, people[i].birth_date)
        for i in patient_ids
        if i in people
    ]


def build_partner_index(session: Session, build: Build, after: str, limit: int = 500) -> str | None:
    """Index the next patients by id after ``after``; return the last one's id, or ``None``."""
    ids: list[str] = []

    def read(reader: Session) -> list[Demographics]:
        ids.extend(
            reader.scalars(
                select(Patient.person_id)
                .where(Patient.person_id > after)
                .order_by(Patient.person_id)
                .limit(limit)
            )
        )
        return _demographics(reader, ids)

    build_index(session, build, read)
    return ids[-1] if ids else None


def details(session: Session, patient_id: str, scheme: str) -> PatientDetails:
    """Return a patient's registration data; the caller has decided who may see what of it."""
    (row,) = rows_of(session, _details(), {"patient": patient_id, "scheme": scheme})
    return PatientDetails(
        id=patient_id,
        name=row.name,
        birth_date=row.birth_date,
        sex=row.sex,
        email=row.email,
        phone=row.phone,
        city=row.city,
        scheme=scheme,
        number=row.number or "",
        ward=row.ward,
        bed=row.bed,
        status=row.status,
        destinations=destinations(session, patient_id),
    )


@cache
def _details() -> Select[*tuple[Any, ...]]:
    number = (
        select(PersonIdentifier.value)
        .where(
            PersonIdentifier.person_id == Person.id, PersonIdentifier.scheme == bindparam("scheme")
        )
        .limit(1)
        .scalar_subquery()
    )
    return (
        select(
            Person.name,
            Person.birth_date,
            Person.sex,
            Person.email,
            Person.phone,
            Person.city,
            Patient.ward,
            Patient.bed,
            Patient.status,
            number.label("number"),
        )
        .join(Patient, Patient.person_id == Person.id)
        .where(Patient.person_id == bindparam("patient"))
    )


def destinations(session: Session, patient_id: str) -> tuple[str, ...]:
    """Return the partners named to receive a patient's results."""
    return tuple(
        partner for (partner,) in rows_of(session, _destinations(), {"patient": patient_id})
    )


@cache
def _destinations() -> Select[str]:
    return (
        select(Destination.partner)
        .where(Destination.patient_id == bindparam("patient"))
        .order_by(Destination.partner)
    )


def find_patient(session: Session, scheme: str, number: str) -> str | None:
    """Return the id of the patient with exactly this number, or ``None``."""
    return session.scalar(
        select(Patient.person_id)
        .join(PersonIdentifier, PersonIdentifier.person_id == Patient.person_id)
        .where(PersonIdentifier.scheme == scheme, PersonIdentifier.value == number)
    )


def list_patients(
    session: Session,
    *,
    among: Select[str] | None,
    after: tuple[str, str] | None,
    limit: int = PAGE,
) -> list[PatientCard]:
    """Return patients by name, paged by key.

    ``among`` is a query of patient ids to keep to (``None``: everybody); ``after`` is the
    (name, id) of the last one on the page before.
    """
    query = select(Person.id, Person.name, Person.birth_date, Patient.ward, Patient.bed).join(
        Patient, Patient.person_id == Person.id
    )
    if among is not None:
        query = query.where(Person.id.in_(among))
    if after is not None:
        query = query.where(tuple_(Person.name, Person.id) > after)
    rows = session.execute(query.order_by(Person.name, Person.id).limit(limit))
    return [PatientCard(r.id, r.name, r.birth_date, r.ward, r.bed) for r in rows]


def list_key(
    session: Session, patient_id: str, among: Select[str] | None
) -> tuple[str, str] | None:
    """Return the key (name, id) by which lists are ordered, for a patient of the list."""
    query = (
        select(Person.name)
        .join(Patient, Patient.person_id == Person.id)
        .where(Person.id == patient_id)
    )
    if among is not None:
        query = query.where(Person.id.in_(among))
    name = session.scalar(query)
    return None if name is None else (name, patient_id)
