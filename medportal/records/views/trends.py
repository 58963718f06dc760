"""How values changed over time: every repeated measurement, and one with its picture and table."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from html import escape
from itertools import islice
from typing import Any

from babel.dates import format_skeleton
from chameleon.utils import Markup
from pyramid.httpexceptions import HTTPNotFound
from pyramid.request import Request
from pyramid.view import view_config

from medportal.access.resources import PatientContext
from medportal.core.permissions import Permission
from medportal.identity.names import folded
from medportal.patients import service as patients
from medportal.records import timeline
from medportal.records.interpret import Interpretation
from medportal.records.pictures import CRITICAL, PHONE_WIDTH, Curve, Words, picture, small_picture
from medportal.records.presentation import INTERPRETATIONS, institution_name
from medportal.records.trends import Line, Point, Series, Source, is_key, series_of
from medportal.records.views.subjects import scheme_of
from medportal.web.i18n import (
    FORMATS,
    _,
    format_date,
    format_number,
    plural,
    translate,
)

#: How many records are opened for trends, the newest ones, and how many of them at once.
MOST, BATCH = 400, 50
USUAL = frozenset({Interpretation.NORMAL, Interpretation.UNKNOWN})


@dataclass(frozen=True, slots=True)
class _Gathered:
    """All series of a patient that somebody may see, and what they come from."""

    series: list[Series]
    opened: int
    damaged: int
    is_more: bool


@view_config(
    route_name="trends",
    permission=Permission.RECORD_LIST,
    request_method="GET",
    renderer="medportal.records:templates/trends.pt",
)
def trends(context: PatientContext, request: Request) -> dict[str, Any]:
    """Show every repeated measurement: its name, its newest value, the shape of its course."""
    found = _gathered(context, request)
    rows = sorted((_row(request, one) for one in found.series), key=lambda row: row["order"])
    return {**_about(context, request, found), "rows": rows}


@view_config(
    route_name="trend",
    permission=Permission.RECORD_LIST,
    request_method="GET",
    renderer="medportal.records:templates/trend.pt",
)
def trend(context: PatientContext, request: Request) -> dict[str, Any]:
    """Show one measurement over time: a picture, and the same values as a table."""
    key = request.matchdict["key"]
    if not is_key(key):
        raise HTTPNotFound()
    found = _gathered(context, request)
    series = [one for one in found.series if one.key == key]
    if not series:
        # That nobody measured it twice and that the asker may not see it are one answer.
        raise HTTPNotFound()
    names = {p.origin for one in series for line in one.lines for p in line.points}
    origins = {each: institution_name(request, each) for each in names}
    return {
        **_about(context, request, found),
        "name": _name(request, series[0]),
        "charts": [
            _chart(context, request, one, f"trend-{place}", origins)
            for place, one in enumerate(series)
        ],
    }


def _about(context: PatientContext, request: Request, found: _Gathered) -> dict[str, Any]:
    return {
        "patient_id": context.patient_id,
        "is_self": context.patient.is_self,
        "patient": patients.details(request.db, context.patient_id, scheme_of(request)),
        "opened": found.opened,
        "damaged": found.damaged,
        "is_more": found.is_more,
    }


def _gathered(context: PatientContext, request: Request) -> _Gathered:
    """Open the records that the person may read, and note that the values in them were seen."""
    rows = timeline.readable(context, request)
    sources: list[Source] = []
    damaged = opened = 0
    while opened < MOST and (batch := list(islice(rows, BATCH))):
        for one in timeline.looked_at(context, request, batch):
            opened += 1
            if one.seen is None:
                damaged += 1
            elif one.seen.values:
                sources.append(Source(one.entry.id, one.entry.origin, one.seen))
        # An event holds the names of one batch: each record whose values were seen has its own.
        timeline.note_listed(context, request, [entry for entry, _decision in batch], part="trends")
    if not opened:
        timeline.note_listed(context, request, [], part="trends")
    return _Gathered(series_of(sources), opened, damaged, next(rows, None) is not None)


def _row(request: Request, series: Series) -> dict[str, Any]:
    newest = [line.points[-1] for line in series.lines]
    worst = _tag(request, newest)
    return {
        # What is critical now comes first, then what is outside its range, then by name.
        "order": (_urgency(newest), folded(_name(request, series))),
        "key": series.key,
        "name": _name(request, series),
        "unit": series.unit_text,
        "value": " / ".join(format_number(request, one.number) for one in newest),
        "on": max(one.on for one in newest),
        "tag": worst,
        "count": len(series.points),
        "picture": Markup(small_picture([Curve(line.points) for line in series.lines])),
    }


def _urgency(newest: Sequence[Point]) -> int:
    if any(one.meaning in CRITICAL for one in newest):
        return 0
    return 2 if all(one.meaning in USUAL for one in newest) else 1


def _chart(
    context: PatientContext,
    request: Request,
    series: Series,
    place: str,
    origins: dict[str, str],
) -> dict[str, Any]:
    title = _name(request, series)
    if series.unit_text:
        title = f"{title} ({series.unit_text})"
    words = Words(
        title=title,
        description=_description(request, series),
        number=lambda number: format_number(request, number),
        day=lambda day: _short(request, day, "MMMd"),
        month=lambda day: _short(request, day, "MMMy"),
    )
    curves = [Curve(line.points) for line in series.lines]
    return {
        "title": title,
        "unit": series.unit_text,
        "description": words.description,
        "lines": [_line_name(request, line) for line in series.lines],
        "picture": Markup(picture(curves, words, place)),
        # The same for a phone, where the wide one's letters would be too small to read.
        "narrow": Markup(picture(curves, words, f"{place}-narrow", PHONE_WIDTH)),
        "has_band": any(p.low is not None or p.high is not None for c in curves for p in c.points),
        "rows": list(_table(context, request, series, origins)),
    }


def _table(
    context: PatientContext, request: Request, series: Series, origins: dict[str, str]
) -> Iterator[dict[str, Any]]:
    """Yield every value, newest first, with the record in which it stands.

    Two numbers of one record, as of a blood pressure, stand in one row.
    """
    found: dict[str, list[Point]] = {}
    for line in series.lines:
        for point in line.points:
            found.setdefault(point.record_id, []).append(point)
    for points in sorted(found.values(), key=lambda one: (one[0].day, one[0].record_id))[::-1]:
        numbers = " / ".join(format_number(request, point.number) for point in points)
        yield {
            "link": _link(context, request, points[0]),
            "value": " ".join(filter(None, (numbers, series.unit_text))),
            "range": " / ".join(_range(request, point) for point in points),
            "tag": _tag(request, points),
            "origin": origins[points[0].origin],
        }


def _link(context: PatientContext, request: Request, point: Point) -> Any:
    """Return the day of a value, as a link to the record in which it stands."""
    path = request.route_path("record", patient=context.patient_id, record=point.record_id)
    return Markup(f'<a href="{path}">{escape(format_date(request, point.on))}</a>')


def _description(request: Request, series: Series) -> str:
    """Return what the picture shows, in words."""
    points = [point for line in series.lines for point in line.points]
    outside = sum(point.meaning not in USUAL for point in points)
    numbers = [point.number for point in points]
    told = {
        "first": format_date(request, min(point.on for point in points)),
        "last": format_date(request, max(point.on for point in points)),
        "low": format_number(request, min(numbers)),
        "high": format_number(request, max(numbers)),
        "unit": series.unit_text,
    }
    between = translate(
        request,
        _("From ${first} to ${last}, between ${low} and ${high} ${unit}.", mapping=told),
    )
    count = plural(request, "${n} value.", "${n} values.", len(points))
    marked = plural(
        request,
        "${n} is outside the usual range.",
        "${n} are outside the usual range.",
        outside,
    )
    return " ".join((count, between, marked))


def _tag(request: Request, points: Sequence[Point]) -> tuple[str, str] | None:
    """Return kind and words of the first value that is outside its range, or of a usual one."""
    told = [INTERPRETATIONS[p.meaning] for p in points if p.meaning in INTERPRETATIONS]
    order = {"bad": 0, "warn": 1}
    return min(told, key=lambda one: order.get(one[0], 2)) if told else None


def _range(request: Request, point: Point) -> str:
    low, high = point.low, point.high
    if low is not None and high is not None:
        return f"{format_number(request, low)} – {format_number(request, high)}"
    if high is not None:
        return f"≤ {format_number(request, high)}"
    return f"≥ {format_number(request, low)}" if low is not None else "–"


def _name(request: Request, series: Series) -> str:
    return timeline.name_of(request, series.code, series.name)


def _line_name(request: Request, line: Line) -> str:
    return timeline.name_of(request, line.part or "", line.name)


def _short(request: Request, day: date, skeleton: str) -> str:
    """Return a day as it stands below a picture: short, in the page's language."""
    return str(format_skeleton(skeleton, day, locale=FORMATS[request.locale_name]))
