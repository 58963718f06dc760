"""Small helpers of the functional tests."""

from webtest import TestResponse


def page_text(page: TestResponse) -> str:
    """Return what a person reads on a page."""
    return str(page.html.find("main").get_text(" ", strip=True))
