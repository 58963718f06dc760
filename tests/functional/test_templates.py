"""Every template compiles, before anybody asks for a page."""

from medportal.web.warm import PACKAGE, compile_templates


def test_all_templates_compile(portal):
    expected = len(list(PACKAGE.glob("*/templates/**/*.pt")))
    assert compile_templates(portal.app.registry) == expected
