"""After a restore: who may come in is confirmed anew, account by account.

A backup brings back every account, role and ward as it was. Who was suspended since, or left, would
be let in again, and nothing on this machine knows of them: that is what was lost. So a restore
closes accounts, in its own transaction, and people open them again who know who works here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import groupby
from operator import itemgetter

from sqlalchemy import delete, or_, select, update
from sqlalchemy.orm import Session

from medportal.access.models import Representative
from medportal.audit.append import append
from medportal.audit.events import COMMAND_LINE, Action, Event
from medportal.core.errors import MedportalError
from medportal.core.reasons import Reason
from medportal.identity.email_change import cancel_all, cancel_everybodys
from medportal.identity.models import Account, AccountStatus, Activation, Person, RoleGrant
from medportal.identity.powers import is_staff, managing_roles
from medportal.identity.sessions import end_sessions
from medportal.identity.waiting import withdraw_about
from medportal.tenancy.tenant import Tenant


class Whom(StrEnum):
    """Whose accounts a restore holds for review."""

    #: Whoever has a role besides being a patient, or represents one; not who manages people.
    STAFF = "staff"
    #: Patients too.
    EVERYBODY = "everybody"
    #: Where nothing was lost: a planned move to another machine.
    NOBODY = "nobody"


class NotToBeChanged(MedportalError):
    """An account that is not in the state from which it was to be changed."""


@dataclass(frozen=True, slots=True)
class Reviewed:
    """One account that is held, or that was left open because it manages people."""

    person_id: str
    name: str
    status: str
    roles: tuple[str, ...]


def hold_for_review(session: Session, tenant: Tenant, whom: Whom, now: datetime) -> list[str]:
    """Close the accounts of a database that was just restored; return whose.

    With an event for each. In the caller's transaction, before anything serves. Of everybody's:
    codes and links that open accounts, and changes of addresses that wait, are called off. They may
    have been used or called off since the backup, and nobody could object to them again.
    """
    if whom is Whom.NOBODY:
        return []
    session.execute(delete(Activation))
    cancel_everybodys(session, now)
    managing, roles = managing_roles(tenant), _roles(session)
    representing = set(
        session.scalars(
            select(Representative.person_id).where(
                or_(Representative.until.is_(None), Representative.until > now)
            )
        )
    )
    active = session.scalars(
        select(Account.person_id).where(Account.status == AccountStatus.ACTIVE)
    ).all()
    held = [
        person_id
        for person_id in sorted(active)
        if not managing & set(roles.get(person_id, ()))
        and (
            whom is Whom.EVERYBODY
            or is_staff(roles.get(person_id, ()))
            or person_id in representing
        )
    ]
    for person_id in held:
        _close(session, person_id, now)
    return held


def in_review(session: Session, tenant: Tenant) -> list[Reviewed]:
    """Return who is held, and after them the accounts that manage people and are open."""
    managing, roles = managing_roles(tenant), _roles(session)
    rows = session.execute(
        select(Account.person_id, Person.name, Account.status)
        .join(Person, Person.id == Account.person_id)
        .where(
            or_(
                Account.status == AccountStatus.HELD,
                Account.person_id.in_(
                    select(RoleGrant.person_id).where(RoleGrant.role.in_(sorted(managing)))
                ),
            )
        )
        .order_by(Account.status.desc(), Person.name, Person.id)
    )
    found = [Reviewed(r.person_id, r.name, r.status, roles.get(r.person_id, ())) for r in rows]
    return sorted(
        (each for each in found if each.status != AccountStatus.SUSPENDED),
        key=lambda each: each.status != AccountStatus.HELD,
    )


def confirm(session: Session, person_ids: Sequence[str], now: datetime) -> None:
    """Open held accounts again. Raises ``NotToBeChanged``; then none is."""
    for person_id in person_ids:
        _set(session, person_id, AccountStatus.HELD, AccountStatus.ACTIVE)
        append(session, _event(Action.ACCOUNT_REINSTATED, person_id, now))


def hold(session: Session, person_ids: Sequence[str], now: datetime) -> None:
    """Hold open accounts too, such as an administrator's who left. Raises ``NotToBeChanged``."""
    for person_id in person_ids:
        _close(session, person_id, now)


def _close(session: Session, person_id: str, now: datetime) -> None:
    """Hold an account, and let nothing happen meanwhile that was asked for before."""
    _set(session, person_id, AccountStatus.ACTIVE, AccountStatus.HELD)
    end_sessions(session, person_id)
    session.execute(delete(Activation).where(Activation.person_id == person_id))
    cancel_all(session, person_id, now)
    withdraw_about(session, person_id, None, now)
    append(session, _event(Action.ACCOUNT_SUSPENDED, person_id, now))


def _set(session: Session, person_id: str, before: AccountStatus, after: AccountStatus) -> None:
    changed = session.execute(
        update(Account)
        .where(Account.person_id == person_id, Account.status == before)
        .values(status=after)
        .returning(Account.person_id)
    )
    if changed.one_or_none() is None:
        raise NotToBeChanged(
            f"{person_id} is no account that is {before}: nothing was changed. List them without "
            "an option"
        )


def _roles(session: Session) -> dict[str, tuple[str, ...]]:
    rows = session.execute(
        select(RoleGrant.person_id, RoleGrant.role).order_by(RoleGrant.person_id, RoleGrant.role)
    )
    return {
        person_id: tuple(role for _, role in held)
        for person_id, held in groupby(rows, key=itemgetter(0))
    }


def _event(action: Action, person_id: str, now: datetime) -> Event:
    return Event.create(
        action,
        now=now,
        actor=COMMAND_LINE,
        object=person_id,
        reasons=[Reason.RESTORED_FROM_BACKUP],
    )
