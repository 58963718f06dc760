"""My mail address: changing it, objecting to a change by staff."""

import re

import pytest
from access_helpers import GOOD, enter, fill, posted
from functional_helpers import page_text
from second_factor_helpers import told
from sqlalchemy import select

from medportal.audit.models import AuditEvent
from medportal.identity import email_change
from medportal.mail.kinds import MailKind

TENANTS = pytest.mark.parametrize("tenant", ["hospital", "laboratory"])
PAGE = "/account/email"
CLERK, COLLEAGUE = "c" * 32, "d" * 32


@pytest.fixture
def clock(clock):
    clock.forward(hours=2)
    return clock


@pytest.fixture
def ana(portal, clock):
    return enter(portal, clock, password=GOOD)


def change(browser, address):
    return fill(browser.get(PAGE), email=address)


def by_staff(person, address="staff@example.org"):
    delay = person.portal.settings.tenant(person.tenant).email_delay
    with person.session() as session, session.begin():
        return email_change.request_by_staff(
            session, person.id, address, CLERK, COLLEAGUE, person.clock.now, delay
        )


def flashes(browser):
    return [message for _kind, message, _numbers in told(browser)]


def actions(person):
    with person.session() as session:
        rows = session.execute(
            select(AuditEvent.action, AuditEvent.outcome)
            .where(AuditEvent.object == person.id, AuditEvent.action.startswith("email-"))
            .order_by(AuditEvent.at, AuditEvent.id)
        )
        return [tuple(row) for row in rows]


# -- one's own -----------------------------------------------------------------------------------


@TENANTS
def test_the_new_address_counts_when_its_link_was_opened(portal, clock, tenant):
    ana = enter(portal, clock, tenant, password=GOOD)
    browser = ana.signed_in()
    assert "ana@example.org" in page_text(browser.get(PAGE))
    assert change(browser, " New.Ana@EXAMPLE.net ").status_int == 303
    page = browser.get(PAGE)
    assert "waiting for you to open the link that we emailed to New.Ana@example.net" in page_text(
        page
    )
    assert ana.address() == "ana@example.org"
    path = ana.link(MailKind.EMAIL_CONFIRM)
    confirming = browser.get(path)
    assert ana.address() == "ana@example.org", "to open a link changes nothing"
    assert confirming.forms["form"].action == "/email/confirm"
    answer = fill(confirming)
    assert answer.status_int == 303
    assert flashes(browser) == ["Your email address has been changed."]
    assert ana.address() == "New.Ana@example.net"
    told_to = {(kind, to) for kind, to, _path in ana.read_mail()}
    assert told_to == {
        (MailKind.EMAIL_CONFIRM, "New.Ana@example.net"),
        (MailKind.EMAIL_REQUESTED, "ana@example.org"),
        (MailKind.EMAIL_CHANGED, "ana@example.org"),
        (MailKind.EMAIL_CHANGED, "New.Ana@example.net"),
    }
    assert actions(ana) == [
        ("email-change-requested", "allowed"),
        ("email-changed", "allowed"),
    ]


def test_a_link_is_good_once_and_for_a_day(portal, clock, ana):
    browser = ana.signed_in()
    change(browser, "new@example.net")
    page = browser.get(ana.link(MailKind.EMAIL_CONFIRM))
    assert fill(page).status_int == 303
    assert fill(page).status_int == 410
    change(browser, "newer@example.net")
    path = ana.link(MailKind.EMAIL_CONFIRM)
    clock.forward(days=1)
    late = ana.signed_in().get(path, expect_errors=True)
    assert late.status_int == 410
    assert "This link no longer works" in page_text(late)
    assert ana.address() == "new@example.net"


def test_a_stranger_who_got_the_mail_cannot_use_it(portal, clock, ana):
    rui = enter(portal, clock, email="rui@example.org", password=GOOD)
    change(ana.signed_in(), "rui@example.org")
    path = ana.link(MailKind.EMAIL_CONFIRM)
    assert "/sign-in" in portal.browser().get(path, status=303).location
    theirs = rui.signed_in()
    assert theirs.get(path, expect_errors=True).status_int == 410
    fields = {"__formid__": "form", "link": path.partition("=")[2]}
    assert theirs.post("/email/confirm", fields, expect_errors=True).status_int == 410
    assert ana.address() == "ana@example.org"


def test_the_link_of_the_other_institution(portal, clock, ana):
    other = enter(portal, clock, "laboratory", password=GOOD)
    change(other.signed_in(), "new@example.net")
    path = other.link(MailKind.EMAIL_CONFIRM)
    assert ana.signed_in().get(path, expect_errors=True).status_int == 410


def test_whoever_sits_down_at_somebody_elses_screen_is_asked_who_it_is(portal, clock, ana):
    browser = ana.signed_in()
    page = browser.get(PAGE)
    clock.forward(minutes=25)
    assert "/account/confirm" in browser.get(PAGE, status=303).location
    browser.get("/account")
    clock.forward(minutes=6)
    assert "/account/confirm" in fill(page, email="thief@example.net").location
    assert posted(portal, "hospital", ana.id) == []


def test_one_calls_ones_own_change_off(portal, clock, ana):
    browser = ana.signed_in()
    change(browser, "new@example.net")
    path = ana.link(MailKind.EMAIL_CONFIRM)
    page = browser.get(PAGE)
    form = next(f for f in page.forms.values() if f.action == "/account/email/cancel")
    assert form.submit().status_int == 303
    assert browser.get(path, expect_errors=True).status_int == 410
    assert form.submit().status_int == 303, "sent twice, it is said in words"
    assert actions(ana)[-1] == ("email-change-cancelled", "allowed")


def test_two_wishes_at_once_the_later_one_counts(portal, clock, ana):
    browser = ana.signed_in()
    one, two = browser.get(PAGE), browser.get(PAGE)
    fill(one, email="one@example.net")
    first = ana.link(MailKind.EMAIL_CONFIRM)
    fill(two, email="two@example.net")
    assert browser.get(first, expect_errors=True).status_int == 410
    assert fill(browser.get(ana.link(MailKind.EMAIL_CONFIRM))).status_int == 303
    assert ana.address() == "two@example.net"


def test_the_address_cannot_be_removed_only_changed(portal, clock, ana):
    browser = ana.signed_in()
    assert change(browser, "").status_int == 422
    assert change(browser, "   ").status_int == 422
    assert ana.address() == "ana@example.org"


def test_the_same_address_is_no_change(portal, clock, ana):
    answer = change(ana.signed_in(), "ANA@example.org")
    assert answer.status_int == 422
    assert "the address that we have already" in page_text(answer)
    assert actions(ana) == [("email-change-requested", "denied")]


def test_somebody_who_asks_too_often_waits(portal, clock, ana):
    browser = ana.signed_in()
    statuses = [change(browser, f"n{n}@example.net").status_int for n in range(4)]
    assert statuses == [303, 303, 303, 422]


@pytest.mark.parametrize(
    ("typed", "status"),
    [
        ("no address", 422),
        ("a@example.net\r\nBcc: b@example.net", 422),
        ("a@example.net\nSubject: Hello", 422),
        ("a@example.net,b@example.net", 422),
        ("<script>alert(1)</script>@example.net", 422),
        ("joão@example.net", 422),
        ("a\uff20example.net", 422),
        ("a@[127.0.0.1]", 422),
        ("a@localhost", 422),
        ('"a b"@example.net', 422),
        ("a" * 255 + "@example.net", 422),
        ("a@example.net\x00", 400),
        ("a@example.net" * 1_000_000, 413),
    ],
)
def test_hostile_and_clumsy_addresses(portal, clock, ana, typed, status):
    fields = {"__formid__": "form", "email": typed}
    answer = ana.signed_in().post(PAGE, fields, expect_errors=True)
    assert answer.status_int == status
    assert "<script>alert" not in answer.text
    assert posted(portal, "hospital", ana.id) == []


def test_a_look_alike_domain_is_shown_for_what_it_is(portal, clock, ana):
    """The second letter of the domain is Cyrillic."""
    browser = ana.signed_in()
    assert change(browser, "ana@ex\u0430mple.org").status_int == 303
    assert "ana@xn--exmple-4nf.org" in page_text(browser.get(PAGE))


def test_nobody_reaches_it_without_signing_in(portal, clock):
    for path in (PAGE, "/email/confirm?link=made-up"):
        assert "/sign-in" in portal.browser().get(path, status=303).location


# -- the staff's ---------------------------------------------------------------------------------


@TENANTS
def test_the_holder_sees_and_calls_off_what_staff_asked_for(portal, clock, tenant):
    ana = enter(portal, clock, tenant, password=GOOD)
    by_staff(ana)
    assert (MailKind.EMAIL_BY_STAFF, "ana@example.org", "") in ana.read_mail()
    browser = ana.signed_in()
    page = browser.get(PAGE)
    text = page_text(page)
    assert "Our staff is going to change your address to staff@example.org on" in text
    assert page.html.find("button", string=re.compile("Keep my present address"))
    form = next(f for f in page.forms.values() if f.action == "/account/email/cancel")
    assert form.submit().status_int == 303
    assert "staff@example.org" not in page_text(browser.get(PAGE))
    clock.forward(hours=73)
    portal.jobs(tenant).turn(clock.now)
    assert ana.address() == "ana@example.org"
    assert actions(ana) == [("email-change-cancelled", "allowed")]


@TENANTS
def test_nobody_objects_and_the_jobs_change_it(portal, clock, tenant):
    ana = enter(portal, clock, tenant, password=GOOD)
    by_staff(ana)
    portal.jobs(tenant).turn(clock.now)
    assert ana.address() == "ana@example.org"
    clock.forward(hours=72)
    jobs = portal.jobs(tenant)
    jobs.turn(clock.now)
    assert ana.address() == "staff@example.org"
    assert ("email-changed", "allowed") in actions(ana)
    jobs.turn(clock.now)
    assert actions(ana).count(("email-changed", "allowed")) == 1
    told_to = {to for kind, to, _path in ana.read_mail() if kind is MailKind.EMAIL_CHANGED}
    assert told_to == {"ana@example.org", "staff@example.org"}


def test_nobody_calls_off_anothers_change(portal, clock, ana):
    rui = enter(portal, clock, email="rui@example.org", password=GOOD)
    pending = by_staff(ana)
    browser = rui.signed_in()
    for change_id in (pending, "", "x" * 500, "0" * 32):
        answer = browser.post("/account/email/cancel", {"change": change_id})
        assert answer.status_int == 303
    clock.forward(hours=72)
    portal.jobs("hospital").turn(clock.now)
    assert ana.address() == "staff@example.org"


def test_housekeeping_gives_up_what_nobody_confirmed(portal, clock, ana):
    browser = ana.signed_in()
    change(browser, "new@example.net")
    clock.forward(days=8)
    portal.jobs("hospital").turn(clock.now)
    assert "new@example.net" not in page_text(ana.signed_in().get(PAGE))
