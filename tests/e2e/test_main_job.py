"""The main job, as its users do it: steps 1 to 4, in a real browser over HTTPS."""

import re
import time

from e2e_helpers import activate, fresh_number, register, sign_in
from playwright.sync_api import expect

MARKER = "Qwyzel syndrome, suspected"


def test_a_result_entered_at_the_laboratory_is_read_at_the_hospital(demonstration, new_page, shots):
    number, name = fresh_number(), "Zulmira do Amaral"

    # 1. Both institutions register the same citizen; the laboratory names the hospital.
    clerk = new_page()
    hospital, laboratory = demonstration.url("hospital"), demonstration.url("laboratory")
    sign_in(clerk, hospital, demonstration.account("hospital", "ward_clerk"))
    clerk.screenshot(path=shots / "01-clerk-patients.png", full_page=True)
    code = register(clerk, hospital, number, name, shots, "02-clerk", ward="Cardiology")
    responsible = new_page()
    sign_in(responsible, laboratory, demonstration.account("laboratory", "responsible"))
    lab_code = register(
        responsible,
        laboratory,
        number,
        name,
        shots,
        "03-lab",
        send_to="Riverside Hospital",
        language="Português",
    )

    # 2. The responsible enters a record and saves it. Nothing else is pressed.
    responsible.get_by_role("link", name="Go to the patient").click()
    responsible.get_by_role("link", name="New record").click()
    responsible.screenshot(path=shots / "04-lab-entry.png", full_page=True)
    responsible.get_by_label("Blood type").select_option("A+")
    responsible.get_by_label("Systolic").fill("128")
    responsible.get_by_label("Diastolic").fill("81")
    responsible.get_by_label("Body temperature").fill("37,2")
    responsible.get_by_label("Glucose", exact=False).first.fill("210")
    responsible.get_by_label("Date of the observations").fill("03/02/2026")
    responsible.get_by_role("button", name="Sign and save").click()

    # 3. The state changes on the page without a reload.
    saved = time.monotonic()
    state = responsible.locator("[data-poll-url], .live .tag").first
    expect(state).to_have_text("Delivered", timeout=60_000)
    took = time.monotonic() - saved
    print(f"shown as delivered {took:.1f} s after saving")
    expect(responsible.locator(".delivery")).to_contain_text("Receipt number")
    responsible.screenshot(path=shots / "05-lab-delivered.png", full_page=True)
    record_at_laboratory = responsible.url

    # 4. The patient reads it at the hospital, with origin and signature.
    patient = new_page(width=390)
    activate(patient, hospital, number, code, "five cats under one table", shots)
    patient.get_by_label("Citizen card number").fill(number)
    patient.get_by_label("Password").fill("five cats under one table")
    patient.get_by_role("button", name="Sign in").click()
    expect(patient.get_by_role("heading", level=1)).to_have_text("My record")
    patient.screenshot(path=shots / "07-patient-home.png", full_page=True)
    patient.get_by_role("link", name=re.compile("^Laboratory results")).click()
    expect(patient.locator("main")).to_contain_text("37.2")
    expect(patient.locator("#signature")).to_contain_text("The signature is right.")
    expect(patient.locator("#signature")).to_contain_text("Meridian Laboratory")
    patient.screenshot(path=shots / "08-patient-record.png", full_page=True)
    record_at_hospital = patient.url

    # A doctor to whom the patient is assigned reads it and adds a medical record.
    clerk.get_by_role("link", name="Go to the patient").click()
    clerk.get_by_role("link", name="Assign or end an assignment").click()
    doctor_account = demonstration.account("hospital", "doctor")
    clerk.get_by_label("Who").select_option(label=f"{doctor_account['name']} (Doctor)")
    clerk.get_by_label("Treating doctor").check()
    clerk.get_by_role("button", name="Assign").click()
    expect(clerk.locator("main")).to_contain_text(doctor_account["name"])
    clerk.screenshot(path=shots / "09-clerk-care.png", full_page=True)
    doctor = new_page()
    sign_in(doctor, hospital, doctor_account)
    doctor.screenshot(path=shots / "10-doctor-patients.png", full_page=True)
    doctor.goto(record_at_hospital)
    expect(doctor.locator("main")).to_contain_text("128")
    doctor.locator(".back").click()
    doctor.get_by_role("link", name="New record").click()
    doctor.get_by_label("Height").fill("163")
    doctor.get_by_label("Weight").fill("61,5")
    doctor.get_by_role("textbox", name="Diagnosis", exact=True).fill(MARKER)
    doctor.screenshot(path=shots / "11-doctor-entry.png", full_page=True)
    doctor.get_by_role("button", name="Sign and save").click()
    expect(doctor.locator("main")).to_contain_text(MARKER)
    doctor.screenshot(path=shots / "12-doctor-record.png", full_page=True)

    # Those who have no part in the care meet the one 404.
    for role, nth in (("porter", 0), ("volunteer", 0), ("doctor", 1), ("admin", 0)):
        other = new_page()
        sign_in(other, hospital, demonstration.account("hospital", role, nth))
        answer = other.goto(record_at_hospital)
        assert answer is not None and answer.status == 404
        expect(other.get_by_role("heading", level=1)).to_have_text("Page not found")
    other.screenshot(path=shots / "13-not-found.png", full_page=True)

    # The patient can sign in at the laboratory too and read it there.
    at_lab = new_page(width=390, locale="pt-PT")
    activate(at_lab, laboratory, number, lab_code, "six cats under one table", shots)
    at_lab.goto(record_at_laboratory)
    at_lab.get_by_label("Número do cartão de cidadão").fill(number)
    at_lab.get_by_label("Palavra-passe").fill("six cats under one table")
    at_lab.get_by_role("button", name="Iniciar sessão").click()
    expect(at_lab.locator("main")).to_contain_text("37,2")
    at_lab.screenshot(path=shots / "14-patient-at-laboratory-pt.png", full_page=True)

    # Nothing that was typed is in a log or lies readable under the state directory.
    assert MARKER not in demonstration.log.read_text()
    found = [
        path
        for path in demonstration.state.rglob("*")
        if path.is_file() and MARKER.encode() in path.read_bytes()
    ]
    assert found == []
    assert number not in demonstration.log.read_text()


def test_a_patient_unknown_there_is_said_in_words(demonstration, new_page, shots):
    number = fresh_number()
    page = new_page()
    url = demonstration.url("laboratory")
    sign_in(page, url, demonstration.account("laboratory", "responsible"))
    register(page, url, number, "Teodoro Ninguém", shots, "15", send_to="Riverside Hospital")
    page.get_by_role("link", name="Go to the patient").click()
    page.get_by_role("link", name="New record").click()
    page.get_by_label("Body temperature").fill("36,9")
    page.get_by_role("button", name="Sign and save").click()
    state = page.locator("[data-poll-url]").first
    expect(state).to_have_text("No such patient there", timeout=60_000)
    page.reload()
    expect(page.locator(".delivery")).to_contain_text("not registered there")
    page.screenshot(path=shots / "16-unknown-there.png", full_page=True)


def test_the_audit_logs_verify(demonstration):
    for tenant in ("hospital", "laboratory"):
        said = demonstration.command("audit", "verify", tenant)
        assert said.returncode == 0, said.stderr + said.stdout
        assert "whole" in said.stdout
