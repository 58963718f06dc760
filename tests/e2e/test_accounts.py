"""A member of staff, from registration to suspension, in a real browser and both languages.

Forms are found by the names of their fields, which are the same in every language.
"""

import re
import time

import pyotp
import pytest
from axe_playwright_python.sync_playwright import Axe
from e2e_helpers import LOCALES, fresh_number, open_mail, send, sign_in
from playwright.sync_api import expect

PASSWORD = "nine slow boats under the bridge"
#: The two runs of a test share one institution.
SURNAMES = {"en": "Prior", "pt": "Prates"}
CODES = re.compile(r"\b[0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]{4}\b")
STEP_SECONDS = 30


def in_language(page, url, language):
    page.goto(url + "/help")
    if page.locator("html").get_attribute("lang") != language:
        page.locator(f"button[name=language][value={language}]").click()


def shoot(page, shots, name):
    """Keep a picture of a page, and see that axe finds nothing on it."""
    found = Axe().run(page)
    assert found.violations_count == 0, (page.url, found.generate_report())
    page.screenshot(path=shots / f"{name}.png", full_page=True)


def register_doctor(admin, url, number, email, language, shots):
    admin.goto(f"{url}/people/register")
    fields = {
        "number": number,
        "name": f"Odete Vaz {SURNAMES[language]}",
        "email": email,
        "city": "Porto",
    }
    for name, value in fields.items():
        admin.locator(f"#form input[name={name}]").fill(value)
    for part, value in (("day", "4"), ("month", "5"), ("year", "1981")):
        admin.locator(f"#form input[name={part}]").fill(value)
    admin.locator("#form input[name=sex][value=female]").check()
    admin.locator(f"#form input[name=language][value={language}]").check()
    admin.locator("#form input[type=checkbox][value=doctor]").check()
    shoot(admin, shots, f"70-{language}-register-staff")
    admin.locator("#form button[type=submit]").click()
    shoot(admin, shots, f"71-{language}-registered-staff")
    # Whoever typed the address sees no code.
    assert not CODES.search(admin.locator("main").inner_text())


def approve(officer, url, language, shots):
    officer.goto(f"{url}/approvals")
    shoot(officer, shots, f"72-{language}-approvals")
    officer.locator("ul.cards a").last.click()
    shoot(officer, shots, f"73-{language}-approval")
    officer.locator("input[name=checked]").check()
    officer.locator("form button.btn-primary").click()
    shoot(officer, shots, f"74-{language}-code")
    return CODES.search(officer.locator("main").inner_text())[0]


def wait_for_next_step(last):
    """Wait until the app would show another code than ``last``."""
    deadline = time.monotonic() + STEP_SECONDS + 5
    while last.now() == last.at(last.used) and time.monotonic() < deadline:
        time.sleep(0.5)


class App(pyotp.TOTP):
    """An authenticator app that remembers when it showed its last code."""

    used = 0

    def show(self):
        wait_for_next_step(self)
        # One look at the clock: the step could end between two.
        self.used = int(time.time())
        return self.at(self.used)


@pytest.mark.parametrize("language", ["en", "pt"])
def test_a_doctor_from_registration_to_suspension(demonstration, new_page, shots, language):
    url, number = demonstration.url("hospital"), fresh_number()
    email = f"o{number}@example.org"
    locale = LOCALES[language]
    admin, officer = new_page(), new_page()
    doctor, phone = new_page(locale=locale), new_page(width=390, locale=locale)
    sign_in(admin, url, demonstration.account("hospital", "admin"))
    sign_in(officer, url, demonstration.account("hospital", "privacy_officer"))
    for page in (admin, officer):
        in_language(page, url, language)

    # One asks, another looks and hands the code over; the link goes to the mailbox.
    register_doctor(admin, url, number, email, language, shots)
    code = approve(officer, url, language, shots)
    open_mail(doctor, url, email)
    send(doctor, code=code, new=PASSWORD)
    doctor.wait_for_url(f"{url}/sign-in")
    send(doctor, number=number, password=PASSWORD)
    doctor.wait_for_url(f"{url}/results")

    # A second proof: the key by hand, a code, the codes for the day without the phone.
    doctor.goto(f"{url}/account/second-factor/app")
    doctor.locator("main form button.btn-primary").click()
    shoot(doctor, shots, f"75-{language}-app")
    app = App(doctor.locator(".secret-key").inner_text().replace(" ", ""))
    send(doctor, code=app.show())
    shoot(doctor, shots, f"76-{language}-recovery-codes")
    recovery = CODES.findall(doctor.locator("main").inner_text())
    assert len(recovery) == 10

    # On another device, with the app; then with a code from the paper.
    phone.goto(f"{url}/sign-in")
    send(phone, number=number, password=PASSWORD)
    shoot(phone, shots, f"77-{language}-second-step")
    send(phone, code="000000")
    expect(phone.locator(".error-summary")).to_be_visible()
    send(phone, code=app.show())
    phone.wait_for_url(f"{url}/results")
    phone.context.clear_cookies()
    phone.goto(f"{url}/sign-in")
    send(phone, number=number, password=PASSWORD)
    send(phone, code=recovery[0])
    phone.wait_for_url(f"{url}/results")

    # The devices; one of them is signed out from here.
    doctor.goto(f"{url}/account/sessions")
    shoot(doctor, shots, f"78-{language}-sessions")
    doctor.locator(".session form button").first.click()
    phone.goto(f"{url}/patients")
    assert "/sign-in" in phone.url

    # Suspended: the next request is nobody's.
    admin.goto(f"{url}/people")
    admin.locator("main form input[name=name]").fill(SURNAMES[language])
    admin.locator("main form button[type=submit]").click()
    admin.locator("main table a").last.click()
    shoot(admin, shots, f"79-{language}-person")
    admin.locator("a[href$='/suspend']").click()
    admin.locator("input[name=reason]").first.check()
    admin.locator("main form button[type=submit]").click()
    doctor.goto(f"{url}/patients")
    assert "/sign-in" in doctor.url
    log = demonstration.log.read_text()
    assert not any(secret in log for secret in (code, app.secret, *recovery, "?link="))


@pytest.mark.parametrize("language", ["en", "pt"])
def test_the_institution_changes_its_look(demonstration, new_page, shots, language):
    url = demonstration.url("laboratory")
    admin = new_page()
    sign_in(admin, url, demonstration.account("laboratory", "admin"))
    in_language(admin, url, language)
    admin.goto(f"{url}/settings")
    shoot(admin, shots, f"80-{language}-settings")
    admin.goto(f"{url}/settings/edit?part=contact")
    phone = f"+351 253 11{fresh_number()[:4]}"
    admin.locator("input[name=phone]").fill(phone)
    shoot(admin, shots, f"81-{language}-contact")
    admin.locator("#form button[type=submit]").click()
    expect(admin.locator("footer")).to_contain_text(phone)
    anybody = new_page(width=390)
    anybody.goto(f"{demonstration.url('hospital')}/sign-in")
    assert phone not in anybody.content()
