"""Records on paper: what is printed, on which page, and whatever somebody may have typed."""

import io
from dataclasses import replace
from datetime import UTC, datetime

import pypdf
import pytest

from medportal.exports.attached import bundle_in
from medportal.exports.errors import UnreadableFile
from medportal.exports.pdf import ATTACHMENT, Paper, Section, ValueLine, draw

VALUES = (
    ValueLine("Hemoglobina", "9,8 g/dL", "12,0 – 15,5", "↓ Baixo", True),
    ValueLine("Potássio", "4,1 mmol/L", "3,5 – 5,1", "Normal"),
)
SECTION = Section(
    "Resultados laboratoriais, 1 de maio de 2026",
    "Corrigido",
    (("De", "Laboratório Exemplo"), ("Por", "Paulo Marques")),
    VALUES,
    (("Notas", 'Amostra "ligeiramente" hemolisada: ≤ 5 µL.'),),
    "Assinado por Laboratório Exemplo.",
)
PAPER = Paper(
    language="pt",
    title="Registo clínico",
    institution="Hospital de Santo Exemplo",
    patient="Amanda Júlio, nascida a 3 de fevereiro de 1980",
    facts=(("Nome", "Amanda Júlio"),),
    opening=("Este papel mostra um registo.",),
    columns=("O quê", "Valor", "Intervalo habitual", "Significado"),
    sections=(SECTION,),
    closing_title="Como verificar",
    closing=("medportal record verify",),
    page="Página {n} de {total}",
    unprintable="■ está por uma letra",
    made_at=datetime(2026, 5, 4, 9, 30, tzinfo=UTC),
)


def read(data: bytes) -> tuple[pypdf.PdfReader, list[str]]:
    reader = pypdf.PdfReader(io.BytesIO(data))
    return reader, [" ".join(page.extract_text().split()) for page in reader.pages]


def with_section(**changes) -> Paper:
    return replace(PAPER, sections=(replace(SECTION, **changes),))


def test_everything_is_printed_in_portuguese_too() -> None:
    reader, (page,) = read(draw(PAPER, b"{}"))
    for cell in (cell for value in VALUES for cell in value.cells):
        assert cell in page
    for text in ("≤ 5 µL", "Corrigido", "Página 1 de 1", "Hospital de Santo Exemplo"):
        assert text in page
    assert "■" not in page
    assert "Registo clínico".encode() in reader.trailer["/Root"]["/Metadata"].get_data()
    assert reader.trailer["/Root"]["/Lang"] == "pt"


def test_it_is_an_archive_file_with_the_font_and_the_signed_file_inside() -> None:
    data = draw(PAPER, b'{"a":1}')
    reader, _ = read(data)
    assert reader.attachments[ATTACHMENT] == [b'{"a":1}'] and bundle_in(data) == b'{"a":1}'
    metadata = reader.trailer["/Root"]["/Metadata"].get_data()
    assert b"pdfaid:part>3<" in metadata and b"pdfaid:conformance>B<" in metadata
    fonts = reader.pages[0]["/Resources"]["/Font"].values()
    inside = [font.get_object()["/DescendantFonts"][0].get_object() for font in fonts]
    assert all("/FontFile2" in font["/FontDescriptor"] for font in inside) and len(inside) == 2


def test_the_patient_and_the_columns_stand_on_every_page() -> None:
    many = tuple(replace(VALUES[0], name=f"Value {n}") for n in range(90))
    _, pages = read(draw(with_section(values=many), b"{}"))
    assert len(pages) >= 3
    for number, page in enumerate(pages, 1):
        assert "Amanda Júlio, nascida" in page and f"Página {number} de {len(pages)}" in page
    assert all("Intervalo habitual" in page for page in pages[:-1])
    printed = " ".join(pages)
    assert all(f"Value {n} " in printed for n in range(90))


@pytest.mark.parametrize(
    "text",
    [
        "x" * 8_000,
        "word " * 1_600,
        "{nb} {n} {total} **bold** __u__ --s-- [a](b) \\ (a) <b>x</b> %PDF-1.4 endobj",
        "漢字 👩‍⚕️ עברית",
        "line\n" * 400,
        "é" * 300,
        "tab\there",
    ],
    ids=["long-word", "many-words", "markup", "other-scripts", "many-lines", "decomposed", "tab"],
)
@pytest.mark.parametrize("where", ["notes", "name", "author", "value", "title", "mark"])
def test_whatever_was_typed_is_printed_as_text(text: str, where: str) -> None:
    short = text[:200].strip()
    paper = {
        "notes": with_section(texts=(("Notas", text),)),
        "name": replace(PAPER, patient=short, facts=(("Nome", short),)),
        "author": with_section(facts=(("Por", short),)),
        "value": with_section(values=(ValueLine(short, short, short, short),)),
        "title": with_section(title=short),
        "mark": with_section(mark=short),
    }[where]
    reader, pages = read(draw(paper, b"{}"))
    printed = " ".join(pages)
    assert "Página 1 de" in printed and len(pages) < 30
    if "漢" in text:
        assert "■■" in printed and "está por uma letra" in printed
    if "{nb}" in text and where == "notes":
        assert text[:40] in printed
    assert "/AA" not in reader.trailer["/Root"] and "/OpenAction" not in str(reader.pages[0])


def test_a_paper_of_nothing_is_one_page() -> None:
    _, pages = read(draw(replace(PAPER, sections=()), b"{}"))
    assert len(pages) == 1


def test_what_is_no_pdf_is_taken_as_it_is() -> None:
    assert bundle_in(b"{}") == b"{}"


@pytest.mark.parametrize("step", range(12))
def test_a_pdf_that_was_cut_off_or_damaged_is_refused_in_words_or_the_same(step: int) -> None:
    data = draw(PAPER, b'{"a":1}')
    cut = data[: 8 + len(data) * step // 12]
    blotted = bytearray(data)
    begin = len(data) * step // 12
    blotted[begin + 6 : begin + 60] = b"\0" * 54
    for damaged in (cut, bytes(blotted)):
        try:
            assert bundle_in(damaged) == b'{"a":1}'
        except UnreadableFile as error:
            assert str(error).startswith("The PDF ")


def test_a_pdf_without_a_file_or_with_several_is_refused() -> None:
    from fpdf import FPDF

    plain = FPDF()
    plain.add_page()
    with pytest.raises(UnreadableFile, match="no file"):
        bundle_in(bytes(plain.output()))
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(draw(PAPER, b'{"a":1}')))
    writer.add_attachment(ATTACHMENT, b'{"a":2}')
    changed = io.BytesIO()
    writer.write(changed)
    with pytest.raises(UnreadableFile, match="or several"):
        bundle_in(changed.getvalue())


def test_a_pdf_bomb_is_refused() -> None:
    data = draw(PAPER, b" " * 200_000_000)
    assert len(data) < 1_000_000
    with pytest.raises(UnreadableFile):
        bundle_in(data)
