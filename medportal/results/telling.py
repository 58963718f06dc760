"""Who is told of a result by mail, and when; mails say that there is one, and nothing else.

Asked of the decision table for each person and each result: nobody whom a rule or a sensitive
category keeps out hears of it. The jobs do this a moment after a result was filed.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from medportal.access import wards
from medportal.access.care import Carer, carers
from medportal.access.decisions import decide
from medportal.access.facts import asker_facts, departments_of, patient_facts
from medportal.access.models import CareKind
from medportal.access.representatives import standing_for
from medportal.audit.append import append
from medportal.audit.events import Action, Event, Outcome
from medportal.core.identity import Identity
from medportal.core.permissions import Permission
from medportal.identity.models import Account, AccountStatus, Person
from medportal.identity.notices import notify
from medportal.identity.people import roles_of
from medportal.mail.kinds import MailKind
from medportal.mail.models import MailState, OutgoingMail
from medportal.patients.models import Patient
from medportal.records import news
from medportal.records.interpret import Urgency
from medportal.records.news import News
from medportal.tenancy.tenant import Tenant
from medportal.vault.service import Vault

ACTOR = "process:jobs"
#: Few at a time: while they are told nothing else is written here.
BATCH = 8
#: Nobody gets more than one mail about new results in this time; the next one waits for its end.
AT_MOST_EVERY = timedelta(hours=1)
#: The same for what cannot wait.
AT_MOST_EVERY_URGENT = timedelta(minutes=10)
#: After a standstill, what is older than this is on people's pages, and needs no mail any more.
NO_NEWS_AFTER = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class House:
    """The institution, as the jobs hold it."""

    tenant: Tenant
    vault: Vault


# New results


def tell(session: Session, house: House, now: datetime, limit: int = BATCH) -> int:
    """Post the mails about results that were filed since; return how many were looked at."""
    found = news.untold(session, limit)
    for one in found:
        if one.is_newest and one.filed_at > now - NO_NEWS_AFTER:
            _tell_of(session, house, one, now)
            if _is_late(session, house, one, now):
                _escalate(session, house, one, now)
        news.mark_told(session, one, now)
    return len(found)


def _tell_of(session: Session, house: House, one: News, now: datetime) -> None:
    # Of a patient whose records were erased meanwhile there is nothing to look at.
    if news.urgency(session, house.vault, one) is None:
        return
    treating = (
        carer.staff_id
        for carer in carers(session, one.patient_id, now)
        if carer.kind is CareKind.TREATING and not carer.ward
    )
    hearing = [
        *(p for p in _owners(session, one, now) if may_read(session, house.tenant, p, one, now)),
        *(p for p in treating if may_note(session, house.tenant, p, one, now)),
    ]
    # Whoever wrote it knows of it.
    told = set(hearing) - {one.signer_id}
    _post(session, told, MailKind.RESULT_ARRIVED, AT_MOST_EVERY, now)


def _owners(session: Session, one: News, now: datetime) -> Iterator[str]:
    """Give the patient and those who stand for them now."""
    yield one.patient_id
    for standing in standing_for(session, one.patient_id, now):
        if standing.agreed and standing.since <= now:
            yield standing.person_id


# Results that nobody noted in time


def escalate(session: Session, house: House, now: datetime, limit: int = BATCH) -> int:
    """Tell the team of critical results that nobody noted in time; return how many were looked at.

    Each result is looked at once, critical or not: that it was tells nothing of it.
    """
    found = news.overdue(session, now - house.tenant.results.critical_within, limit)
    for one in found:
        newest = _waiting_as(session, house, one)
        if newest is not None:
            _escalate(session, house, newest, now)
        news.mark_escalated(session, one, now)
    return len(found)


def _waiting_as(session: Session, house: House, one: News) -> News | None:
    """Return what is to be noted in place of a version, if both cannot wait and nobody has.

    A correction starts no new hour: the team is told when the first alarm is due, of what the
    record says by then.
    """
    newest = one if one.is_newest else news.find_any(session, one.record_id)
    if newest is None or one.acknowledged_at or newest.acknowledged_at:
        return None
    urgencies = news.urgencies(session, house.vault, [one, newest])
    return newest if all(each is Urgency.CRITICAL for each in urgencies) else None


def _is_late(session: Session, house: House, one: News, now: datetime) -> bool:
    """Tell whether a version that was just filed replaces an alarm whose time is over."""
    by = now - house.tenant.results.critical_within
    older = news.unnoted_before(session, one, by)
    return any(_waiting_as(session, house, each) for each in older)


def _escalate(session: Session, house: House, one: News, now: datetime) -> None:
    """Tell everybody of the team who may read it; that nobody may is an event that says so."""
    team = _team(session, one.patient_id, now)
    told = {p for p in team if may_note(session, house.tenant, p, one, now)}
    _post(session, told, MailKind.RESULT_WAITS, AT_MOST_EVERY_URGENT, now)
    append(
        session,
        Event.create(
            Action.RESULT_ESCALATED,
            Outcome.ALLOWED if told else Outcome.FAILED,
            now=now,
            actor=ACTOR,
            patient=one.patient_id,
            object=one.record_id,
            details={"version": one.version, "told": len(told)},
        ),
    )


def _team(session: Session, patient_id: str, now: datetime) -> set[str]:
    """Return who looks after a patient, by name or by team, and the team of the patient's ward."""
    looking: list[Carer] = carers(session, patient_id, now)
    people = {carer.staff_id for carer in looking if carer.staff_id}
    ward = session.scalar(select(Patient.ward).where(Patient.person_id == patient_id))
    for each in {carer.ward for carer in looking} | {ward or ""}:
        members = wards.members(session, each, now) if each else []
        people |= {member.staff_id for member in members if not member.is_to_come(now)}
    return people


# Who may


def may_read(session: Session, tenant: Tenant, person_id: str, one: News, now: datetime) -> bool:
    """Tell whether somebody could read a result, if they signed in at their desk."""
    return _may(session, tenant, person_id, one, now, (Permission.RECORD_READ,))


def may_note(session: Session, tenant: Tenant, person_id: str, one: News, now: datetime) -> bool:
    """Tell whether somebody could read a result and note that they did."""
    needed = (Permission.RECORD_READ, Permission.RESULT_ACKNOWLEDGE)
    return _may(session, tenant, person_id, one, now, needed)


def _may(
    session: Session,
    tenant: Tenant,
    person_id: str,
    one: News,
    now: datetime,
    needed: tuple[Permission, ...],
) -> bool:
    account = session.get(Account, person_id)
    if account is None or account.status != AccountStatus.ACTIVE:
        return False
    roles = roles_of(session, person_id)
    # Whether they have to prove who they are first is for the moment in which they come.
    who = Identity(person_id, tenant.id, roles, "mail", now, on_site=True, confirmed_at=now)
    departments = departments_of(session, person_id, now)
    facts = replace(
        asker_facts(tenant, who),
        patient=patient_facts(session, who, one.patient_id, now, departments),
        departments=departments,
        record=one.facts,
    )
    decision = decide(who, facts, now, needed)
    return all(decision.allows(permission) for permission in needed)


# Posting


def _post(
    session: Session, people: Iterable[str], kind: MailKind, every: timedelta, now: datetime
) -> None:
    # In one order, so that two processes cannot wait for each other.
    for person_id in sorted(people):
        post_sparingly(session, person_id, kind, every, now)


def post_sparingly(
    session: Session, person_id: str, kind: MailKind, every: timedelta, now: datetime
) -> None:
    """Post a mail, unless one of the kind lies in the outbox or was sent a short while ago.

    After one that was sent, the next goes out at the end of that time: whoever has read the
    first and come and gone hears of what came since.
    """
    # Two processes at once: the second sees what the first posted.
    session.execute(select(Person.id).where(Person.id == person_id).with_for_update())
    last = session.execute(
        select(OutgoingMail.created_at, OutgoingMail.state)
        .where(
            OutgoingMail.person_id == person_id,
            OutgoingMail.kind == kind,
            OutgoingMail.created_at > now - every,
        )
        .order_by(OutgoingMail.created_at.desc())
        .limit(1)
    ).one_or_none()
    if last is None:
        notify(session, person_id, kind, now)
    elif last.state == MailState.SENT:
        notify(session, person_id, kind, last.created_at + every)
    elif last.state == MailState.FAILED:
        # What nobody got spares nobody.
        notify(session, person_id, kind, now)
