"""A patient closes their record; a doctor opens it in an emergency; the patient asks; an answer.

In a real browser and in both languages. Forms are found by the names of their fields, which are
the same in every language.
"""

import pytest
from axe_playwright_python.sync_playwright import Axe
from e2e_helpers import LOCALES, activate, fresh_number, register, sign_in
from playwright.sync_api import expect

PASSWORD = "four green kites over the dunes"
NAMES = {"en": "Jorge Seixas", "pt": "Jorge Salema"}
LANGUAGES = {"en": "English", "pt": "Português"}
REASON = {
    "en": "Brought in without anybody who knows him, and hardly awake.",
    "pt": "Chegou sem acompanhante e quase inconsciente.",
}
QUESTION = {
    "en": "I had closed my record to this doctor. Who let her in?",
    "pt": "Eu tinha fechado o meu processo a este médico. Quem o deixou entrar?",
}
ANSWER = {
    "en": "You were brought in hardly awake. The doctor needed your record to help you.",
    "pt": "Chegou quase inconsciente. O médico precisou do seu processo para o ajudar.",
}
WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


def in_language(page, url, language):
    page.goto(url + "/help")
    if page.locator("html").get_attribute("lang") != language:
        page.locator(f"button[name=language][value={language}]").click()


def shoot(page, shots, name):
    """Keep a picture of a page, and see that axe finds nothing on it and that it fits."""
    found = Axe().run(page)
    assert found.violations_count == 0, (page.url, found.generate_report())
    assert page.evaluate(WIDER) <= 0, page.url
    page.screenshot(path=shots / f"{name}.png", full_page=True)


def option_with(page, field, words):
    """Return the value of the option of a select that says some words."""
    found = page.locator(f"select[name={field}] option", has_text=words).first
    return found.get_attribute("value")


def admit(clerk, patient, url, language, shots):
    """Register a patient, who chooses a password; return number and address of the record."""
    number = fresh_number()
    code = register(
        clerk,
        url,
        number,
        NAMES[language],
        shots,
        f"80-{language}",
        ward="Cardiology",
        language=LANGUAGES[language],
    )
    activate(patient, url, number, code, PASSWORD, shots)
    sign_in_anew(patient, url, number)
    patient.wait_for_url("**/patients/*")
    return number, patient.url


def sign_in_anew(page, url, number):
    page.goto(f"{url}/sign-in")
    page.locator("#form input[name=number]").fill(number)
    page.locator("#form input[name=password]").fill(PASSWORD)
    page.locator("#form button[type=submit]").click()


def assign(clerk, record, doctor_name):
    clerk.goto(f"{record}/care")
    clerk.locator("select[name=staff]").select_option(option_with(clerk, "staff", doctor_name))
    clerk.locator("input[name=kind][value=team]").check()
    clerk.locator("#form button[type=submit]").click()
    expect(clerk.locator("ul.cards").get_by_role("heading", name=doctor_name)).to_be_visible()


def block(patient, record, doctor_name, language, shots):
    """Make the rule: this doctor sees nothing; look at what it changes before saving."""
    patient.goto(f"{record}/rules")
    shoot(patient, shots, f"81-{language}-rules")
    patient.goto(f"{record}/rules/new")
    patient.locator("input[name=effect][value=block]").check()
    patient.locator("select[name=whom]").select_option(option_with(patient, "whom", doctor_name))
    shoot(patient, shots, f"82-{language}-rule")
    patient.locator("main form button.btn-primary").click()
    expect(patient.locator("main")).to_contain_text(doctor_name)
    shoot(patient, shots, f"83-{language}-preview")
    patient.locator("main form button.btn-primary").click()
    patient.wait_for_url(f"{record}/rules")
    expect(patient.locator("ul.cards")).to_contain_text(doctor_name)


def refused(doctor, record, language, shots):
    """Be told that there is nothing, and where to go in an emergency."""
    assert doctor.goto(record).status == 404
    assert NAMES[language] not in doctor.content()
    shoot(doctor, shots, f"84-{language}-refused")
    doctor.locator("main a[href='/patients/find']").click()


def break_the_glass(doctor, record, number, language, shots):
    doctor.locator("#form input[name=number]").fill(number)
    doctor.locator("#form button[type=submit]").click()
    doctor.wait_for_url(f"{record}/glass")
    assert NAMES[language] not in doctor.content()
    expect(doctor.locator("main")).to_contain_text(number)
    doctor.locator("input[name=reason][value=emergency]").check()
    doctor.locator("textarea[name=words]").fill(REASON[language])
    shoot(doctor, shots, f"85-{language}-glass")
    doctor.locator("#form button[type=submit]").click()
    doctor.wait_for_url(record)
    banner = doctor.locator(".notice[data-kind=bad]")
    expect(banner).to_be_visible()
    expect(doctor.get_by_role("heading", level=1)).to_contain_text(NAMES[language])
    shoot(doctor, shots, f"86-{language}-open")
    return banner


def end(doctor, record, banner, language, shots):
    """End it sooner, from the banner; the record is closed again."""
    banner.get_by_role("link").click()
    shoot(doctor, shots, f"87-{language}-while-open")
    doctor.locator("form.button-form[action$='/end'] button").click()
    assert doctor.goto(record).status == 404


def complain(patient, record, doctor_name, language, shots):
    """Read who it was and why; ask what looks wrong."""
    patient.goto(f"{record}/access-log?topic=emergency")
    entry = patient.locator("main table a", has_text=doctor_name)
    expect(entry.first).to_be_visible()
    shoot(patient, shots, f"88-{language}-access-log")
    # The oldest of them is the breaking, the newer one its end.
    entry.last.click()
    shoot(patient, shots, f"89-{language}-entry")
    patient.locator("textarea[name=text]").fill(QUESTION[language])
    patient.locator("main form button.btn-primary").last.click()
    expect(patient.locator("blockquote.said")).to_contain_text(QUESTION[language])
    return patient.url


def review(officer, url, doctor_name, language, shots):
    """Check the emergency access as such."""
    officer.goto(f"{url}/oversight/reviews")
    shoot(officer, shots, f"90-{language}-reviews")
    officer.locator("ul.cards").first.get_by_role("link", name=doctor_name).last.click()
    expect(officer.locator("main")).to_contain_text(REASON[language])
    officer.locator("input[name=finding][value=justified]").check()
    shoot(officer, shots, f"91-{language}-review")
    officer.locator("#form button[type=submit]").click()
    officer.wait_for_url(f"{url}/oversight/reviews")


def answer(officer, url, language, shots):
    officer.goto(f"{url}/oversight/complaints")
    shoot(officer, shots, f"92-{language}-complaints")
    officer.locator("ul.cards").get_by_role("link", name=NAMES[language]).click()
    expect(officer.locator("blockquote.said")).to_contain_text(QUESTION[language])
    officer.locator("input[name=finding][value=justified]").check()
    officer.locator("textarea[name=answer]").fill(ANSWER[language])
    shoot(officer, shots, f"93-{language}-complaint")
    officer.locator("main form button.btn-primary").last.click()


@pytest.mark.parametrize("language", ["en", "pt"])
def test_a_rule_an_emergency_a_question_and_its_answer(demonstration, new_page, shots, language):
    url = demonstration.url("hospital")
    account = demonstration.account("hospital", "doctor", 1)
    clerk, doctor, officer = new_page(), new_page(), new_page()
    patient = new_page(width=390, locale=LOCALES[language])
    sign_in(clerk, url, demonstration.account("hospital", "ward_clerk"))
    sign_in(doctor, url, account)
    sign_in(officer, url, demonstration.account("hospital", "privacy_officer"))
    for page in (clerk, doctor, officer, patient):
        in_language(page, url, "en" if page is clerk else language)
    number, record = admit(clerk, patient, url, language, shots)
    assign(clerk, record, account["name"])

    # The doctor looks after the patient and sees the record, until the patient says no.
    assert doctor.goto(record).status == 200
    block(patient, record, account["name"], language, shots)
    refused(doctor, record, language, shots)

    # In an emergency it opens all the same, and everybody hears of it.
    banner = break_the_glass(doctor, record, number, language, shots)
    end(doctor, record, banner, language, shots)
    entry = complain(patient, record, account["name"], language, shots)
    review(officer, url, account["name"], language, shots)
    answer(officer, url, language, shots)
    patient.goto(entry)
    expect(patient.locator("main")).to_contain_text(ANSWER[language])
    shoot(patient, shots, f"94-{language}-answered")
