"""Colours and their contrast (PURE).

Source: WCAG 2.2, "relative luminance" and "contrast ratio". A colour is written
``#rrggbb`` in lower case, which is also what makes it safe to write into a style sheet.
"""

import re
from collections.abc import Mapping

TEXT_CONTRAST = 4.5
EDGE_CONTRAST = 3.0
WHITE = "#ffffff"
BLACK = "#000000"
_COLOUR = re.compile(r"#[0-9a-f]{6}")

Rgb = tuple[int, int, int]


def parse(colour: str) -> Rgb:
    """Return red, green and blue (0 to 255) of ``#rrggbb``.

    Raises ``ValueError`` for any other shape.
    """
    if not _COLOUR.fullmatch(colour):
        raise ValueError("a colour is written #rrggbb, in lower case")
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def contrast(first: str, second: str) -> float:
    """Return the contrast ratio of two colours, from 1.0 (same) to 21.0 (black on white).

    Raises ``ValueError`` for a colour that is not ``#rrggbb``.
    """
    lighter, darker = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def mix(first: str, second: str, share: float) -> str:
    """Return ``first`` with ``share`` (0.0 to 1.0) of ``second`` mixed in.

    Raises ``ValueError`` for a malformed colour.
    """
    pairs = zip(parse(first), parse(second), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)


def readable_on(background: str) -> str:
    """Return black or white, whichever reads better on ``background``."""
    return max((WHITE, BLACK), key=lambda ink: contrast(ink, background))


def darkened(colour: str, background: str, wanted: float = TEXT_CONTRAST) -> str:
    """Return ``colour``, darkened in steps until it has ``wanted`` contrast on ``background``.

    Black is the darkest answer, even where it does not reach ``wanted``.
    """
    for step in range(20):
        candidate = mix(colour, BLACK, step / 20)
        if contrast(candidate, background) >= wanted:
            return candidate
    return BLACK


def problems(colours: Mapping[str, str]) -> tuple[str, ...]:
    """Return why a tenant's colours cannot be used, empty if they can.

    ``brand`` fills the header and the primary button, ``brand_text`` is written on it, and
    ``accent`` is the colour of links on white. Each problem names its key and what would do.
    """
    found = [
        f"colours.{key}: must be written #rrggbb, in lower case"
        for key in ("brand", "brand_text", "accent")
        if not _COLOUR.fullmatch(colours.get(key, ""))
    ]
    if found:
        return tuple(found)
    pairs = (
        ("brand_text", colours["brand_text"], "brand", colours["brand"], TEXT_CONTRAST),
        ("accent", colours["accent"], "white", WHITE, TEXT_CONTRAST),
        ("brand", colours["brand"], "white", WHITE, EDGE_CONTRAST),
    )
    return tuple(
        f"colours.{key}: has a contrast of {contrast(ink, ground):.2f} with {against}, "
        f"needs {wanted}"
        for key, ink, against, ground, wanted in pairs
        if contrast(ink, ground) < wanted
    )


def _luminance(colour: str) -> float:
    red, green, blue = (_linear(channel / 255) for channel in parse(colour))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(channel: float) -> float:
    return channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4
