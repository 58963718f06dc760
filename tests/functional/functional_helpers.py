"""Small helpers of the functional tests."""

from webtest import TestResponse

#: The variables of the ini file that the demonstration's tenant files use.
PORTS = {
    "exchange_port": "4000",
    "mail_port": "2525",
    "hospital_port": "8443",
    "laboratory_port": "8444",
}


def page_text(page: TestResponse) -> str:
    """Return what a person reads on a page."""
    return str(page.html.find("main").get_text(" ", strip=True))
