"""Series of values: what belongs together, in which order, and what is left out."""

from datetime import UTC, date, datetime
from decimal import Decimal

from medportal.core.categories import Category
from medportal.records.content import RecordKind, RecordStatus
from medportal.records.glance import Glance, Seen
from medportal.records.interpret import Interpretation
from medportal.records.trends import Source, is_key, series_of

SODIUM, PRESSURE = "2951-2", "85354-9"


def seen(number, *, code=SODIUM, part=None, unit="mmol/L", coded=""):
    return Seen(
        code=code,
        part=part,
        name=f"name of {part or code}",
        category="laboratory",
        number=None if number is None else Decimal(number),
        coded=coded,
        unit=unit,
        unit_text=unit,
        low=Decimal(135),
        high=Decimal(145),
        meaning=Interpretation.NORMAL,
    )


def source(effective, *values, record_id="a" * 32, status=RecordStatus.FINAL):
    told = Glance(
        id=record_id,
        version=1,
        kind=RecordKind.CLINICAL,
        category=Category.LABORATORY,
        author_id="b" * 32,
        replaces=None,
        author="Ana",
        status=status,
        effective=effective,
        diagnosis="",
        diagnosis_code="",
        notes="",
        count=len(values),
        values=values,
    )
    return Source(record_id, "hospital", told)


def test_values_of_one_kind_and_unit_are_one_series_oldest_first():
    later, earlier = date(2026, 2, 1), date(2026, 1, 1)
    (one,) = series_of([source(later, seen("141.0")), source(earlier, seen("139"))])
    assert [str(point.number) for point in one.points] == ["139", "141.0"]
    assert [point.on for point in one.points] == [earlier, later]
    assert (one.key, one.unit, one.name) == (SODIUM, "mmol/L", f"name of {SODIUM}")
    assert one.points[0].origin == "hospital" and one.points[0].record_id == "a" * 32


def test_one_value_is_no_trend():
    assert series_of([source(date(2026, 1, 1), seen("139"))]) == []
    assert series_of([]) == []


def test_nothing_is_converted_between_units():
    records = [source(date(2026, 1, day), seen("139"), seen("5", unit="mg/dL")) for day in (1, 2)]
    assert [one.unit for one in series_of(records)] == ["mmol/L", "mg/dL"]


def test_what_was_taken_back_and_what_is_no_number_is_left_out():
    first, second = date(2026, 1, 1), date(2026, 1, 2)
    taken_back = source(second, seen("200"), status=RecordStatus.ENTERED_IN_ERROR)
    coded = [source(day, seen(None, code="882-1", unit="", coded="A+")) for day in (first, second)]
    assert series_of([source(first, seen("139")), taken_back, *coded]) == []


def test_a_pressure_is_one_series_of_two_lines():
    parts = ("8480-6", "8462-4")
    records = [
        source(
            date(2026, 1, day),
            *(seen(n, code=PRESSURE, part=p) for n, p in zip(("120", "80"), parts, strict=True)),
        )
        for day in (2, 1)
    ]
    (one,) = series_of(records)
    assert [line.part for line in one.lines] == list(parts)
    assert [len(line.points) for line in one.lines] == [2, 2]
    assert one.lines[1].name == "name of 8462-4"


def test_the_time_of_day_counts_where_it_is_known():
    morning = datetime(2026, 1, 1, 6, tzinfo=UTC)
    evening = datetime(2026, 1, 1, 18, tzinfo=UTC)
    (one,) = series_of([source(evening, seen("2")), source(morning, seen("1"))])
    assert [point.day - date(2026, 1, 1).toordinal() for point in one.points] == [0.25, 0.75]
    assert {point.on for point in one.points} == {date(2026, 1, 1)}


def test_values_of_one_day_keep_the_order_of_their_records():
    day = date(2026, 1, 1)
    records = [source(day, seen(n), record_id=n * 32) for n in ("3", "1", "2")]
    (one,) = series_of(records)
    assert [str(point.number) for point in one.points] == ["1", "2", "3"]


def test_keys_are_codes_of_loinc():
    assert is_key(SODIUM)
    assert not is_key("2951-3") and not is_key("sodium") and not is_key("")


def test_a_pressure_of_which_one_part_was_repeated_is_a_trend():
    high, low = "8480-6", "8462-4"
    both = (seen("120", code=PRESSURE, part=high), seen("80", code=PRESSURE, part=low))
    alone = seen("85", code=PRESSURE, part=low)
    records = [source(date(2026, 1, 1), *both), source(date(2026, 1, 2), alone)]
    (one,) = series_of(records)
    assert [len(line.points) for line in one.lines] == [1, 2]
    assert [str(point.number) for point in one.points] == ["80", "85"]
    assert series_of(records[:1]) == []
