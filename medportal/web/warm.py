"""Compile every template before the first request.

Chameleon compiles a template when it is first rendered. Several threads that compile at once
meet a fault of CPython 3.11 and 3.12 ("AST constructor recursion depth mismatch",
python/cpython issue 106905), and the first visitor of each page would wait.
"""

from pathlib import Path
from typing import Any

from pyramid.renderers import RendererHelper

PACKAGE = Path(__file__).resolve().parents[1]
WIDGETS = PACKAGE / "web" / "templates" / "widgets"


def compile_templates(registry: Any) -> int:
    """Compile the pages and widgets of an application; return how many there are."""
    pages = sorted(PACKAGE.glob("*/templates/*.pt"))
    for path in pages:
        room = path.relative_to(PACKAGE).parts[0]
        asset = f"medportal.{room}:templates/{path.name}"
        renderer = RendererHelper(name=asset, registry=registry).renderer
        renderer.implementation().cook_check()
    load = registry["medportal.form_renderer"].load
    widgets = sorted(WIDGETS.glob("*.pt"))
    for path in widgets:
        load(path.stem).cook_check()
    return len(pages) + len(widgets)
