"""Records on paper: a PDF/A-3 that a doctor elsewhere can read, with the signed file inside.

Words come in ready (:mod:`medportal.exports.papers`); here they are laid out. The font is
embedded, and everything that the paper shows is text. PDF/A-3 is the archive format that may hold
attachments (ISO 19005-3); the signature travels in the attachment and does not cover the pages,
and the pages say so.
"""

import secrets
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files
from pathlib import Path

from fontTools.ttLib import TTFont  # type: ignore[import-untyped]  # has no types
from fpdf import FPDF
from fpdf.enums import XPos, YPos

#: The name of the signed file inside.
ATTACHMENT = "records.json"
#: Stands for what the font cannot show.
UNKNOWN = "\u25a0"
FAMILY = "Source Sans"
FONT_PACKAGE = "font_source_sans_pro"
FONTS = {"": "SourceSansPro-Regular.ttf", "B": "SourceSansPro-Semibold.ttf"}
MARGIN, HEAD, FOOT = 18, 24, 20
TEXT, SMALL, HEADING, TITLE = 10.5, 8.5, 14, 20
LINE, SMALL_LINE = 5.2, 4.2
#: What, value, usual range, meaning: shares of the width.
COLUMNS = (44, 22, 22, 22)
ALIGNED = ("L", "R", "R", "L")
#: Between columns, and above and below the text of a row.
GAP, AIR = 3, 0.6
# Of such signs is made, anew for each paper, what stands for the number of pages until it is known:
# whatever a record says, it does not hold this word by chance or on purpose.
_TOTAL_SIGNS = "БГДЖЗИЙЛПФЦЧШЩЪЫЬЭЮЯ"
_GREY, _BLACK, _PALE = 90, 0, 225


@dataclass(frozen=True, slots=True)
class ValueLine:
    """One value: name, value with unit, usual range, and what it means in words and signs."""

    name: str
    value: str
    reference: str
    meaning: str
    stands_out: bool = False

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """Return what stands in the columns."""
        return self.name, self.value, self.reference, self.meaning


@dataclass(frozen=True, slots=True)
class Section:
    """One record: ``mark`` tells in capitals what is unusual about it, ``texts`` have a heading."""

    title: str
    mark: str
    facts: tuple[tuple[str, str], ...]
    values: tuple[ValueLine, ...]
    texts: tuple[tuple[str, str], ...]
    signature: str


@dataclass(frozen=True, slots=True)
class Paper:
    """Everything that is printed, in one language; ``page`` has places for ``n`` and ``total``."""

    language: str
    title: str
    institution: str
    patient: str
    facts: tuple[tuple[str, str], ...]
    opening: tuple[str, ...]
    columns: tuple[str, str, str, str]
    sections: tuple[Section, ...]
    closing_title: str
    closing: tuple[str, ...]
    page: str
    unprintable: str
    made_at: datetime


def draw(paper: Paper, attachment: bytes) -> bytes:
    """Return the PDF of ``paper``, with ``attachment`` inside as :data:`ATTACHMENT`."""
    sheet = _Sheet(paper)
    sheet.embed_file(
        bytes=attachment,
        basename=ATTACHMENT,
        mime_type="application/fhir+json",
        associated_file_relationship="Source",
        modification_date=paper.made_at,
        compress=True,
    )
    sheet.add_page()
    _cover(sheet, paper)
    for section in paper.sections:
        _section(sheet, paper, section)
    _closing(sheet, paper)
    return bytes(sheet.output())


class _Sheet(FPDF):
    """The sheets of one paper: head and foot of each page, and text that cannot fail."""

    def __init__(self, paper: Paper) -> None:
        super().__init__(format="A4", enforce_compliance="PDF/A-3B")
        self._paper = paper
        self.is_complete = True
        for style, name in FONTS.items():
            self.add_font(FAMILY, style, font_file(name))
        self.set_lang(paper.language)
        self.set_title(paper.title)
        self.set_creation_date(paper.made_at)
        self.set_margins(MARGIN, HEAD, MARGIN)
        self.set_auto_page_break(True, FOOT)
        self._total = "".join(secrets.choice(_TOTAL_SIGNS) for _ in range(6))
        self.alias_nb_pages(self._total)

    def say(self, text: str, size: float = TEXT, style: str = "", grey: int = _BLACK) -> None:
        """Print a paragraph over the whole width."""
        self.set_font(FAMILY, style, size)
        self.set_text_color(grey)
        height = LINE * size / TEXT
        shown = self.shown(text)
        self.multi_cell(0, height, shown, align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)

    def shown(self, text: str) -> str:
        """Return a text with :data:`UNKNOWN` for each sign that the font lacks."""
        composed = unicodedata.normalize("NFC", text).replace("\t", "    ")
        known = _known_signs()
        if all(ord(sign) in known for sign in composed):
            return composed
        self.is_complete = False
        return "".join(sign if ord(sign) in known else UNKNOWN for sign in composed)

    def broken(self, text: str, width: float) -> list[str]:
        """Return a text as lines that fit into a width, in the font that is set."""
        shown = self.shown(text)
        if self.get_string_width(shown) + 2 * self.c_margin <= width:
            return [shown]
        return self._lines(shown, width)

    def _lines(self, text: str, width: float) -> list[str]:
        found = self.multi_cell(width, LINE, text, dry_run=True, output="LINES", align="L")
        return found if isinstance(found, list) else [text]

    def header(self) -> None:
        """Print who it is about, on every page, so that no page can be taken for another's."""
        self.set_xy(MARGIN, 10)
        self.set_font(FAMILY, "B", SMALL)
        self.set_text_color(_BLACK)
        half = self.epw / 2
        self._beside(self.shown(self._paper.patient), half * 1.3, "L")
        self.set_font(FAMILY, "", SMALL)
        self._beside(self.shown(self._paper.institution), half * 0.7, "R")
        self.set_draw_color(_PALE)
        self.line(MARGIN, 19, MARGIN + self.epw, 19)
        self.set_xy(MARGIN, HEAD)

    def _beside(self, text: str, width: float, align: str) -> None:
        lines = self._lines(text, width)
        # A name of two hundred letters must not run into the text.
        self.multi_cell(
            width,
            SMALL_LINE,
            "\n".join(lines[:2]),
            align=align,
            new_x=XPos.RIGHT,
            new_y=YPos.TOP,
        )

    def footer(self) -> None:
        """Print the number of the page."""
        self.set_y(-14)
        self.set_font(FAMILY, "", SMALL)
        self.set_text_color(_GREY)
        words = self._paper.page.replace("{n}", str(self.page_no())).replace("{total}", self._total)
        self.cell(0, SMALL_LINE, words, align="L")
        self.set_text_color(_BLACK)


def _cover(sheet: _Sheet, paper: Paper) -> None:
    sheet.say(paper.title, TITLE, "B")
    sheet.ln(2)
    _facts(sheet, paper.facts)
    for paragraph in paper.opening:
        sheet.ln(2)
        sheet.say(paragraph)


def _section(sheet: _Sheet, paper: Paper, section: Section) -> None:
    sheet.ln(7)
    if sheet.will_page_break(45):
        sheet.add_page()
    sheet.start_section(sheet.shown(section.title)[:100])
    sheet.set_draw_color(_GREY)
    sheet.line(MARGIN, sheet.get_y(), MARGIN + sheet.epw, sheet.get_y())
    sheet.ln(2)
    sheet.say(section.title, HEADING, "B")
    if section.mark:
        sheet.say(section.mark, TEXT, "B")
    _facts(sheet, section.facts)
    if section.values:
        sheet.ln(1.5)
        _values(sheet, paper.columns, section.values)
    for heading, text in section.texts:
        sheet.ln(2)
        sheet.say(heading, TEXT, "B")
        sheet.say(text)
    sheet.ln(2)
    sheet.say(section.signature, SMALL, grey=_GREY)


def _facts(sheet: _Sheet, facts: Sequence[tuple[str, str]]) -> None:
    """Print labels and values beside each other."""
    for label, value in facts:
        if sheet.will_page_break(LINE):
            sheet.add_page()
        sheet.set_font(FAMILY, "", TEXT)
        sheet.set_text_color(_GREY)
        sheet.multi_cell(42, LINE, sheet.shown(label), align="L", new_x=XPos.RIGHT, new_y=YPos.TOP)
        sheet.set_text_color(_BLACK)
        value = sheet.shown(value)
        sheet.multi_cell(0, LINE, value, align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)


def _values(sheet: _Sheet, columns: Sequence[str], values: Sequence[ValueLine]) -> None:
    sheet.set_draw_color(_PALE)
    _row(sheet, columns, "B")
    for value in values:
        _row(sheet, value.cells, "B" if value.stands_out else "", columns)


def _row(
    sheet: _Sheet, cells: Sequence[str], style: str, columns: Sequence[str] | None = None
) -> None:
    """Print one row of a table with a line below it; ``columns`` again where a page begins.

    (The table of the library does more, and takes six times as long.)
    """
    sheet.set_font(FAMILY, style, TEXT)
    widths = [sheet.epw * share / sum(COLUMNS) for share in COLUMNS]
    texts = [sheet.broken(cell, width - GAP) for cell, width in zip(cells, widths, strict=True)]
    height = LINE * max(map(len, texts)) + 2 * AIR
    if sheet.will_page_break(height):
        sheet.add_page()
        if columns is not None:
            _row(sheet, columns, "B")
            sheet.set_font(FAMILY, style, TEXT)
    top, left = sheet.get_y(), float(MARGIN)
    for lines, width, align in zip(texts, widths, ALIGNED, strict=True):
        for number, line in enumerate(lines):
            sheet.set_xy(left, top + AIR + number * LINE)
            sheet.cell(width - GAP, LINE, line, align=align)
        left += width
    sheet.line(MARGIN, top + height, MARGIN + sheet.epw, top + height)
    sheet.set_xy(MARGIN, top + height)


def _closing(sheet: _Sheet, paper: Paper) -> None:
    sheet.ln(8)
    if sheet.will_page_break(40):
        sheet.add_page()
    sheet.say(paper.closing_title, HEADING, "B")
    for paragraph in paper.closing:
        sheet.ln(1.5)
        sheet.say(paragraph)
    if not sheet.is_complete:
        sheet.ln(1.5)
        sheet.say(paper.unprintable)


def font_file(name: str) -> Path:
    """Return where a font file lies that came with its package."""
    return Path(str(files(FONT_PACKAGE).joinpath("files", name)))


@cache
def _known_signs() -> frozenset[int]:
    """Return the signs that every style of the font has, and the end of a line."""
    known = []
    for name in FONTS.values():
        with TTFont(font_file(name), lazy=True) as font:
            known.append(frozenset(font.getBestCmap()))
    return frozenset.intersection(*known) | {ord("\n")}
