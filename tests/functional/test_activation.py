"""Activating an account: with the mailed link and the desk's code, or with the code alone."""

import re
from datetime import date, timedelta

import pytest
from access_helpers import GOOD, OTHER, Waiting, deliver, enter, fill, posted
from admin_helpers import do
from functional_helpers import page_text
from installation import NUMBERS
from second_factor_helpers import Clock, told
from sqlalchemy import select, update

from medportal.audit.models import AuditEvent
from medportal.identity import codes, email_change
from medportal.identity.models import Account, AccountStatus, Person
from medportal.identity.people import Profile, contact_of, find_person
from medportal.mail.kinds import MailKind
from medportal.patients.service import Registration, register_patient

TENANTS = pytest.mark.parametrize("tenant", ["hospital", "laboratory"])
READY = "Your account is ready. Sign in with your new password."
STYLE_OF_CODES = re.compile(r"[0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]{4}")


@pytest.fixture
def clock(monkeypatch):
    ticking = Clock()
    monkeypatch.setattr("medportal.identity.policy.utcnow", ticking)
    return ticking


def ways_in(page):
    return [message for _kind, message, _numbers in told(page)]


# -- with both halves ----------------------------------------------------------------------------


@TENANTS
def test_link_and_code_make_an_account(portal, clock, tenant):
    ana = enter(portal, clock, tenant)
    browser = ana.browser()
    page = browser.get(ana.link())
    text = page_text(page)
    assert portal.settings.tenant(tenant).names["en"] in text
    assert "Benedita" not in page.text, "the name is shown to nobody before the code was right"
    assert ana.number not in page.text
    assert "number" not in page.forms["form"].fields
    answer = fill(page, code=ana.code, new=GOOD)
    assert answer.status_int == 303
    assert answer.location.endswith("/sign-in")
    assert ways_in(browser) == [READY]
    assert ana.halves() is None
    assert ("account-activated", "allowed") in ana.events()
    ana.signed_in()


def test_the_token_stands_in_no_address_that_the_page_sends_to(portal, clock):
    ana = enter(portal, clock)
    page = ana.browser().get(ana.link())
    form = page.forms["form"]
    assert form.action == "/activate"
    assert form["link"].value and form["link"].attrs["type"] == "hidden"
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert page.headers["Cache-Control"] == "no-store"


@TENANTS
def test_the_clerk_who_knows_the_code_gets_nowhere_without_the_mail(portal, clock, tenant):
    ana = enter(portal, clock, tenant)
    answer = fill(ana.browser().get("/activate"), number=ana.number, code=ana.code, new=GOOD)
    assert answer.status_int == 422
    assert "You also need the link that we emailed to you" in page_text(answer)
    assert "ana@example.org" not in answer.text and "Benedita" not in answer.text
    assert not ana.has_password()
    assert fill(ana.browser().get(ana.link()), code=ana.code, new=GOOD).status_int == 303


def test_whoever_reads_the_mailbox_gets_nowhere_without_the_code(portal, clock):
    ana = enter(portal, clock)
    link = ana.link()
    for code in ("AAAA-BBBB-CCCC", "0000-0000-0000", ana.number):
        answer = fill(ana.browser().get(link), code=code, new=GOOD)
        assert answer.status_int == 422
        assert "The code is not right" in page_text(answer)
    assert not ana.has_password()


def test_the_link_of_one_with_the_code_of_another(portal, clock):
    ana, rui = enter(portal, clock), enter(portal, clock, email="rui@example.org")
    answer = fill(ana.browser().get(ana.link()), code=rui.code, new=GOOD)
    assert answer.status_int == 422
    assert not ana.has_password() and not rui.has_password()


def test_the_link_of_the_other_institution(portal, clock):
    ana = enter(portal, clock, "laboratory")
    answer = portal.browser("hospital").get(ana.link(), expect_errors=True)
    assert answer.status_int == 410
    page = portal.browser("hospital").get("/activate")
    posted_there = portal.browser("hospital").post(
        "/activate",
        {
            "__formid__": "form",
            "link": ana.link().partition("=")[2],
            "code": ana.code,
            "new": GOOD,
            "again": GOOD,
        },
        expect_errors=True,
    )
    assert page.status_int == 200
    assert posted_there.status_int == 422
    assert not ana.has_password()


def test_two_tabs(portal, clock):
    ana = enter(portal, clock)
    link, browser = ana.link(), ana.browser()
    first, second = browser.get(link), browser.get(link)
    assert fill(first, code=ana.code, new=GOOD).status_int == 303
    late = fill(second, code=ana.code, new=OTHER)
    assert late.status_int == 422
    assert "has been used" in page_text(late)
    ana.signed_in(GOOD)


def test_a_form_sent_twice(portal, clock):
    ana = enter(portal, clock)
    page = ana.browser().get(ana.link())
    assert fill(page, code=ana.code, new=GOOD).status_int == 303
    assert fill(page, code=ana.code, new=GOOD).status_int == 422
    ana.signed_in()


def test_a_used_or_expired_link_says_what_to_do(portal, clock):
    ana = enter(portal, clock)
    link = ana.link()
    clock.forward(days=7)
    late = ana.browser().get(link, expect_errors=True)
    assert late.status_int == 410
    assert "This link no longer works" in page_text(late)
    assert late.html.find("a", class_="btn-primary")["href"] == "/reset"
    assert late.html.find(id="form") is None
    asked = fill(ana.browser().get("/reset"), number=ana.number)
    assert "Look into your email" in page_text(asked)
    # The code from the desk is still good: it was not touched.
    assert fill(ana.browser().get(ana.link()), code=ana.code, new=GOOD).status_int == 303
    assert ana.browser().get(ana.link(), expect_errors=True).status_int == 410


def test_a_form_whose_link_ran_out_meanwhile(portal, clock):
    ana = enter(portal, clock)
    page = ana.browser().get(ana.link())
    clock.forward(days=7)
    assert fill(page, code=ana.code, new=GOOD).status_int == 422
    assert not ana.has_password()


def test_a_mail_program_that_opens_links_uses_nothing_up(portal, clock):
    ana = enter(portal, clock)
    link = ana.link()
    for _ in range(3):
        portal.browser().get(link)
        portal.browser().app.head(link)
    assert fill(ana.browser().get(link), code=ana.code, new=GOOD).status_int == 303


def test_a_new_desk_code_leaves_the_link_alone_and_ends_the_old_code(portal, clock):
    ana = enter(portal, clock)
    link, old = ana.link(), ana.code
    ana.new_code()
    assert fill(ana.browser().get(link), code=old, new=GOOD).status_int == 422
    assert fill(ana.browser().get(link), code=ana.code, new=GOOD).status_int == 303


def test_a_weak_password_costs_nothing(portal, clock):
    ana = enter(portal, clock)
    browser = ana.browser()
    page = browser.get(ana.link())
    for new in ("short", "aaaaaaaaaaaaaaaaaaaaaaa", f"Benedita Couto {ana.number}"):
        answer = fill(page, code=ana.code, new=new)
        assert answer.status_int == 422
        assert answer.html.find(id="form-new")["aria-invalid"] == "true"
        page = answer
    # The page that says so is the form again: link and all.
    assert fill(page, code=ana.code, new=GOOD).status_int == 303


def test_the_two_passwords_differ(portal, clock):
    ana = enter(portal, clock)
    page = ana.browser().get(ana.link())
    assert fill(page, code=ana.code, new=GOOD, again=OTHER).status_int == 422
    assert not ana.has_password()


# -- the code alone ------------------------------------------------------------------------------


@TENANTS
def test_without_email_number_and_code_are_enough(portal, clock, tenant):
    rui = enter(portal, clock, tenant, email="")
    browser = rui.browser()
    answer = fill(
        browser.get("/activate"),
        number=f" {rui.number[:4]} {rui.number[4:]} ",
        code=rui.code,
        new=GOOD,
    )
    assert answer.status_int == 303
    assert ways_in(browser) == [READY]
    assert posted(portal, tenant, rui.id) == []
    rui.signed_in()


def test_whatever_is_wrong_gets_one_answer(portal, clock):
    rui, ana = enter(portal, clock, email=""), enter(portal, clock)
    activated = enter(portal, clock, email="", password=GOOD)
    expired = enter(portal, clock, email="")
    clock.forward(days=14)
    fresh = rui.new_code()
    answers = {
        page_text(fill(portal.browser().get("/activate"), number=number, code=code, new=GOOD))
        for number, code in [
            (rui.number, "AAAA-BBBB-CCCC"),
            ("99999999", fresh),
            ("nobody", fresh),
            (ana.number, "AAAA-BBBB-CCCC"),
            (activated.number, fresh),
            (expired.number, expired.code),
        ]
    }
    assert len(answers) == 1
    assert "The number and the code do not fit together" in answers.pop()


def test_a_desk_code_for_an_activated_account_without_email_changes_the_password(portal, clock):
    """Such a code takes two members of staff, see the approvals."""
    rui = enter(portal, clock, email="", password=OTHER)
    here = rui.signed_in(OTHER)
    browser = rui.browser()
    answer = fill(browser.get("/activate"), number=rui.number, code=rui.new_code(), new=GOOD)
    assert answer.status_int == 303
    assert ways_in(browser) == ["Your password has been changed. Sign in with the new one."]
    assert ("password-changed", "allowed") in rui.events()
    assert "sign-in" in here.get("/account", status=303).location
    rui.signed_in(GOOD)


def test_guessing_is_slowed_down_and_locks_nobody_out(portal, clock):
    rui = enter(portal, clock, email="")
    guesser = portal.browser()
    guesser.app.extra_environ["REMOTE_ADDR"] = "198.51.100.7"
    statuses = [
        fill(
            guesser.get("/activate"), number=rui.number, code="AAAA-BBBB-CCCC", new=GOOD
        ).status_int
        for _ in range(7)
    ]
    assert statuses[-1] == 429
    assert statuses[0] == 422
    answer = fill(rui.browser().get("/activate"), number=rui.number, code=rui.code, new=GOOD)
    assert answer.status_int == 303


def test_guessing_with_a_link_is_slowed_down(portal, clock):
    ana = enter(portal, clock)
    link = ana.link()
    statuses = [
        fill(ana.browser().get(link), code="AAAA-BBBB-CCCC", new=GOOD).status_int for _ in range(7)
    ]
    assert statuses[-1] == 429


# -- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "status"),
    [
        ("number", "１２３４", 422),
        ("number", "0000 0000", 422),
        ("number", "<script>alert(1)</script>", 422),
        ("number", "' OR 1=1 --", 422),
        ("number", "4" * 41, 422),
        ("number", "\x00", 400),
        ("code", "", 422),
        ("code", "x" * 61, 422),
        ("code", "AAAA-BBBB-CCCC\r\nBcc: x@example.org", 422),
        ("code", "ＡＡＡＡ-ＢＢＢＢ-ＣＣＣＣ", 422),
        ("code", "\u202eAAAA", 422),
        ("code", "A\x00", 400),
        ("new", "p" * 257, 422),
        ("new", "\x00" * 20, 400),
        ("new", "q" * 10_000_000, 413),
        ("link", "x" * 30_000, 400),
        ("link", "made up", 422),
        ("link", "<script>alert(1)</script>", 422),
    ],
)
def test_hostile_and_clumsy_input(portal, clock, field, value, status):
    fields = {
        "__formid__": "form",
        "number": "99999998",
        "code": "AAAA-BBBB-CCCC",
        "new": GOOD,
        "again": GOOD,
    }
    answer = portal.browser().post("/activate", fields | {field: value}, expect_errors=True)
    assert answer.status_int == status
    assert "<script>alert" not in answer.text


def test_a_form_with_two_of_everything(portal, clock):
    browser = portal.browser()
    token = browser.token()
    answer = browser.app.post(
        "/activate",
        [("csrf_token", token), ("number", "1"), ("number", "2"), ("link", "a"), ("link", "b")],
        expect_errors=True,
    )
    assert answer.status_int == 422


def test_without_the_token_of_the_page_nothing_happens(portal, clock):
    ana = enter(portal, clock)
    fields = {"link": ana.link().partition("=")[2], "code": ana.code, "new": GOOD, "again": GOOD}
    assert ana.browser().app.post("/activate", fields, expect_errors=True).status_int == 403
    assert not ana.has_password()


def test_a_suspended_account_is_told_what_everybody_is(portal, clock):
    ana = enter(portal, clock)
    link = ana.link()
    with ana.session() as session, session.begin():
        session.get(Account, ana.id).status = AccountStatus.SUSPENDED
    assert ana.browser().get(link, expect_errors=True).status_int == 410


# -- the desk ------------------------------------------------------------------------------------


def registration(portal, number, *, email="", tenant="hospital", name="Leonor Vaz"):
    clerk = portal.signed_in(
        {"hospital": "ward_clerk", "laboratory": "responsible"}[tenant], tenant
    )
    form = clerk.get("/patients/register").forms["form"]
    form["number"], form["name"] = number, name
    form["day"], form["month"], form["year"] = "3", "2", "1941"
    form["sex"] = "female"
    form["email"].force_value(email)
    return form.submit(expect_errors=True)


@TENANTS
def test_the_receipt_of_somebody_with_email(portal, clock, tenant):
    page = registration(portal, "42000001", email="Leonor@Example.org", tenant=tenant)
    text = page_text(page)
    assert STYLE_OF_CODES.fullmatch(page.html.find(id="activation-code").get_text())
    assert "We have emailed a link too" in text
    assert "example.org" not in page.text.lower().replace("hospital.example", "")
    (kind, address, path), *_ = mails_of(portal, tenant, "42000001", clock)
    assert (kind, address) == (MailKind.ACTIVATION, "Leonor@example.org")
    code = page.html.find(id="activation-code").get_text()
    assert fill(portal.browser(tenant).get(path), code=code, new=GOOD).status_int == 303


@TENANTS
def test_the_receipt_of_somebody_without_email(portal, clock, tenant):
    page = registration(portal, "42000002", tenant=tenant)
    text = page_text(page)
    assert "No email was sent" in text
    assert f"https://{tenant}.localhost:8443/activate" in text
    code = page.html.find(id="activation-code").get_text()
    answer = fill(portal.browser(tenant).get("/activate"), number="42000002", code=code, new=GOOD)
    assert answer.status_int == 303


def mails_of(portal, tenant, number, clock):
    return deliver(portal, tenant, clock.now, person_of(portal, tenant, number))


def person_of(portal, tenant, number):
    with portal.session(tenant) as session:
        return find_person(session, "citizen-card", number)


def test_somebody_who_was_known_in_a_harmless_role_begins_anew(portal, clock):
    """One administrator alone may have set that account up, with a mailbox of their own."""
    known = enter(portal, clock, email="admins-own@example.org", role="volunteer", password=OTHER)
    page = registration(portal, known.number, email="hers@example.org", name="Benedita Sá Couto")
    assert "what opened the account until now opens it no longer" in page_text(page)
    assert known.address() == "hers@example.org", "the planted mailbox gets no link any more"
    assert "example.org" not in page.text
    assert portal.browser().sign_in(known.number, OTHER).status_int == 401


@pytest.mark.parametrize("email", ["", "clerks-own@example.org"])
@pytest.mark.parametrize("activated", [True, False])
def test_a_clerk_alone_does_not_take_over_a_colleague(portal, clock, email, activated):
    known = enter(portal, clock, email="", role="porter", password=OTHER if activated else None)
    page = registration(portal, known.number, email=email, name="Benedita Sá Couto")
    assert page.status_int == 200 and "ask the administration for one" in page_text(page)
    assert page.html.find(id="activation-code") is None
    assert known.halves() is None
    clerk = portal.signed_in("ward_clerk")
    path = f"/patients/{known.id}/code"
    assert "takes two people" in page_text(clerk.get(path))
    refused = clerk.post(path, {}, expect_errors=True)
    assert refused.status_int == 422 and refused.html.find(id="activation-code") is None
    # By the administration: one asks, and whoever approves hands the code over.
    asked = do(portal.signed_in("admin"), f"/people/{known.id}/code", reason="person-asked")
    assert asked.status_int == 303 and known.halves() is None
    assert ("approval-requested", "allowed") in known.events()


def test_a_mailbox_that_is_not_typed_again_is_gone(portal, clock):
    known = enter(portal, clock, email="admins-own@example.org", role="volunteer", password=OTHER)
    with portal.session("hospital") as session, session.begin():
        email_change.request_by_staff(
            session, known.id, "other@example.org", "c" * 32, "d" * 32, clock(), timedelta()
        )
    registration(portal, known.number, name="Benedita Sá Couto")
    with portal.session("hospital") as session, session.begin():
        contact = contact_of(session, known.id)
        assert (contact.email, contact.phone) == ("", "")
        assert email_change.apply_due(session, clock()) == []
    told_at = mails_of(portal, "hospital", known.number, clock)
    assert [(kind, to) for kind, to, _link in told_at if kind is MailKind.EMAIL_CHANGED] == [
        (MailKind.EMAIL_CHANGED, "admins-own@example.org")
    ]


@pytest.mark.parametrize("page", ["register", "{patient}/code"])
def test_the_desk_asks_who_one_is(portal, clock, page):
    clerk = portal.signed_in("ward_clerk")
    path = "/patients/" + page.format(patient=portal.person("patient"))
    assert clerk.get(path).status_int == 200
    clock.forward(minutes=11)
    assert "/account/confirm" in clerk.get(path, status=303).location
    for _turn in range(2):
        clock.forward(minutes=10)
        clerk.get("/patients", status=200)
    assert "/account/confirm" in clerk.post(path, {}, status=303).location


def test_a_code_is_made_while_others_can_write(portal, clock, monkeypatch):
    patient = patient_without_email(portal, clock, "42000007")
    clerk, make = portal.signed_in("ward_clerk"), codes.make_code

    def make_slowly():
        with portal.session("hospital") as session, session.begin():
            session.execute(update(Person).values(city="Porto").where(Person.id == patient.id))
        return make()

    monkeypatch.setattr(codes, "make_code", make_slowly)
    shown = clerk.post(f"/patients/{patient.id}/code", {})
    assert shown.html.find(id="activation-code")
    assert ("code-issued", "allowed") in patient.events()


def test_somebody_whom_two_people_vouched_for_keeps_the_account(portal, clock):
    known = enter(portal, clock, role="nurse", password=OTHER)
    page = registration(portal, known.number, name="Benedita Sá Couto")
    assert "keeps the account" in page_text(page)
    assert page.html.find(id="activation-code") is None
    known.signed_in(OTHER)


@pytest.mark.parametrize(
    "email",
    [
        "not an address",
        "joão@example.org",
        "a@example.org\r\nBcc: b@example.org",
        "a@example.org, b@example.org",
        "<script>alert(1)</script>@example.org",
        "a@localhost",
        "x" * 250 + "@example.org",
    ],
)
def test_registration_refuses_what_is_no_address(portal, clock, email):
    answer = registration(portal, "42000003", email=email)
    assert answer.status_int == 422
    assert "That is not an email address that we can write to" in page_text(answer)
    assert "<script>alert" not in answer.text
    assert person_of(portal, "hospital", "42000003") is None


def test_spaces_in_place_of_an_address_are_none(portal, clock):
    assert registration(portal, "42000004", email="  ").status_int == 200
    with portal.session("hospital") as session:
        assert contact_of(session, person_of(portal, "hospital", "42000004")).email == ""


def patient_without_email(portal, clock, number):
    """Register a patient at the desk; return what tests know of them."""
    page = registration(portal, number)
    code = page.html.find(id="activation-code").get_text()
    person = person_of(portal, "hospital", number)
    return Waiting(portal, clock, "hospital", person, number, "", code)


def test_a_clerk_issues_a_new_code_after_a_look_at_the_card(portal, clock):
    patient = patient_without_email(portal, clock, "42000005")
    clerk = portal.signed_in("ward_clerk")
    link = clerk.get(f"/patients/{patient.id}").html.find("a", string=re.compile("^New code"))
    page = clerk.get(link["href"])
    text = page_text(page)
    assert "Check the citizen card first" in text and "Leonor Vaz" in text
    assert page.html.find(id="activation-code") is None, "to look at the page issues nothing"
    shown = clerk.post(link["href"], {})
    code = shown.html.find(id="activation-code").get_text()
    for given, status in ((patient.code, 422), (code, 303)):
        answer = fill(portal.browser().get("/activate"), number="42000005", code=given, new=GOOD)
        assert answer.status_int == status
    assert ("code-issued", "allowed") in patient.events()


def test_a_clerk_alone_issues_no_code_that_would_open_an_account_in_use(portal, clock):
    patient = patient_without_email(portal, clock, "42000006")
    answer = fill(portal.browser().get("/activate"), number="42000006", code=patient.code, new=GOOD)
    assert answer.status_int == 303
    clerk = portal.signed_in("ward_clerk")
    page = clerk.get(f"/patients/{patient.id}/code")
    assert "A new code for this account takes two people" in page_text(page)
    assert page.html.find("button", class_="btn-primary") is None
    refused = clerk.post(f"/patients/{patient.id}/code", {}, expect_errors=True)
    assert refused.status_int == 422
    assert refused.html.find(id="activation-code") is None
    assert ("code-issued", "denied") in patient.events()
    assert patient.halves() is None


def test_nobody_issues_a_code_for_themselves(portal, clock):
    """A clerk who is a patient too."""
    with portal.session("hospital") as session, session.begin():
        register_patient(
            session,
            Registration(
                "citizen-card",
                NUMBERS["ward_clerk"],
                Profile("Person ward_clerk", date(1980, 2, 3), "female"),
            ),
            (),
            by=None,
            now=clock(),
            vouching_roles=["ward_clerk"],
        )
    me = portal.person("ward_clerk")
    clerk = portal.signed_in("ward_clerk")
    assert "You cannot issue a code for yourself" in page_text(clerk.get(f"/patients/{me}/code"))
    assert clerk.post(f"/patients/{me}/code", {}, expect_errors=True).status_int == 422
    assert "New code" not in clerk.get(f"/patients/{me}").text


def test_whoever_is_no_patient_is_missing(portal, clock):
    clerk = portal.signed_in("ward_clerk")
    nobody = clerk.get(f"/patients/{'0' * 32}/code", expect_errors=True)
    staff = clerk.get(f"/patients/{portal.person('doctor')}/code", expect_errors=True)
    assert nobody.status_int == staff.status_int == 404
    assert page_text(nobody) == page_text(staff)
    assert clerk.post(f"/patients/{'0' * 32}/code", {}, expect_errors=True).status_int == 404


@pytest.mark.parametrize("role", ["doctor", "nurse", "porter", "admin", "patient", "auditor"])
def test_who_does_not_register_people_issues_no_codes(portal, clock, role):
    browser = portal.signed_in(role)
    for patient in (portal.person("patient"), "0" * 32):
        assert browser.get(f"/patients/{patient}/code", expect_errors=True).status_int == 404
        assert browser.post(f"/patients/{patient}/code", {}, expect_errors=True).status_int == 404


def test_nothing_that_opens_an_account_is_in_the_audit_log(portal, clock):
    ana = enter(portal, clock)
    token = ana.link().partition("=")[2]
    fill(ana.browser().get(ana.link()), code="AAAA-BBBB-CCCC", new=GOOD)
    fill(ana.browser().get(f"/activate?link={token}"), code=ana.code, new=GOOD)
    with portal.session("hospital") as session:
        bodies = b"".join(bytes(body) for body in session.scalars(select(AuditEvent.body)))
    for secret in (token, ana.code, ana.code.replace("-", ""), GOOD, ana.email, ana.number):
        assert secret.encode() not in bodies
