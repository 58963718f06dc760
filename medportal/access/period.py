"""From one day until another, as an address names them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from pyramid.request import Request

from medportal.web.i18n import _, time_zone

#: Days outside these years are slips of the keyboard.
FIRST_YEAR, LAST_YEAR = 1900, 2200
WRONG_DAY = _("Write a day as year, month and day, for example 2026-03-31.")
WRONG_ORDER = _("The first day lies after the last one.")


class NoPeriod(ValueError):
    """What was asked for is no period; ``words`` say why."""

    def __init__(self, words: str) -> None:
        self.words = words
        super().__init__(str(words))


@dataclass(frozen=True, slots=True)
class Period:
    """From the first day until the last, both included; ``None`` for an open end."""

    first: date | None = None
    last: date | None = None

    def since(self, zone: ZoneInfo) -> datetime | None:
        """Return when the first day begins at the institution's clock."""
        return datetime.combine(self.first, time(), zone) if self.first else None

    def until(self, zone: ZoneInfo) -> datetime | None:
        """Return when the day after the last one begins."""
        following = self.last + timedelta(days=1) if self.last else None
        return datetime.combine(following, time(), zone) if following else None

    @property
    def fields(self) -> dict[str, str]:
        """Return what an address says of it."""
        named = {"from": self.first, "until": self.last}
        return {name: day.isoformat() for name, day in named.items() if day is not None}


def asked_period(request: Request) -> Period:
    """Return the period in the address of a request. Raises ``NoPeriod``."""
    return period_of(request.GET)


def period_of(fields: Mapping[str, str]) -> Period:
    """Return the period that was typed into ``from`` and ``until``. Raises ``NoPeriod``."""
    period = Period(_day(fields, "from"), _day(fields, "until"))
    if period.first and period.last and period.first > period.last:
        raise NoPeriod(WRONG_ORDER)
    return period


def bounds(request: Request, period: Period) -> tuple[datetime | None, datetime | None]:
    """Return the instants between which a period lies, the second one outside."""
    zone = time_zone(request)
    return period.since(zone), period.until(zone)


def _day(fields: Mapping[str, str], name: str) -> date | None:
    typed = fields.get(name, "").strip()
    if not typed:
        return None
    try:
        day = date.fromisoformat(typed)
    except ValueError:
        raise NoPeriod(WRONG_DAY) from None
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise NoPeriod(WRONG_DAY)
    return day
