"""Registration data, corrected: name, number, contact, who gets results, whether they live.

By name, number and date of birth partners find a patient and compare them: a change of these
brings every partner's index up to date in the same transaction. The email address is not
changed here: it opens the account.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import date, datetime

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from medportal.core import canonical
from medportal.core.ids import new_id
from medportal.identity.accounts import lock
from medportal.identity.models import Person, PersonIdentifier
from medportal.identity.notices import notify
from medportal.identity.people import find_person, roles_of
from medportal.identity.powers import is_staff
from medportal.mail.kinds import MailKind
from medportal.patients.errors import DetailsRefused
from medportal.patients.models import Destination, Patient
from medportal.patients.partner_index import PseudonymTaken, index_patient
from medportal.patients.pseudonyms import PartnerKey
from medportal.patients.service import demographics, details

#: What somebody is found and compared by.
WHO = frozenset({"number", "name", "birth_date"})
#: What the patient is told of by mail when the desk changes it.
TOLD = WHO | {"destinations"}


@dataclass(frozen=True, slots=True)
class Details:
    """A patient's registration data, as the desk keeps them."""

    number: str
    name: str
    birth_date: date
    sex: str
    city: str
    phone: str
    language: str
    status: str
    destinations: tuple[str, ...]

    def differs_in(self, other: "Details") -> frozenset[str]:
        """Return the names of the fields that are not the same."""
        return frozenset(
            field.name
            for field in fields(self)
            if getattr(self, field.name) != getattr(other, field.name)
        )

    @property
    def digest(self) -> str:
        """Return a hash that changes with any of them: what a form was filled with."""
        plain = [str(getattr(self, f.name)) for f in fields(self) if f.name != "destinations"]
        encoded = canonical.encode([*plain, list(self.destinations)])
        return hashlib.sha256(encoded).hexdigest()


def read(session: Session, patient_id: str, scheme: str) -> Details:
    """Return a patient's registration data as they are now."""
    found = details(session, patient_id, scheme)
    language = session.scalar(select(Person.language).where(Person.id == patient_id))
    return Details(
        found.number,
        found.name,
        found.birth_date,
        found.sex,
        found.city,
        found.phone,
        language or "",
        found.status,
        found.destinations,
    )


def change(
    session: Session,
    patient_id: str,
    wanted: Details,
    keys: Iterable[PartnerKey],
    *,
    scheme: str,
    seen: str,
    by: str | None,
    now: datetime,
) -> frozenset[str]:
    """Change a patient's registration data; return the names of what has changed.

    ``seen`` is the digest of what was looked at. Raises ``DetailsRefused``: somebody else
    changed them meanwhile, the number is another person's, or the patient works here too, and
    then who they are is not the desk's to change alone.
    """
    lock(session, patient_id)
    before = read(session, patient_id, scheme)
    changed = wanted.differs_in(before)
    if not changed:
        return changed
    if before.digest != seen:
        raise DetailsRefused("changed-meanwhile")
    _require_allowed(session, patient_id, wanted, changed, scheme)
    # A refusal below leaves nothing of it behind.
    with session.begin_nested():
        _write(session, patient_id, wanted)
        if "number" in changed:
            _renumber(session, patient_id, scheme, wanted.number)
        if "destinations" in changed:
            _name(session, patient_id, before.destinations, wanted.destinations, by, now)
        if changed & WHO:
            _index(session, patient_id, keys)
    if changed & TOLD:
        notify(session, patient_id, MailKind.DETAILS_CHANGED, now)
    return changed


def _require_allowed(
    session: Session, patient_id: str, wanted: Details, changed: frozenset[str], scheme: str
) -> None:
    if changed & WHO and is_staff(roles_of(session, patient_id)):
        raise DetailsRefused("works-here")
    if "number" in changed and find_person(session, scheme, wanted.number) is not None:
        raise DetailsRefused("number-taken")


def _write(session: Session, patient_id: str, wanted: Details) -> None:
    session.execute(
        update(Person)
        .where(Person.id == patient_id)
        .values(
            name=wanted.name,
            birth_date=wanted.birth_date,
            sex=wanted.sex,
            city=wanted.city,
            phone=wanted.phone,
            language=wanted.language,
        )
    )
    session.execute(
        update(Patient).where(Patient.person_id == patient_id).values(status=wanted.status)
    )


def _renumber(session: Session, patient_id: str, scheme: str, number: str) -> None:
    changed = session.execute(
        update(PersonIdentifier)
        .where(PersonIdentifier.person_id == patient_id, PersonIdentifier.scheme == scheme)
        .values(value=number)
        .returning(PersonIdentifier.id)
    )
    # A newborn, or somebody who came unconscious, had no number until now.
    if changed.first() is None:
        session.add(
            PersonIdentifier(id=new_id(), person_id=patient_id, scheme=scheme, value=number)
        )
        # What partners find the patient by is read from the database below.
        session.flush()


def _name(
    session: Session,
    patient_id: str,
    before: tuple[str, ...],
    wanted: tuple[str, ...],
    by: str | None,
    now: datetime,
) -> None:
    session.execute(
        delete(Destination).where(
            Destination.patient_id == patient_id, Destination.partner.not_in(wanted)
        )
    )
    session.add_all(
        Destination(patient_id=patient_id, partner=partner, named_at=now, named_by=by)
        for partner in wanted
        if partner not in before
    )


def _index(session: Session, patient_id: str, keys: Iterable[PartnerKey]) -> None:
    try:
        index_patient(session, keys, demographics(session, patient_id))
    except PseudonymTaken as error:
        raise DetailsRefused("number-taken") from error
