"""Pictures of trends: well-formed, within their frame, told apart by shape, and never unsafe."""

import re
from datetime import date
from decimal import Decimal
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medportal.records.interpret import Interpretation
from medportal.records.pictures import HEIGHT, WIDTH, Curve, Words, picture, small_picture
from medportal.records.trends import Point

WORDS = Words("Sodium", "Two values.", str, lambda day: f"{day:%d %b}", lambda day: f"{day:%b %Y}")
DAY = date(2026, 1, 1).toordinal()


def point(day, number, meaning=Interpretation.NORMAL, low="135", high="145"):
    return Point(
        day=DAY + day,
        on=date.fromordinal(int(DAY + day)),
        record_id="a" * 32,
        origin="hospital",
        number=Decimal(number),
        low=None if low is None else Decimal(low),
        high=None if high is None else Decimal(high),
        meaning=meaning,
    )


def drawn(*curves, words=WORDS):
    return ElementTree.fromstring(picture([Curve(tuple(each)) for each in curves], words, "one"))  # noqa: S314


def found(tree, css):
    return [one for one in tree.iter() if css in one.get("class", "").split()]


def test_a_picture_names_and_describes_itself():
    tree = drawn([point(0, "140"), point(30, "141")])
    assert tree.get("role") == "img"
    assert [tree.find(f"*[@id='{each}']").text for each in tree.get("aria-labelledby").split()] == [
        "Sodium",
        "Two values.",
    ]


@pytest.mark.parametrize(
    ("meaning", "shapes", "rings"),
    [
        (Interpretation.NORMAL, "circle", 0),
        (Interpretation.UNKNOWN, "circle", 0),
        (Interpretation.HIGH, "up", 0),
        (Interpretation.LOW, "down", 0),
        (Interpretation.CRITICAL_HIGH, "up", 1),
        (Interpretation.CRITICAL_LOW, "down", 1),
    ],
)
def test_marks_are_told_apart_by_shape(meaning, shapes, rings):
    tree = drawn([point(0, "140"), point(30, "150", meaning)])
    mark = found(tree, "trend__mark")[-1]
    if shapes == "circle":
        assert mark.tag == "circle"
    else:
        tip, corner = re.findall(r"[ML][\d.]+ ([\d.]+)", mark.get("d"))
        assert (float(tip) < float(corner)) == (shapes == "up")
    assert len(found(tree, "trend__ring")) == rings


def test_what_is_outside_stands_there_in_digits_and_so_does_the_newest():
    tree = drawn([point(0, "150", Interpretation.HIGH), point(200, "140"), point(400, "139")])
    assert {one.text for one in found(tree, "trend__value")} == {"150", "139"}


def test_labels_never_cover_each_other():
    crowd = [point(day / 10, "150", Interpretation.CRITICAL_HIGH) for day in range(40)]
    boxes = [
        (float(one.get("x")), float(one.get("y")), len(one.text) * 9.5 / 2)
        for one in found(drawn(crowd), "trend__value")
    ]
    for place, (x, y, half) in enumerate(boxes):
        for other_x, other_y, other_half in boxes[place + 1 :]:
            assert abs(x - other_x) >= half + other_half or abs(y - other_y) >= 14


def test_the_band_follows_the_range_of_each_value():
    tree = drawn(
        [
            point(0, "140"),
            point(10, "140"),
            point(20, "140", low="130"),
            point(30, "140", low=None, high=None),
            point(40, "140", high=None),
            point(50, "140", low=None),
        ]
    )
    bands = found(tree, "trend__band")
    assert len(bands) == 4
    edges = [(float(b.get("x")), float(b.get("x")) + float(b.get("width"))) for b in bands]
    assert edges == sorted(edges)
    assert edges[0][1] == pytest.approx(edges[1][0], abs=0.2)
    assert edges[1][1] < edges[2][0]


def test_a_far_limit_does_not_press_the_values_into_a_line():
    tree = drawn([point(0, "1", low=None, high="10000"), point(9, "5", low=None, high="10000")])
    heights = [float(mark.get("cy")) for mark in found(tree, "trend__mark")]
    assert abs(heights[0] - heights[1]) > HEIGHT / 4


@pytest.mark.parametrize("days", [[0], [0, 0], [0, 1], [0, 40], [0, 300], [0, 4000], [0, 40_000]])
def test_every_span_has_an_axis_that_can_be_read(days):
    tree = drawn([point(day, "140") for day in days])
    below = [one for one in found(tree, "trend__label") if one.get("text-anchor") == "middle"]
    assert 1 <= len(below) <= 7
    assert [float(one.get("x")) for one in below] == sorted(float(o.get("x")) for o in below)


@pytest.mark.parametrize(
    ("numbers", "labels"),
    [
        (["0", "100"], ["0", "20", "40", "60", "80", "100"]),
        (["0.1", "0.2"], ["0.10", "0.12", "0.14", "0.16", "0.18", "0.20"]),
        (["5", "5"], ["2", "3", "4", "5", "6", "7", "8"]),
        (["0", "0"], ["-0.6", "-0.4", "-0.2", "0.0", "0.2", "0.4", "0.6"]),
    ],
)
def test_numbers_on_the_axis_are_round(numbers, labels):
    points = [point(day, one, low=None, high=None) for day, one in enumerate(numbers)]
    tree = drawn(points)
    beside = [one for one in found(tree, "trend__label") if one.get("text-anchor") == "end"]
    assert [one.text for one in beside] == labels


def test_words_are_escaped_wherever_they_stand():
    hostile = '</title><script>alert("1")</script>&'
    words = Words(hostile, hostile, lambda n: hostile, lambda d: hostile, lambda d: hostile)
    text = picture([Curve((point(0, "150", Interpretation.HIGH), point(9, "140")))], words, '"><b>')
    assert "<script" not in text and "<b>" not in text
    assert ElementTree.fromstring(text).find("{*}title") is not None or "title" in text  # noqa: S314


def test_a_second_line_is_broken():
    tree = drawn([point(0, "140"), point(1, "141")], [point(0, "80"), point(1, "81")])
    assert [one.get("stroke-dasharray") for one in found(tree, "trend__line")] == [None, "7 5"]


def test_a_small_picture_is_hidden_from_screen_readers_and_marks_what_matters():
    curve = Curve((point(0, "140"), point(1, "150", Interpretation.HIGH), point(2, "141")))
    tree = ElementTree.fromstring(small_picture([curve]))  # noqa: S314
    assert tree.get("aria-hidden") == "true"
    assert len(found(tree, "trend__mark")) == 2 and not list(tree.iter("text"))


def test_a_picture_of_nothing_is_refused():
    with pytest.raises(ValueError, match="a point"):
        picture([Curve(())], WORDS, "one")


numbers = st.decimals(min_value=0, max_value=10**6, places=2)
points = st.lists(
    st.builds(
        lambda day, number, meaning, limits: point(day, number, meaning, *limits),
        st.integers(0, 30_000),
        numbers,
        st.sampled_from(list(Interpretation)),
        st.tuples(st.none() | numbers, st.none() | numbers),
    ),
    min_size=1,
    max_size=30,
)


@given(points)
def test_whatever_was_measured_is_drawn_within_the_picture(many):
    text = picture([Curve(tuple(sorted(many, key=lambda one: one.day)))], WORDS, "one")
    tree = ElementTree.fromstring(text)  # noqa: S314
    for one in tree.iter():
        for name, most in (("cx", WIDTH), ("x", WIDTH), ("cy", HEIGHT), ("y", HEIGHT)):
            if one.get(name) is not None:
                assert 0 <= float(one.get(name)) <= most, (one.tag, one.attrib)
        assert float(one.get("width", "0")) >= 0 and float(one.get("height", "0")) >= 0
    assert not re.search(r"style=|on\w+=|nan|inf|e[+-]\d", text.casefold())


@pytest.mark.parametrize(("first", "last"), [(1, 49), (1, 2026), (4, 9), (49, 51)])
def test_years_long_ago_are_drawn_too(first, last):
    """Whatever year a partner signed: months are counted from the first that a date can have."""
    days = [date(year, 1, 1).toordinal() - DAY for year in (first, last)]
    tree = drawn([point(day, "140") for day in days])
    assert len(found(tree, "trend__mark")) == 2
    labels = [one.text for one in found(tree, "trend__label")]
    assert any(re.match(r"Jan \d", each) for each in labels)
