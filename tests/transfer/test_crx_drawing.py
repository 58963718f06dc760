"""The document says what the tables do."""

from pathlib import Path

from medportal.transfer import drawing, protocol

DOCUMENT = Path(__file__).parents[2] / "docs" / "protocol.md"


def test_the_document_is_current():
    text = DOCUMENT.read_text("utf-8")
    assert text == drawing.redrawn(text), "run python -m medportal.transfer.drawing"


def test_a_stale_document_is_brought_up_to_date(tmp_path):
    path = tmp_path / "protocol.md"
    path.write_text(f"before\n{drawing.BEGIN}\nold\n{drawing.END}\nafter\n", "utf-8")
    drawing.main(path)
    text = path.read_text("utf-8")
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "\nold\n" not in text
    assert drawing.drawn() in text


def test_every_row_is_drawn():
    text = drawing.drawn()
    for table in (protocol.SENDER, protocol.RECEIVER):
        for (state, kind), rule in table.items():
            assert f"| {state} | `{kind}` |" in text
            assert rule.act.__doc__ is not None
