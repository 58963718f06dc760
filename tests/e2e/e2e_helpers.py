"""What people do in the browser tests."""

import itertools
import time
from pathlib import Path

from playwright.sync_api import Page, expect

LOCALES = {"en": "en-GB", "pt": "pt-PT"}
MAIL_SECONDS = 90


#: In a stretch of their own; at random two could be one.
_NUMBERS = itertools.count(95_000_000)


def fresh_number() -> str:
    """Return a citizen number that nobody has."""
    return str(next(_NUMBERS))


def sign_in(page: Page, url: str, account: dict[str, str]) -> None:
    """Sign in as a person does."""
    page.goto(f"{url}/sign-in")
    page.get_by_label("Citizen card number").fill(account["citizen_number"])
    page.get_by_label("Password").fill(account["password"])
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(lambda address: "/sign-in" not in address)


def register(
    page: Page,
    url: str,
    number: str,
    name: str,
    shots: Path,
    shot: str,
    *,
    ward: str = "",
    send_to: str = "",
    language: str = "English",
) -> str:
    """Register a patient; return the activation code."""
    page.goto(f"{url}/patients/register")
    page.get_by_label("Citizen card number").fill(number)
    page.get_by_label("Name").fill(name)
    page.get_by_label("Day").fill("9")
    page.get_by_label("Month").fill("3")
    page.get_by_label("Year").fill("1944")
    page.get_by_label("Female").check()
    page.locator("main").get_by_label(language).check()
    if ward:
        page.get_by_label("Ward").select_option(ward)
    if send_to:
        page.get_by_label(send_to).check()
    page.screenshot(path=shots / f"{shot}-register.png", full_page=True)
    page.get_by_role("button", name="Register").click()
    code = page.locator("#activation-code")
    expect(code).to_be_visible()
    page.screenshot(path=shots / f"{shot}-registered.png", full_page=True)
    return code.inner_text()


def activate(page: Page, url: str, number: str, code: str, password: str, shots: Path) -> None:
    """Choose a first password."""
    page.goto(f"{url}/activate")
    page.screenshot(path=shots / "06-activate.png", full_page=True)
    page.locator("input[name=number]").fill(number)
    page.locator("input[name=code]").fill(code)
    page.locator("input[name=new]").fill(password)
    page.locator("input[name=again]").fill(password)
    page.locator("form#form button[type=submit]").click()
    page.wait_for_url(lambda address: address.endswith("/sign-in"))


def send(page: Page, **fields: str) -> None:
    """Fill the form of the page and send it; ``new`` is typed twice."""
    if "new" in fields:
        fields["again"] = fields["new"]
    for name, value in fields.items():
        page.locator(f"#form input[name={name}]").fill(value)
    page.locator("#form button[type=submit]").click()


def open_mail(page: Page, url: str, address: str, older: int = 0) -> Page:
    """Wait until more than ``older`` mails with links lie in a mailbox; open the newest link."""
    deadline = time.monotonic() + MAIL_SECONDS
    while True:
        page.goto(f"{url}/demonstration/mail")
        mails = page.locator(".mails li", has_text=address).get_by_role("link")
        links = []
        for mail in [link.get_attribute("href") for link in mails.all()]:
            page.goto(url + mail)
            links += [a.get_attribute("href") for a in page.locator(".mail-text a").all()]
        links = [link for link in links if "?link=" in link]
        if len(links) > older:
            page.goto(links[0])
            return page
        assert time.monotonic() < deadline, "no mail came"
        time.sleep(0.5)
