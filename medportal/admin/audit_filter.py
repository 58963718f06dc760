"""What part of the audit log somebody wants to see, as an address and a form say it.

Ids, codes and days only: a name or a number never stands in an address.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from medportal.audit.events import Action, Outcome
from medportal.audit.search import Query
from medportal.core.ids import is_id

PROCESS = "process:"
PARTNER = "partner:"
LONGEST_NAME = 60


class MalformedFilter(Exception):
    """An address that no page of ours leads to."""


@dataclass(frozen=True, slots=True)
class Filter:
    """The wanted part; what is empty does not matter. ``since`` and ``until`` are whole days."""

    person: str = ""
    patient: str = ""
    action: str = ""
    outcome: str = ""
    since: date | None = None
    until: date | None = None

    @classmethod
    def read(cls, given: Mapping[str, str]) -> "Filter":
        """Return what an address or a hidden field asks for. Raises ``MalformedFilter``."""
        found = cls(
            person=given.get("person", ""),
            patient=given.get("patient", ""),
            action=given.get("action", ""),
            outcome=given.get("outcome", ""),
            since=_day(given.get("since", "")),
            until=_day(given.get("until", "")),
        )
        fits = (
            found.action in {"", *Action}
            and found.outcome in {"", *Outcome}
            and (not found.patient or is_id(found.patient))
            and (not found.person or _is_actor(found.person))
        )
        if not fits:
            raise MalformedFilter
        return found

    @property
    def fields(self) -> dict[str, str]:
        """Return what leads back here, as fields of an address."""
        told = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: str(value) for name, value in told.items() if value}

    def query(self, zone: str) -> Query:
        """Return the search; days begin and end as they do in the institution's ``zone``."""
        return Query(
            actor=self.person or None,
            patient=self.patient or None,
            action=self.action or None,
            outcome=self.outcome or None,
            since=_begins(self.since, zone) if self.since else None,
            until=_begins(_after(self.until), zone) if self.until else None,
        )


def _day(text: str) -> date | None:
    if not text:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise MalformedFilter from None
    if day.isoformat() != text:
        raise MalformedFilter
    return day


def _begins(day: date, zone: str) -> datetime:
    try:
        return datetime.combine(day, time(), ZoneInfo(zone)).astimezone(UTC)
    except OverflowError:
        # At the two ends of the calendar; nothing has happened there.
        return datetime.combine(day, time(), UTC)


def _after(day: date) -> date:
    return day if day == date.max else day + timedelta(days=1)


def _is_actor(text: str) -> bool:
    """Tell whether this can be an actor: a person's id, a process or a partner."""
    for kind in (PROCESS, PARTNER):
        if text.startswith(kind):
            name = text.removeprefix(kind).replace("-", "")
            return len(text) <= LONGEST_NAME and name.isascii() and name.isalnum()
    return is_id(text)
