"""Registration data, corrected: name, number, contact, who gets results, whether they live.

By name, number and date of birth partners find a patient and compare them: a change of these
brings every partner's index up to date in the same transaction. The email address is not
changed here: it opens the account.

One at the desk mends a slip of the keyboard. Another number, or another name together with
another date of birth, makes another person of the patient: whose results would come here, and
who could be named for a child. So a second person at the desk looks at the card and agrees, and
the patient is told by mail before it counts.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from datetime import date, datetime
from typing import Any

from sqlalchemy import Select, delete, select, update
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
from medportal.patients.models import Destination, DetailsChange, Patient
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
        return _digest([*plain, list(self.destinations)])

    @property
    def who_digest(self) -> str:
        """Return a hash that changes with what the patient is found and compared by."""
        return _digest([str(getattr(self, name)) for name in sorted(WHO)])


@dataclass(frozen=True, slots=True)
class Changed:
    """The names of the fields that have changed, and of those that wait for a second person.

    ``asked`` is the id of what was asked for.
    """

    now: frozenset[str] = frozenset()
    waiting: frozenset[str] = frozenset()
    asked: str | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """Who a patient is to be, once a second person agrees."""

    id: str
    number: str
    name: str
    birth_date: date
    asked_by: str | None


def _digest(values: list[Any]) -> str:
    return hashlib.sha256(canonical.encode(values)).hexdigest()


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
) -> Changed:
    """Change a patient's registration data, or ask for what one person does not change alone.

    ``seen`` is the digest of what was looked at. Raises ``DetailsRefused``: somebody else
    changed them meanwhile, the number is another person's, or the patient works here too, and
    then who they are is not the desk's to change.
    """
    lock(session, patient_id)
    before = read(session, patient_id, scheme)
    changed = wanted.differs_in(before)
    if not changed:
        return Changed()
    if before.digest != seen:
        raise DetailsRefused("changed-meanwhile")
    _require_allowed(session, patient_id, wanted, changed, scheme)
    kept = _takes_two(before, changed)
    at_once = replace(wanted, **{name: getattr(before, name) for name in kept})
    # A refusal below leaves nothing of it behind.
    with session.begin_nested():
        _apply(session, patient_id, before, at_once, keys, scheme=scheme, by=by, now=now)
        asked = _ask(session, patient_id, before, wanted, by, now) if kept else None
    return Changed(changed - kept, kept, asked)


def _takes_two(before: Details, changed: frozenset[str]) -> frozenset[str]:
    """Return which of the changes make another person of the patient.

    A first number does not: a newborn, or somebody who came unconscious, had none until now.
    """
    who = changed & WHO
    another_number = "number" in who and before.number
    return who if another_number or len(who) > 1 else frozenset()


def _ask(
    session: Session,
    patient_id: str,
    before: Details,
    wanted: Details,
    by: str | None,
    now: datetime,
) -> str:
    """Keep what was asked for, in the place of what was asked for before; tell the patient."""
    session.execute(delete(DetailsChange).where(DetailsChange.patient_id == patient_id))
    row = DetailsChange(
        patient_id=patient_id,
        id=new_id(),
        number=wanted.number,
        name=wanted.name,
        birth_date=wanted.birth_date,
        seen=before.who_digest,
        asked_at=now,
        asked_by=by,
    )
    session.add(row)
    notify(session, patient_id, MailKind.DETAILS_ASKED, now)
    return row.id


def waiting(session: Session, patient_id: str) -> Waiting | None:
    """Return what waits for a second person, or ``None``."""
    row = session.scalar(select(DetailsChange).where(DetailsChange.patient_id == patient_id))
    if row is None:
        return None
    return Waiting(row.id, row.number, row.name, row.birth_date, row.asked_by)


def agree(
    session: Session,
    patient_id: str,
    asked: str,
    keys: Iterable[PartnerKey],
    *,
    scheme: str,
    by: str,
    now: datetime,
) -> frozenset[str] | None:
    """Change what a colleague asked for; return the names of the fields that have changed.

    ``None`` if nothing of the kind waits. Raises ``DetailsRefused`` for whoever asked for it,
    and as :func:`change` does.
    """
    lock(session, patient_id)
    row = session.scalar(_asked(patient_id, asked))
    if row is None:
        return None
    if row.asked_by == by:
        raise DetailsRefused("second-person-needed")
    before = read(session, patient_id, scheme)
    if before.who_digest != row.seen:
        raise DetailsRefused("changed-meanwhile")
    wanted = replace(before, number=row.number, name=row.name, birth_date=row.birth_date)
    changed = wanted.differs_in(before)
    _require_allowed(session, patient_id, wanted, changed, scheme)
    with session.begin_nested():
        session.delete(row)
        _apply(session, patient_id, before, wanted, keys, scheme=scheme, by=by, now=now)
    return changed


def withdraw(session: Session, patient_id: str, asked: str) -> bool:
    """Take back what waits; tell whether there was such a thing."""
    lock(session, patient_id)
    row = session.scalar(_asked(patient_id, asked))
    if row is not None:
        session.delete(row)
    return row is not None


def _asked(patient_id: str, asked: str) -> Select[DetailsChange]:
    return (
        select(DetailsChange)
        .where(DetailsChange.patient_id == patient_id, DetailsChange.id == asked)
        .execution_options(populate_existing=True)
    )


def _apply(
    session: Session,
    patient_id: str,
    before: Details,
    wanted: Details,
    keys: Iterable[PartnerKey],
    *,
    scheme: str,
    by: str | None,
    now: datetime,
) -> None:
    changed = wanted.differs_in(before)
    _write(session, patient_id, wanted)
    if "number" in changed:
        _renumber(session, patient_id, scheme, wanted.number)
    if "destinations" in changed:
        _name(session, patient_id, before.destinations, wanted.destinations, by, now)
    if changed & WHO:
        _index(session, patient_id, keys)
    if changed & TOLD:
        notify(session, patient_id, MailKind.DETAILS_CHANGED, now)


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
