"""Ward teams: who belongs to the team of a ward, and when.

Being in a team opens every patient to whom the team is assigned, so nobody puts themselves
into one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.orm import Session

from medportal.access.errors import TeamRefused
from medportal.access.models import WardTeamMember
from medportal.core.ids import new_id
from medportal.identity.models import Account, Person
from medportal.identity.people import roles_of


@dataclass(frozen=True, slots=True)
class Member:
    """Somebody in the team of a ward; ``until`` is ``None`` for a membership without an end."""

    id: str
    staff_id: str
    name: str
    since: datetime
    until: datetime | None

    def is_to_come(self, now: datetime) -> bool:
        """Tell whether it has not begun."""
        return now < self.since


def join(
    session: Session,
    *,
    ward: str,
    staff_id: str,
    assignable_roles: Sequence[str],
    by: str | None,
    now: datetime,
    since: datetime | None = None,
    until: datetime | None = None,
) -> str:
    """Put a member of staff into the team of a ward; return the membership's id.

    Raises ``TeamRefused``: nobody joins by their own hand, only roles that look after patients
    are in teams, nobody is in one twice at one time, and nothing begins or ends before now.
    """
    if staff_id == by:
        raise TeamRefused("not-yourself")
    if roles_of(session, staff_id).isdisjoint(assignable_roles):
        raise TeamRefused("not-care-staff")
    begin = since or now
    if begin < now:
        raise TeamRefused("begins-in-the-past")
    if until is not None and until <= begin:
        raise TeamRefused("ends-before-it-begins")
    # Two clerks at once: the second waits here and then sees what the first did.
    session.execute(
        select(Account.person_id).where(Account.person_id == staff_id).with_for_update()
    )
    if _overlapping(session, ward, staff_id, begin, until):
        raise TeamRefused("already-in-the-team")
    member = WardTeamMember(
        id=new_id(), ward=ward, staff_id=staff_id, since=begin, until=until, added_by=by
    )
    session.add(member)
    return member.id


def leave(session: Session, ward: str, member_id: str, now: datetime) -> str | None:
    """End a membership now, or before it begins; return whose, ``None`` if there is none."""
    found = session.execute(
        select(WardTeamMember.staff_id, WardTeamMember.since).where(
            WardTeamMember.id == member_id, WardTeamMember.ward == ward
        )
    ).one_or_none()
    if found is None:
        return None
    end = max(now, found.since)
    session.execute(
        update(WardTeamMember)
        .where(
            WardTeamMember.id == member_id,
            or_(WardTeamMember.until.is_(None), WardTeamMember.until > end),
        )
        .values(until=end)
    )
    staff_id: str = found.staff_id
    return staff_id


def members(session: Session, ward: str, now: datetime) -> list[Member]:
    """Return who is in a team now or will be, by name."""
    rows = session.execute(
        select(WardTeamMember, Person.name)
        .join(Person, Person.id == WardTeamMember.staff_id)
        .where(WardTeamMember.ward == ward, _not_over(now))
        .order_by(Person.name, WardTeamMember.since, WardTeamMember.id)
    )
    return [Member(m.id, m.staff_id, name, m.since, m.until) for m, name in rows]


def team_sizes(session: Session, now: datetime) -> dict[str, int]:
    """Return how many people are in the team of each ward now."""
    rows = session.execute(
        select(WardTeamMember.ward, func.count())
        .where(WardTeamMember.since <= now, _not_over(now))
        .group_by(WardTeamMember.ward)
    )
    return {row[0]: row[1] for row in rows}


def is_member(session: Session, ward: str, person_id: str, now: datetime) -> bool:
    """Tell whether somebody is in a team, or will be."""
    found = session.scalar(
        select(WardTeamMember.id)
        .where(WardTeamMember.ward == ward, WardTeamMember.staff_id == person_id, _not_over(now))
        .limit(1)
    )
    return found is not None


def _not_over(now: datetime) -> ColumnElement[bool]:
    # One that was ended before it began never was.
    return or_(
        WardTeamMember.until.is_(None),
        (WardTeamMember.until > now) & (WardTeamMember.until > WardTeamMember.since),
    )


def _overlapping(
    session: Session, ward: str, staff_id: str, begin: datetime, until: datetime | None
) -> bool:
    query = select(WardTeamMember.id).where(
        WardTeamMember.ward == ward, WardTeamMember.staff_id == staff_id, _not_over(begin)
    )
    if until is not None:
        query = query.where(WardTeamMember.since < until)
    return session.scalar(query.limit(1)) is not None
