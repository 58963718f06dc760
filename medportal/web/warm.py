"""Compile every template before the first request.

Chameleon compiles a template when it is first rendered. Several threads that compile at once
meet a fault of CPython 3.11 and 3.12 ("AST constructor recursion depth mismatch",
python/cpython issue 106905), and the first visitor of each page would wait.
"""

import re
from pathlib import Path
from typing import Any

from pyramid.renderers import RendererHelper

PACKAGE = Path(__file__).resolve().parents[1]
WIDGETS = PACKAGE / "web" / "templates" / "widgets"
#: With the space before the name: Chameleon knows what it loaded by these very words.
LOADED = re.compile(r"\bload:(\s*[\w./]+\.pt)")


def compile_templates(registry: Any) -> int:
    """Compile the pages and widgets of an application; return how many there are."""
    pages = sorted(PACKAGE.glob("*/templates/*.pt"))
    for path in pages:
        room = path.relative_to(PACKAGE).parts[0]
        asset = f"medportal.{room}:templates/{path.name}"
        _compile(RendererHelper(name=asset, registry=registry).renderer.implementation())
    load = registry["medportal.form_renderer"].load
    widgets = sorted(WIDGETS.glob("*.pt"))
    for path in widgets:
        load(path.stem).cook_check()
    return len(pages) + len(widgets)


def _compile(template: Any) -> None:
    """Compile a template, and the parts of others that it loads: each template has its own."""
    template.cook_check()
    for part in parts_of(template):
        _compile(part)


def parts_of(template: Any) -> list[Any]:
    """Return the templates that one loads, the very objects that it will use."""
    source = Path(template.filename).read_text("utf-8")
    # Chameleon has no public way to what the expression ``load:`` finds.
    return [template._loader(name) for name in sorted(set(LOADED.findall(source)))]
