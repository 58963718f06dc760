"""Every template compiles, before anybody asks for a page."""

from dataclasses import replace

from chameleon.template import BaseTemplate

from medportal.config import make_app
from medportal.web.warm import PACKAGE, compile_templates


def test_all_templates_compile(portal):
    expected = len(list(PACKAGE.glob("*/templates/**/*.pt")))
    assert compile_templates(portal.app.registry) == expected


def test_nothing_is_compiled_in_a_request(portal, monkeypatch):
    """Threads that compile at once meet a fault of CPython; also parts that a page loads."""
    app = make_app(portal.raw)
    compile_templates(app.registry)
    compiled = []
    cook = BaseTemplate.cook
    monkeypatch.setattr(
        BaseTemplate,
        "cook",
        lambda self, body: (compiled.append(self.filename), cook(self, body))[1],
    )
    browser = replace(portal, app=app).browser()
    assert "passkey" in browser.get("/sign-in").text
    app.registry["tenants"].dispose()
    assert not compiled
