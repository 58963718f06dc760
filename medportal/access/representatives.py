"""Representatives: who stands for a patient, from and until.

Whoever stands for a patient sees what the patient sees and makes rules in their name. So it
takes two people at the desk: one who names the representative, and another who has looked at
the same papers and agrees. Until then nothing is opened.

Whoever agrees has the person before them. So the account begins anew with what they type and
hand over, unless two people stood behind it before: a patient's was made by one at the desk
alone, who may have had somebody else in mind.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

from sqlalchemy import ColumnElement, Select, and_, delete, or_, select
from sqlalchemy.orm import Session

from medportal.access.errors import RepresentativeRefused
from medportal.access.models import Representative
from medportal.core.ids import new_id
from medportal.identity import codes
from medportal.identity.accounts import begin_anew, lock
from medportal.identity.errors import NotTheSamePerson
from medportal.identity.models import AccountStatus, Person, PersonIdentifier, RoleGrant
from medportal.identity.notices import notify
from medportal.identity.people import (
    Profile,
    add_person,
    find_person,
    names_of,
    replace_contact,
    require_same_person,
    roles_of,
)
from medportal.identity.powers import desk_vouching_roles, is_staff
from medportal.identity.sessions import end_sessions
from medportal.mail.kinds import MailKind
from medportal.tenancy.tenant import REPRESENTATIVE_ROLE, Tenant


class Ground(StrEnum):
    """Why somebody stands for a patient."""

    PARENT = "parent"
    COURT = "court"
    CHOSEN = "chosen-by-the-patient"


@dataclass(frozen=True, slots=True)
class Standing:
    """Somebody who stands for a patient, or is to; ``agreed`` once a second person said so."""

    id: str
    person_id: str
    name: str
    ground: Ground
    since: datetime
    until: datetime | None
    made_by: str | None
    agreed: bool


@dataclass(frozen=True, slots=True)
class Named:
    """Whom a colleague has named, to be compared with the papers.

    ``vouched`` tells that the account stays as it is.
    """

    name: str
    birth_date: date
    number: str
    ground: Ground
    until: datetime | None
    made_by: str | None
    vouched: bool


@dataclass(frozen=True, slots=True)
class Contact:
    """Where somebody gets the link and the mails about their account, as they say."""

    email: str = ""
    phone: str = ""


@dataclass(frozen=True, slots=True)
class Agreed:
    """What came of a representation that was agreed to.

    ``welcome`` is there if the representative needs a code; ``anew`` tells that what opened
    the account until now opens it no longer.
    """

    person_id: str
    welcome: codes.Welcome | None
    anew: bool


def name(
    session: Session,
    *,
    patient_id: str,
    scheme: str,
    number: str,
    profile: Profile,
    ground: Ground,
    until: datetime | None,
    by: str,
    now: datetime,
) -> tuple[str, str]:
    """Name somebody for a patient; a second person has to agree. Return (its id, person's id).

    Of somebody known here nothing is changed. Raises ``RepresentativeRefused``: nobody names
    themselves, nobody stands for themselves, nobody twice, the number is that of somebody with
    another name or date of birth, or the end is over.
    """
    if until is not None and until <= now:
        raise RepresentativeRefused("over-already")
    person_id = find_person(session, scheme, number)
    if person_id is None:
        person_id = add_person(session, scheme, number, profile, now)
    else:
        _check_known(session, person_id, patient_id, profile, by)
    # Two at once: the second waits here and then sees what the first did.
    lock(session, person_id)
    same = and_(Representative.patient_id == patient_id, Representative.person_id == person_id)
    if session.scalar(select(Representative.id).where(same, _not_over(now)).limit(1)):
        raise RepresentativeRefused("named-already")
    # The row refers to the person, and foreign keys are checked at each statement.
    session.flush()
    row = Representative(
        id=new_id(),
        patient_id=patient_id,
        person_id=person_id,
        ground=ground,
        since=now,
        until=until,
        made_by=by,
    )
    session.add(row)
    return row.id, person_id


def _check_known(
    session: Session, person_id: str, patient_id: str, profile: Profile, by: str
) -> None:
    if person_id == by:
        raise RepresentativeRefused("not-yourself")
    if person_id == patient_id:
        raise RepresentativeRefused("not-themselves")
    try:
        require_same_person(session, person_id, profile)
    except NotTheSamePerson as error:
        raise RepresentativeRefused("somebody-else") from error


def named(
    session: Session, tenant: Tenant, patient_id: str, representative_id: str, now: datetime
) -> Named | None:
    """Return whom a colleague has named, while it waits for a second person."""
    row = session.scalar(_waiting(patient_id, representative_id, now))
    if row is None:
        return None
    person = session.execute(
        select(Person.name, Person.birth_date, PersonIdentifier.value)
        .join(PersonIdentifier, PersonIdentifier.person_id == Person.id)
        .where(Person.id == row.person_id, PersonIdentifier.scheme == tenant.identifiers.scheme)
    ).one()
    return Named(
        person.name,
        person.birth_date,
        person.value,
        Ground(row.ground),
        row.until,
        row.made_by,
        _is_vouched_for(tenant, roles_of(session, row.person_id)),
    )


def agree(
    session: Session,
    tenant: Tenant,
    patient_id: str,
    representative_id: str,
    *,
    contact: Contact,
    by: str,
    now: datetime,
    made: codes.FreshCode | None = None,
) -> Agreed | None:
    """Agree to what a colleague has named; ``None`` if nothing of the kind waits.

    ``contact`` takes the place of what was known, where the account begins anew. ``made`` is a
    code that was made before the transaction. Raises ``RepresentativeRefused`` for whoever
    named the representative, for the representative, and for a closed account.
    """
    row = session.scalar(
        _waiting(patient_id, representative_id, now)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if row is None:
        return None
    if row.made_by == by:
        raise RepresentativeRefused("second-person-needed")
    if row.person_id == by:
        raise RepresentativeRefused("not-yourself")
    if lock(session, row.person_id) != AccountStatus.ACTIVE:
        raise RepresentativeRefused("suspended")
    row.since, row.approved_by = now, by
    welcome, anew = _give_role(session, tenant, row.person_id, contact, by, now, made)
    notify(session, patient_id, MailKind.REPRESENTATIVE_CHANGED, now)
    return Agreed(row.person_id, welcome, anew)


def _waiting(patient_id: str, representative_id: str, now: datetime) -> Select[Representative]:
    return select(Representative).where(
        Representative.id == representative_id,
        Representative.patient_id == patient_id,
        Representative.approved_by.is_(None),
        _not_over(now),
    )


def _give_role(
    session: Session,
    tenant: Tenant,
    person_id: str,
    contact: Contact,
    by: str,
    now: datetime,
    made: codes.FreshCode | None,
) -> tuple[codes.Welcome | None, bool]:
    held = roles_of(session, person_id)
    if REPRESENTATIVE_ROLE not in held:
        session.add(
            RoleGrant(person_id=person_id, role=REPRESENTATIVE_ROLE, granted_at=now, granted_by=by)
        )
        # Roles count from the next sign-in on.
        end_sessions(session, person_id)
    if _is_vouched_for(tenant, held):
        return None, False
    begin_anew(session, person_id, now, by)
    replace_contact(session, person_id, contact.email, contact.phone, now)
    if is_staff(held):
        # A code for somebody who works here takes the administration.
        return None, True
    return codes.welcome(session, tenant, person_id, now, by=by, made=made), bool(held)


def _is_vouched_for(tenant: Tenant, held: frozenset[str]) -> bool:
    return not desk_vouching_roles(tenant).isdisjoint(held)


def end(
    session: Session, patient_id: str, representative_id: str, *, by: str, now: datetime
) -> str | None:
    """End a representation now, or take back what was only named; return whose it was.

    ``None`` if there is none. With the last one the role goes, and sessions end.
    """
    row = session.scalar(
        select(Representative)
        .where(Representative.id == representative_id, Representative.patient_id == patient_id)
        .with_for_update()
    )
    if row is None:
        return None
    lock(session, row.person_id)
    if row.until is None or row.until > now:
        row.until, row.ended_by = now, by
        # What is left is read from the database below.
        session.flush()
        _take_role(session, row.person_id, now)
        if row.approved_by is not None:
            notify(session, patient_id, MailKind.REPRESENTATIVE_CHANGED, now)
    return row.person_id


def _take_role(session: Session, person_id: str, now: datetime) -> None:
    left = select(Representative.id).where(Representative.person_id == person_id, in_force(now))
    if session.scalar(left.limit(1)) is not None:
        return
    session.execute(
        delete(RoleGrant).where(
            RoleGrant.person_id == person_id, RoleGrant.role == REPRESENTATIVE_ROLE
        )
    )
    end_sessions(session, person_id)


def standing_for(session: Session, patient_id: str, now: datetime) -> list[Standing]:
    """Return who stands for a patient, and who is to once a second person agrees; by name."""
    rows = session.scalars(
        select(Representative).where(Representative.patient_id == patient_id, _not_over(now))
    ).all()
    names = names_of(session, [row.person_id for row in rows])
    found = [
        Standing(
            row.id,
            row.person_id,
            names.get(row.person_id, ""),
            Ground(row.ground),
            row.since,
            row.until,
            row.made_by,
            row.approved_by is not None,
        )
        for row in rows
    ]
    return sorted(found, key=lambda standing: (standing.name, standing.id))


def represented_by(session: Session, person_id: str, now: datetime) -> Sequence[tuple[str, str]]:
    """Return (id, name) of the patients for whom somebody stands now, by name."""
    rows = session.execute(
        select(Person.id, Person.name)
        .join(Representative, Representative.patient_id == Person.id)
        .where(Representative.person_id == person_id, in_force(now))
        .order_by(Person.name, Person.id)
    )
    return list(dict.fromkeys((row.id, row.name) for row in rows))


def in_force(now: datetime) -> ColumnElement[bool]:
    """Return the SQL condition under which somebody stands for a patient."""
    return and_(
        Representative.approved_by.is_not(None), Representative.since <= now, _not_over(now)
    )


def _not_over(now: datetime) -> ColumnElement[bool]:
    return or_(Representative.until.is_(None), Representative.until > now)
