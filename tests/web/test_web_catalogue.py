"""Every word has a Portuguese translation, and the way words are found is right."""

from io import BytesIO

import pytest
from babel.messages.pofile import read_po
from chameleon import PageTemplate

from medportal.web import catalogue


def test_every_message_has_a_portuguese_translation() -> None:
    assert catalogue.missing() == []


def test_placeholders_survive_translation() -> None:
    entries = read_po(BytesIO(catalogue.po_file("pt").read_bytes()), locale="pt")
    for entry in entries:
        ids = entry.id if isinstance(entry.id, tuple) else (entry.id,)
        texts = entry.string if isinstance(entry.string, tuple) else (entry.string,)
        wanted = {name for text in ids for name in _placeholders(text)}
        for text in filter(None, texts) if entry.id else ():
            assert set(_placeholders(text)) <= wanted, entry.id
            assert wanted <= set(_placeholders(text)) | ({"n"} if len(ids) > 1 else set()), entry.id


def _placeholders(text: str) -> list[str]:
    import re

    return re.findall(r"\$\{(\w+)\}", text)


def test_messages_in_python() -> None:
    source = b"""
a = _("One")
b = _("Two ${n}", mapping={"n": 1})
c = plural(request, "${n} cat", "${n} cats", count)
d = h.plural("${n} dog", "${n} dogs", 2)
e = _(variable), other("Three"), plural(request, one, many, 2)
f = _("Joined "
      "text")
"""
    assert list(catalogue.in_python(source)) == [
        "One",
        "Two ${n}",
        ("${n} cat", "${n} cats"),
        ("${n} dog", "${n} dogs"),
        "Joined text",
    ]


TEMPLATE = """
<div>
  <p i18n:translate="">Plain
     words</p>
  <p i18n:translate="">Hello <b i18n:name="who">${who}</b>, &amp; more</p>
  <p i18n:translate="">With <em class="x">mark<b>up</b></em></p>
  <p i18n:translate="">With <em class="x" tal:attributes="title t">more</em></p>
  <img alt="A picture" i18n:attributes="alt"/>
  <p tal:content="x" i18n:translate="">replaced</p>
  <p>${_('In an expression')} ${h.text(_("Double"))}
     ${h.plural('${n} cat', '${n} cats', 2)}</p>
</div>
"""


def test_messages_in_templates_are_the_ones_asked_for() -> None:
    asked: list[str] = []

    def translate(msgid: str, **_kw: object) -> str:
        asked.append(str(msgid))
        return str(msgid)

    marked = (
        TEMPLATE.split("  <p>${_(")[0]
        .replace(
            '  <p i18n:translate="">With <em class="x" tal:attributes="title t">more</em></p>\n', ""
        )
        .replace('  <p tal:content="x" i18n:translate="">replaced</p>\n', "")
        + "</div>"
    )
    PageTemplate(marked, translate=translate)(who="Ana")
    found = list(catalogue.in_template(marked))
    # Values that are written out pass through the same function; they are no messages.
    assert [text for text in asked if text != "Ana"] == found


def test_expressions_in_templates_are_found() -> None:
    source = TEMPLATE.replace(
        '<p i18n:translate="">With <em class="x" tal:attributes="title t">more</em></p>', ""
    )
    found = list(catalogue.in_template(source))
    assert "Hello ${who}, &amp; more" in found
    assert "A picture" in found
    assert "In an expression" in found
    assert "Double" in found
    assert ("${n} cat", "${n} cats") in found


@pytest.mark.parametrize(
    "source",
    [
        '<p i18n:translate="">Hello ${who}</p>',
        '<p i18n:translate="">Hello <b tal:content="who"/></p>',
        '<p i18n:translate="">Hello <b title="${who}">you</b></p>',
        '<p i18n:translate="">Hello <b tal:condition="who">you</b></p>',
        # An expression's text is looked for by its quotes, and an escaped one is none of them.
        """<p tal:content="h.text(_('The institution\\'s file'))"/>""",
    ],
)
def test_a_text_without_a_fixed_id_is_refused(source: str) -> None:
    with pytest.raises(catalogue.Untranslatable, match="page.pt"):
        list(catalogue.in_template(source, "page.pt"))


def test_refreshing_keeps_translations_adds_and_drops() -> None:
    old = catalogue.HEADER.encode() + (
        b'\nmsgid "Save"\nmsgstr "Guardar mesmo"\n\nmsgid "Nobody says this"\nmsgstr "Nada"\n'
    )
    fresh = read_po(BytesIO(catalogue.refreshed(old)), locale="pt")
    assert fresh.get("Save").string == "Guardar mesmo"  # type: ignore[union-attr]
    assert fresh.get("Nobody says this") is None
    assert fresh.get("Sign out") is not None
    assert catalogue.refreshed(catalogue.refreshed(old)) == catalogue.refreshed(old)


def test_the_command(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pathlib import Path

    target = Path(str(tmp_path)) / "medportal.po"
    monkeypatch.setattr(catalogue, "po_file", lambda language: target)
    assert catalogue.main(["update"]) == 1
    assert "no translation:" in capsys.readouterr().out
    assert b'msgid "Sign out"' in target.read_bytes()
    before = target.read_bytes()
    assert catalogue.main(["check"]) == 1
    assert target.read_bytes() == before
    assert catalogue.main([]) == 2
