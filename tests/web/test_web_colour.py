"""Contrast as WCAG 2.2 defines it, and what is mixed from an institution's colours."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medportal.web import colour
from medportal.web.assets import theme_css
from medportal.web.icons import ICONS, icon, icon_file

COLOURS = st.integers(0, 0xFFFFFF).map(lambda value: f"#{value:06x}")


@pytest.mark.parametrize(
    ("first", "second", "ratio"),
    [
        ("#000000", "#ffffff", 21.0),
        ("#ffffff", "#ffffff", 1.0),
        # Published examples: #767676 is the lightest grey that passes on white, #777777 fails.
        ("#767676", "#ffffff", 4.54),
        ("#777777", "#ffffff", 4.48),
        ("#0000ff", "#ffffff", 8.59),
    ],
)
def test_contrast_of_known_pairs(first: str, second: str, ratio: float) -> None:
    assert colour.contrast(first, second) == pytest.approx(ratio, abs=0.005)


@given(COLOURS, COLOURS)
def test_contrast_has_no_order_and_stays_in_range(first: str, second: str) -> None:
    assert colour.contrast(first, second) == colour.contrast(second, first)
    assert 1.0 <= colour.contrast(first, second) <= 21.0


@given(COLOURS)
def test_black_or_white_always_reads(background: str) -> None:
    assert colour.contrast(colour.readable_on(background), background) >= 4.5


@given(COLOURS)
def test_a_darkened_colour_reads_on_white(value: str) -> None:
    assert colour.contrast(colour.darkened(value, colour.WHITE), colour.WHITE) >= 4.5


def test_darkening_ends_at_black_where_nothing_helps() -> None:
    assert colour.darkened("#ff0000", "#111111", 7.0) == colour.BLACK


def test_mixing() -> None:
    assert colour.mix("#000000", "#ffffff", 0.5) == "#808080"
    assert colour.mix("#123456", "#ffffff", 0.0) == "#123456"


@pytest.mark.parametrize("bad", ["", "#fff", "#FFFFFF", "red", "#12345g", "#123456;}", "#1234567"])
def test_anything_else_is_no_colour(bad: str) -> None:
    with pytest.raises(ValueError, match="#rrggbb"):
        colour.parse(bad)


def test_fit_colours_have_no_problems() -> None:
    assert colour.problems({"brand": "#0f5c5c", "brand_text": "#ffffff", "accent": "#0a6280"}) == ()


def test_every_problem_is_named_with_its_key() -> None:
    assert [p.split(":")[0] for p in colour.problems({"accent": "blue"})] == [
        "colours.brand",
        "colours.brand_text",
        "colours.accent",
    ]
    found = colour.problems({"brand": "#eeeeee", "brand_text": "#ffffff", "accent": "#ffee00"})
    assert [p.split(":")[0] for p in found] == [
        "colours.brand_text",
        "colours.accent",
        "colours.brand",
    ]
    assert "needs 4.5" in found[0]


@given(COLOURS, COLOURS)
def test_a_theme_keeps_links_and_headings_readable(brand: str, accent: str) -> None:
    sheet = theme_css(brand, colour.readable_on(brand), accent)
    values = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", sheet))
    assert colour.contrast(values["accent"], values["tint"]) >= 4.5
    assert colour.contrast(values["brand-ink"], values["tint"]) >= 7.0
    assert colour.contrast(values["brand-strong-text"], values["brand-strong"]) >= 4.5


def test_a_theme_refuses_what_is_no_colour() -> None:
    with pytest.raises(ValueError, match="#rrggbb"):
        theme_css("#000000", "#ffffff", "red; } body { display: none")


def test_icons_are_hidden_from_screen_readers() -> None:
    for name in ICONS:
        assert 'aria-hidden="true"' in icon(name)
    with pytest.raises(KeyError):
        icon("unicorn")


def test_an_unknown_kind_gets_a_neutral_mark() -> None:
    assert ICONS["none"] in icon_file("pharmacy", "#000000", "#ffffff")
    assert ICONS["hospital"] in icon_file("hospital", "#000000", "#ffffff")
