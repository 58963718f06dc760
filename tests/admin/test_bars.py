"""Pictures of what was carried: every number is drawn to scale, every word is escaped."""

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medportal.admin.bars import HEIGHT, PHONE_WIDTH, WIDTH, Column, Words, picture

SVG = "{http://www.w3.org/2000/svg}"
WORDS = Words("Last day", "Sent: 1.", str)
counts = st.integers(0, 3_000_000)


def column(sent=0, sent_refused=0, received=0, received_refused=0, label="14:00"):
    return Column(label, sent, sent_refused, received, received_refused)


def drawn(columns, **kw):
    text = picture(columns, WORDS, "one", **kw)
    return ElementTree.fromstring(text.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" '))


def bars(root, kind):
    return [r for r in root.iter(f"{SVG}rect") if r.get("class") == f"bar bar--{kind}"]


def test_a_bar_for_each_kind_that_there_is():
    root = drawn([column(4, 1, 2, 3), column()])
    assert [len(bars(root, kind)) for kind in ("sent", "received", "refused")] == [1, 1, 2]


def test_twice_as_many_are_twice_as_high():
    root = drawn([column(sent=10), column(sent=20), column(received=20)])
    low, high = (float(bar.get("height")) for bar in bars(root, "sent"))
    (down,) = (float(bar.get("height")) for bar in bars(root, "received"))
    assert high == pytest.approx(2 * low, abs=0.2)
    assert down == pytest.approx(high, abs=0.2)


def test_sent_stands_above_the_line_and_received_below():
    root = drawn([column(sent=3, received=5)])
    (up,), (down,) = bars(root, "sent"), bars(root, "received")
    assert float(up.get("y")) + float(up.get("height")) == pytest.approx(float(down.get("y")))


def test_one_among_thousands_still_shows():
    root = drawn([column(sent=100_000), column(sent=1)])
    assert float(bars(root, "sent")[1].get("height")) >= 2


def test_nothing_at_all_is_a_line():
    root = drawn([column(), column()])
    assert not list(root.iter(f"{SVG}rect"))
    assert [text.text for text in root.iter(f"{SVG}text") if text.text != "14:00"] == ["0"]


@given(st.lists(st.tuples(counts, counts, counts, counts), min_size=1, max_size=40))
def test_no_bar_leaves_the_picture(numbers):
    for width in (WIDTH, PHONE_WIDTH):
        root = drawn([column(*each) for each in numbers], width=width)
        for bar in root.iter(f"{SVG}rect"):
            x, y, w, h = (float(bar.get(name)) for name in ("x", "y", "width", "height"))
            assert x >= 0 and x + w <= width
            # The least height of bars that stand on one another may reach over by that much.
            assert y >= -4.1 and y + h <= HEIGHT + 4.1


def test_labels_do_not_stand_on_one_another():
    for words in ("{:02}:00", "{} November", "{}"):
        for width in (WIDTH, PHONE_WIDTH):
            labels = [words.format(place) for place in range(30)]
            root = drawn([column(label=label) for label in labels], width=width)
            shown = [t for t in root.iter(f"{SVG}text") if t.get("text-anchor") == "middle"]
            spans = sorted(
                (float(t.get("x")) - len(t.text) * 4.5, float(t.get("x")) + len(t.text) * 4.5)
                for t in shown
            )
            assert labels[-1] in [text.text for text in shown]
            assert spans[0][0] >= 0 and spans[-1][1] <= width
            assert all(a[1] < b[0] for a, b in zip(spans, spans[1:], strict=False))


def test_words_are_escaped_and_nothing_runs():
    hostile = '"><script>alert(1)</script>'
    text = picture([column(label=hostile)], Words(hostile, hostile, lambda _n: hostile), "one")
    assert "<script" not in text and "style=" not in text
    assert not re.search(r"\son\w+=", text)


def test_a_picture_needs_a_column():
    with pytest.raises(ValueError, match="column"):
        picture([], WORDS, "one")
