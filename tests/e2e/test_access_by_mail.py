"""Getting in by mail, as people do it: real mails, a real browser, both languages.

Forms are found by the names of their fields, which are the same in every language.
"""

import re

import pytest
from e2e_helpers import LOCALES, fresh_number, open_mail, send, sign_in
from playwright.sync_api import Page, expect

FIRST = "five cats under one table"
SECOND = "six grey herons by the river"


def register(clerk: Page, url: str, number: str, language: str, email: str) -> str:
    clerk.goto(f"{url}/patients/register")
    clerk.locator("#form input[name=number]").fill(number)
    clerk.locator("#form input[name=name]").fill("Zulmira do Amaral")
    for part, value in (("day", "9"), ("month", "3"), ("year", "1944")):
        clerk.locator(f"#form input[name={part}]").fill(value)
    clerk.locator("#form input[name=sex][value=female]").check()
    clerk.locator("#form input[name=email]").fill(email)
    clerk.locator(f"#form input[name=language][value={language}]").check()
    clerk.locator("#form button[type=submit]").click()
    return clerk.locator("#activation-code").inner_text()


@pytest.mark.parametrize("language", ["en", "pt"])
@pytest.mark.parametrize("tenant", ["hospital", "laboratory"])
def test_somebody_with_email(demonstration, new_page, shots, tenant, language):
    url, number = demonstration.url(tenant), fresh_number()
    old, new = f"z{number}@example.org", f"n{number}@example.net"
    clerk, patient = new_page(), new_page(width=390, locale=LOCALES[language])
    role = {"hospital": "ward_clerk", "laboratory": "responsible"}[tenant]
    sign_in(clerk, url, demonstration.account(tenant, role))

    # Registered at the desk: half of it on paper, half of it in the mail.
    code = register(clerk, url, number, language, old)
    expect(clerk.get_by_role("button", name="Print this page")).to_be_visible()
    assert old not in clerk.content()
    clerk.emulate_media(media="print")
    clerk.screenshot(path=shots / f"60-{tenant}-paper.png", full_page=True)
    clerk.emulate_media(media="screen")
    open_mail(patient, url, old)
    patient.screenshot(path=shots / f"61-{tenant}-{language}-activate.png", full_page=True)
    send(patient, code=code, new=FIRST)
    patient.wait_for_url(f"{url}/sign-in")
    send(patient, number=number, password=FIRST)
    patient.wait_for_url(re.compile("/patients/[0-9a-f]{32}$"))

    # Another address, confirmed from there.
    patient.goto(f"{url}/account/email")
    send(patient, email=new)
    expect(patient.locator("main")).to_contain_text(new)
    patient.screenshot(path=shots / f"62-{tenant}-{language}-email.png", full_page=True)
    open_mail(patient, url, new)
    send(patient)
    patient.wait_for_url(f"{url}/account")
    expect(patient.locator("main")).to_contain_text(new)

    # A forgotten password: a link to the new address, and a new code from the desk.
    patient.context.clear_cookies()
    patient.goto(f"{url}/sign-in")
    patient.locator('a[href="/reset"]').click()
    send(patient, number=number)
    expect(patient.locator("#form")).to_have_count(0)
    patient.screenshot(path=shots / f"63-{tenant}-{language}-asked.png", full_page=True)
    clerk.get_by_role("link", name="Go to the patient").click()
    clerk.locator('a[href$="/code"]').click()
    clerk.locator("main form button[type=submit]").click()
    code = clerk.locator("#activation-code").inner_text()
    open_mail(patient, url, new, older=1)
    patient.screenshot(path=shots / f"64-{tenant}-{language}-finish.png", full_page=True)
    send(patient, code=code, new=SECOND)
    patient.wait_for_url(f"{url}/sign-in")
    send(patient, number=number, password=SECOND)
    patient.wait_for_url(re.compile("/patients/[0-9a-f]{32}$"))

    # No token and no code is in a log.
    log = demonstration.log.read_text()
    assert "?link=" not in log and code not in log
