"""What administrators hold: nothing new goes to a partner until somebody lets it go.

A hold is one row beside the queue; no delivery changes its state, and its age goes on counting.
The sender claims nothing that is held and gives back unsent what it has claimed already; what a
partner has been sent before gets its receipt as ever.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from medportal.core.reasons import Reason
from medportal.db.dialect import insert_or
from medportal.delivery.models import PartnerHold


@dataclass(frozen=True, slots=True)
class Hold:
    """Since when, by whom (a person's id) and why what goes to a partner is held."""

    partner: str
    since: datetime
    by: str
    reason: Reason


def is_held(
    partner: str | InstrumentedAttribute[str] | ColumnElement[str],
) -> ColumnElement[bool]:
    """Return the SQL condition under which what goes to a partner is held.

    ``partner`` is a name or the place for one, which a database looks up once, or the column of
    the query that asks.
    """
    return select(PartnerHold.partner).where(PartnerHold.partner == partner).exists()


def hold(session: Session, partner: str, by: str, reason: Reason, now: datetime) -> bool:
    """Hold what goes to a partner; return False, and change nothing, if it is held already."""
    made = session.execute(
        insert_or(session, PartnerHold)
        .values(partner=partner, since=now, by=by, reason=reason.value)
        .on_conflict_do_nothing()
        .returning(PartnerHold.partner)
    )
    return made.one_or_none() is not None


def let_go(session: Session, seen: Hold) -> bool:
    """End the hold that somebody looked at; return False if it is not there any more.

    A hold that was ended and made anew meanwhile is another one, and stays.
    """
    ended = session.execute(
        delete(PartnerHold)
        .where(PartnerHold.partner == seen.partner, PartnerHold.since == seen.since)
        .returning(PartnerHold.partner)
        .execution_options(synchronize_session=False)
    )
    return ended.one_or_none() is not None


def find_hold(session: Session, partner: str) -> Hold | None:
    """Return the hold on a partner, if there is one."""
    return holds(session, partner).get(partner)


def holds(session: Session, *partners: str) -> dict[str, Hold]:
    """Return the holds on some partners, or on all, by partner."""
    query = select(PartnerHold.partner, PartnerHold.since, PartnerHold.by, PartnerHold.reason)
    if partners:
        query = query.where(PartnerHold.partner.in_(partners))
    return {
        partner: Hold(partner, since, by, Reason(reason))
        for partner, since, by, reason in session.execute(query)
    }
