"""What was carried over time: pictures and the tables of the same numbers beside them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from babel.dates import format_skeleton
from chameleon.utils import Markup
from pyramid.request import Request

from medportal.admin.bars import PHONE_WIDTH, Column, Words, picture
from medportal.delivery.traffic import (
    EVERYBODY,
    HOUR,
    Direction,
    End,
    Traffic,
    hour_of,
    traffic,
)
from medportal.web.i18n import FORMATS, _, format_date, format_number, time_zone, translate

HOURS, DAYS = 24, 30


@dataclass(frozen=True, slots=True)
class _Period:
    """An hour or a day: how it is called below the picture, and in the table."""

    label: str
    words: str


def carried(request: Request, partner: str = EVERYBODY) -> dict[str, Any]:
    """Return the pictures of the last hours and days, with one partner or with all."""
    zone = time_zone(request)
    today = request.now.astimezone(zone).date()
    # A day more than is shown: the oldest day begins before this hour of it.
    found = traffic(request.db, request.now - timedelta(days=DAYS + 1), request.now, partner)
    now = hour_of(request.now)
    hours = [now - place * HOUR for place in range(HOURS - 1, -1, -1)]
    days = [today - timedelta(days=place) for place in range(DAYS - 1, -1, -1)]
    by_hour = _sums(found, {hour: place for place, hour in enumerate(hours)}, lambda hour: hour)
    by_day = _sums(
        found,
        {day: place for place, day in enumerate(days)},
        lambda hour: hour.astimezone(zone).date(),
    )
    return {
        "charts": [
            _chart(
                request,
                "hours",
                _("Last 24 hours, by the hour"),
                _("Hour"),
                [_hour(request, hour) for hour in hours],
                by_hour,
            ),
            _chart(
                request,
                "days",
                _("Last 30 days, by the day"),
                _("Day"),
                [_Period(_short(request, day), format_date(request, day)) for day in days],
                by_day,
            ),
        ],
        "counted_until": found.until,
        "is_behind": found.is_behind,
    }


_Counts = dict[tuple[Direction, End], int]


def _sums(found: Traffic, places: dict[Any, int], period: Any) -> list[_Counts]:
    """Return the counts of each period, in its place."""
    sums: list[_Counts] = [{} for _place in places]
    for each in found.hours:
        place = places.get(period(each.hour))
        if place is not None:
            key = (each.direction, each.end)
            sums[place][key] = sums[place].get(key, 0) + each.count
    return sums


def _hour(request: Request, hour: datetime) -> _Period:
    local = hour.astimezone(time_zone(request))
    clock = f"{local:%H:%M}"
    return _Period(clock, f"{format_date(request, local)}, {clock}")


def _short(request: Request, day: date) -> str:
    return str(format_skeleton("MMMd", day, locale=FORMATS[request.locale_name]))


def _chart(
    request: Request,
    name: str,
    title: Any,
    heading: Any,
    periods: Sequence[_Period],
    sums: Sequence[_Counts],
) -> dict[str, Any]:
    columns = [_column(period, counts) for period, counts in zip(periods, sums, strict=True)]
    words = Words(
        translate(request, title),
        _described(request, columns),
        lambda number: format_number(request, number),
    )
    rows = [
        (period.words, one.sent, one.sent_refused, one.received, one.received_refused)
        for period, one in zip(periods, columns, strict=True)
    ]
    return {
        "title": words.title,
        "description": words.description,
        "heading": translate(request, heading),
        "is_empty": not any(one.up + one.down for one in columns),
        "picture": Markup(picture(columns, words, name)),
        "narrow": Markup(picture(columns, words, f"{name}-narrow", PHONE_WIDTH)),
        "rows": list(reversed(rows)),
    }


def _column(period: _Period, counts: _Counts) -> Column:
    return Column(
        label=period.label,
        sent=counts.get((Direction.SENT, End.ARRIVED), 0),
        sent_refused=counts.get((Direction.SENT, End.REFUSED), 0),
        received=counts.get((Direction.RECEIVED, End.ARRIVED), 0),
        received_refused=counts.get((Direction.RECEIVED, End.REFUSED), 0),
    )


def _described(request: Request, columns: Sequence[Column]) -> str:
    """Return what the picture comes to, in a sentence."""
    return translate(
        request,
        _(
            "Sent: ${sent}, of these refused there: ${sent_refused}. "
            "Received: ${received}, of these refused here: ${received_refused}.",
            mapping={
                "sent": format_number(request, sum(one.up for one in columns)),
                "sent_refused": format_number(request, sum(one.sent_refused for one in columns)),
                "received": format_number(request, sum(one.down for one in columns)),
                "received_refused": format_number(
                    request, sum(one.received_refused for one in columns)
                ),
            },
        ),
    )
