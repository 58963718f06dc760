"""Small helpers of the functional tests."""

import re

from webtest import TestResponse

#: The variables of the ini file that the demonstration's tenant files use.
PORTS = {
    "exchange_port": "4000",
    "mail_port": "2525",
    "hospital_port": "8443",
    "laboratory_port": "8444",
}


def without_ids(page: TestResponse) -> str:
    """Return a page's source without ids and tokens: at random they hold any few digits."""
    return re.sub(r"[0-9A-Za-z_-]{32,}", "", page.text)


def page_text(page: TestResponse) -> str:
    """Return what a person reads on a page."""
    return str(page.html.find("main").get_text(" ", strip=True))
