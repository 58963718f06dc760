"""A forgotten password: asking for a link, choosing another with a second half."""

import re

import pyotp
import pytest
from access_helpers import GOOD, OTHER, enter, fill, posted
from functional_helpers import page_text
from second_factor_helpers import begin, confirm, shown_codes, shown_key, told
from sqlalchemy import event, func, select

from medportal.audit.models import AuditEvent
from medportal.identity import codes
from medportal.identity.models import Account, AccountStatus, SignInThrottle, Totp
from medportal.identity.throttle import FREE_TRIES_PAIR
from medportal.identity.totp import MOST_IN_A_ROW
from medportal.identity.views import reset as views
from medportal.mail.kinds import MailKind
from medportal.mail.models import OutgoingMail

TENANTS = pytest.mark.parametrize("tenant", ["hospital", "laboratory"])
CHANGED = "Your password has been changed. Sign in with the new one."
REFUSED = "That code is not right"
SHORT = "nine oars"
#: How SQLite begins what only reads.
READING = "BEGIN DEFERRED"


@pytest.fixture
def clock(clock):
    # Those who asked before from the same address are forgotten.
    clock.forward(hours=2)
    return clock


@pytest.fixture
def ana(portal, clock):
    """Give somebody with an account and an address."""
    return enter(portal, clock, password=OTHER)


def ask(portal, number, tenant="hospital", address="127.0.0.1"):
    browser = portal.browser(tenant)
    browser.app.extra_environ["REMOTE_ADDR"] = address
    return fill(browser.get("/reset"), number=number)


def link(person):
    """Ask for a link, and return it as it is in the mail."""
    answer = ask(person.portal, person.number, person.tenant)
    assert answer.status_int == 200, answer.text
    return person.link(MailKind.RESET)


def set_app_up(person, password=OTHER):
    """Set an authenticator app up; return its secret and the recovery codes."""
    browser = person.signed_in(password)
    page = begin(browser)
    secret = shown_key(page)
    answer = confirm(page, pyotp.TOTP(secret).at(person.clock.now))
    person.clock.forward(seconds=30)
    return secret, shown_codes(answer)


def app_code(person, secret):
    return pyotp.TOTP(secret).at(person.clock.now)


def flashes(browser):
    return [message for _kind, message, _numbers in told(browser)]


# -- asking --------------------------------------------------------------------------------------


@TENANTS
def test_everybody_is_told_the_same(portal, clock, tenant):
    people = {
        "with an address": enter(portal, clock, tenant, password=OTHER),
        "without": enter(portal, clock, tenant, password=OTHER, email=""),
        "not activated": enter(portal, clock, tenant),
        "suspended": enter(portal, clock, tenant, password=OTHER),
    }
    with portal.session(tenant) as session, session.begin():
        session.get(Account, people["suspended"].id).status = AccountStatus.SUSPENDED
    numbers = [person.number for person in people.values()]
    answers = [ask(portal, number, tenant) for number in [*numbers, "99999997", "nobody"]]
    assert {answer.status_int for answer in answers} == {200}
    assert len({page_text(answer) for answer in answers}) == 1
    assert "If there is an account with this number" in page_text(answers[0])
    mails = {name: posted(portal, tenant, person.id) for name, person in people.items()}
    assert mails == {
        "with an address": [("reset", "waiting")],
        "without": [],
        # One from the registration, one asked for here.
        "not activated": [("activation", "waiting"), ("activation", "waiting")],
        "suspended": [],
    }


def test_asking_runs_the_same_statements_whoever_is_asked_for(portal, clock, ana):
    nobody = enter(portal, clock, password=OTHER, email="")
    engine = portal.app.registry["tenants"].database("hospital").engine
    statements = []

    def note(_connection, _cursor, statement, *_rest):
        statements.append(re.sub(r"\s+", " ", statement))

    seen = []
    for number in (ana.number, nobody.number, "99999996"):
        browser = portal.browser()
        form = browser.get("/reset").forms["form"]
        form["number"] = number
        statements.clear()
        event.listen(engine, "before_cursor_execute", note)
        try:
            assert form.submit().status_int == 200
        finally:
            event.remove(engine, "before_cursor_execute", note)
        # Settings are looked at every two seconds, whoever asks.
        seen.append([s for s in statements if "settings_version" not in s and s != READING])
    assert any("INSERT INTO outgoing_mail" in statement for statement in seen[2])
    # What was written for somebody who gets no mail is taken back.
    assert [s.replace("ROLLBACK TO", "RELEASE") for s in seen[1]] == seen[0]
    assert seen[1] == seen[2]
    with portal.session("hospital") as session:
        strangers = session.scalars(
            select(OutgoingMail.id).where(OutgoingMail.address == "nobody@invalid")
        )
        assert strangers.all() == []


def test_somebody_gets_three_mails_an_hour_however_often_a_stranger_asks(portal, clock, ana):
    for n in range(6):
        assert ask(portal, ana.number, address=f"198.51.100.{n}").status_int == 200
    assert posted(portal, "hospital", ana.id) == [("reset", "waiting")] * 3
    # The newest of them works.
    code = ana.new_code()
    answer = fill(ana.browser().get(ana.link(MailKind.RESET)), code=code, new=GOOD)
    assert answer.status_int == 303


def test_a_stranger_does_not_end_the_link_that_somebody_is_about_to_open(portal, clock, ana):
    path, code = link(ana), ana.new_code()
    before = posted(portal, "hospital", ana.id)
    clock.forward(minutes=14)
    told = page_text(ask(portal, ana.number, address="198.51.100.9"))
    assert told == page_text(ask(portal, "99999993", address="198.51.100.9"))
    assert posted(portal, "hospital", ana.id) == before
    ana.read_mail()
    assert fill(ana.browser().get(path), code=code, new=GOOD).status_int == 303
    # That link is used up: whoever forgot the password again gets another at once.
    assert fill(ana.browser().get(link(ana)), code=ana.new_code(), new=OTHER).status_int == 303


def test_after_a_quarter_of_an_hour_a_mail_that_got_lost_is_replaced(portal, clock, ana):
    link(ana)
    clock.forward(minutes=15)
    ask(portal, ana.number)
    assert posted(portal, "hospital", ana.id) == [("reset", "sent"), ("reset", "waiting")]


def test_mails_that_served_their_purpose_do_not_count_against_a_new_wish(portal, clock):
    ana = enter(portal, clock)
    for _ in range(2):
        assert ask(portal, ana.number).status_int == 200
    clock.forward(minutes=1)
    page = ana.browser().get(ana.link())
    answer = fill(page, code=ana.code, new=GOOD)
    assert answer.status_int == 303, answer.text
    for n in range(3):
        clock.forward(minutes=1)
        path = link(ana)
        page = ana.browser().get(path)
        answer = fill(page, code=ana.new_code(), new=(OTHER, GOOD)[n % 2])
        assert answer.status_int == 303
    clock.forward(minutes=1)
    assert ana.browser().get(link(ana)).status_int == 200


@pytest.mark.parametrize("known", [True, False])
def test_whoever_asks_again_and_again_waits(portal, clock, ana, known):
    number = ana.number if known else "99999995"
    statuses = [ask(portal, number).status_int for _ in range(FREE_TRIES_PAIR + 2)]
    assert statuses[:FREE_TRIES_PAIR] == [200] * FREE_TRIES_PAIR
    assert statuses[-1] == 429


def test_each_wish_is_in_the_audit_log_without_the_number(portal, clock, ana):
    ask(portal, ana.number)
    ask(portal, "99999994")
    with portal.session("hospital") as session:
        events = session.execute(
            select(AuditEvent.object, AuditEvent.body)
            .where(AuditEvent.action == "link-requested")
            .order_by(AuditEvent.at.desc(), AuditEvent.id)
            .limit(2)
        ).all()
    assert {event.object for event in events} == {ana.id, None}
    assert not any(ana.number.encode() in bytes(event.body) for event in events)


@pytest.mark.parametrize(
    ("number", "status"),
    [
        ("", 422),
        ("4" * 41, 422),
        ("１２３４５６７８", 200),
        (" 4100 0001 ", 200),
        ("<script>alert(1)</script>", 200),
        ("x\r\nBcc: a@example.org", 200),
        ("1\x00", 400),
        ("4" * 10_000_000, 413),
    ],
)
def test_hostile_and_clumsy_numbers(portal, clock, number, status):
    answer = portal.browser().post(
        "/reset", {"__formid__": "form", "number": number}, expect_errors=True
    )
    assert answer.status_int == status
    assert "<script>alert" not in answer.text


def test_the_sign_in_page_leads_there_and_says_what_to_do_without_email(portal, clock):
    page = portal.browser().get("/sign-in")
    found = page.html.find("a", href="/reset")
    assert found.get_text() == "I have forgotten my password"
    text = page_text(portal.browser().get("/reset"))
    assert "Go to the desk with your citizen card." in text


# -- finishing with a code from the desk ---------------------------------------------------------


@TENANTS
def test_link_and_desk_code_make_a_new_password(portal, clock, tenant):
    ana = enter(portal, clock, tenant, password=OTHER)
    here = ana.signed_in(OTHER)
    browser = ana.browser()
    page = browser.get(link(ana))
    assert "a code from the desk" in page_text(page)
    assert page.forms["form"].action == "/reset/finish"
    assert "Benedita" not in page.text and ana.number not in page.text
    answer = fill(page, code=ana.new_code(), new=GOOD)
    assert answer.status_int == 303
    assert flashes(browser) == [CHANGED]
    assert "sign-in" in here.get("/account", status=303).location
    assert browser.sign_in(ana.number, OTHER).status_int == 401
    ana.signed_in(GOOD)
    assert ("password-changed", "allowed") in ana.events()
    assert (MailKind.PASSWORD_CHANGED, ana.email, "") in ana.read_mail()
    assert ana.halves() is None


def test_whoever_reads_the_mailbox_gets_nowhere(portal, clock, ana):
    ana.new_code()
    path = link(ana)
    answer = fill(ana.browser().get(path), code="AAAA-BBBB-CCCC", new=GOOD)
    assert answer.status_int == 422
    assert REFUSED in page_text(answer)
    ana.signed_in(OTHER)


def test_a_code_without_a_link_gets_nowhere(portal, clock, ana):
    answer = fill(ana.browser().get("/activate"), number=ana.number, code=ana.new_code(), new=GOOD)
    assert answer.status_int == 422
    assert "You also need the link" in page_text(answer)
    ana.signed_in(OTHER)


def test_a_link_of_one_and_a_code_of_another(portal, clock, ana):
    rui = enter(portal, clock, email="rui@example.org", password=OTHER)
    ana.new_code()
    answer = fill(ana.browser().get(link(ana)), code=rui.new_code(), new=GOOD)
    assert answer.status_int == 422
    ana.signed_in(OTHER)
    rui.signed_in(OTHER)


def test_the_link_of_the_other_institution(portal, clock):
    ana = enter(portal, clock, "laboratory", password=OTHER)
    answer = portal.browser("hospital").get(link(ana), expect_errors=True)
    assert answer.status_int == 410


def test_a_first_link_is_no_link_for_a_new_password(portal, clock, ana):
    new = enter(portal, clock)
    token = new.link().partition("=")[2]
    assert new.browser().get(f"/reset/finish?link={token}", expect_errors=True).status_int == 410
    token = link(ana).partition("=")[2]
    assert ana.browser().get(f"/activate?link={token}", expect_errors=True).status_int == 410


def test_a_link_is_good_for_a_day_and_once(portal, clock, ana):
    path = link(ana)
    code = ana.new_code()
    page = ana.browser().get(path)
    assert fill(page, code=code, new=GOOD).status_int == 303
    again = fill(page, code=code, new=OTHER)
    assert again.status_int == 410
    assert "This link no longer works" in page_text(again)
    path = link(ana)
    clock.forward(days=1)
    assert ana.browser().get(path, expect_errors=True).status_int == 410


def test_a_newer_mail_ends_the_older_link(portal, clock, ana):
    first = link(ana)
    clock.forward(minutes=15)
    second = link(ana)
    assert first != second
    assert ana.browser().get(first, expect_errors=True).status_int == 410
    assert ana.browser().get(second).status_int == 200


def test_a_changed_password_ends_links_and_codes(portal, clock, ana):
    """Whoever remembered it after all does not leave a way in lying in the mailbox."""
    path = link(ana)
    ana.new_code()
    form = ana.signed_in(OTHER).get("/account/password").forms["form"]
    form["old"], form["new"], form["again"] = OTHER, GOOD, GOOD
    assert form.submit().status_int == 303
    assert ana.halves() is None
    assert ana.browser().get(path, expect_errors=True).status_int == 410


def test_a_suspended_account_has_no_way_in(portal, clock, ana):
    path = link(ana)
    code = ana.new_code()
    page = ana.browser().get(path)
    with ana.session() as session, session.begin():
        session.get(Account, ana.id).status = AccountStatus.SUSPENDED
    assert ana.browser().get(path, expect_errors=True).status_int == 410
    assert fill(page, code=code, new=GOOD).status_int == 410


def test_after_eight_wrong_codes_the_link_is_void(portal, clock, ana):
    path = link(ana)
    code = ana.new_code()
    browser = ana.browser()
    page = browser.get(path)
    for _ in range(8):
        assert fill(page, code="AAAA-BBBB-CCCC", new=GOOD).status_int == 422
        clock.forward(minutes=2)
    assert fill(page, code=code, new=GOOD).status_int == 410
    # A new link, and the code is as good as before.
    assert fill(browser.get(link(ana)), code=code, new=GOOD).status_int == 303


def test_a_weak_password_costs_nothing(portal, clock, ana):
    path = link(ana)
    code = ana.new_code()
    page = ana.browser().get(path)
    for new in ("short", SHORT, "aaaaaaaaaaaaaaaaaaaa"):
        page = fill(page, code=code, new=new)
        assert page.status_int == 422
        assert page.html.find(id="form-new")["aria-invalid"] == "true"
    assert fill(page, code=code, new=GOOD).status_int == 303


# -- finishing with a second factor --------------------------------------------------------------


@TENANTS
def test_link_and_app_make_a_new_password_which_may_be_shorter(portal, clock, tenant):
    ana = enter(portal, clock, tenant, password=OTHER, role="auditor")
    secret, _codes = set_app_up(ana)
    page = ana.browser().get(link(ana))
    assert "the second proof that you set up" in page_text(page)
    assert "At least 8 characters" in page.text
    answer = fill(page, code=app_code(ana, secret), new=SHORT)
    assert answer.status_int == 303
    browser = ana.browser()
    assert "/sign-in/second" in browser.sign_in(ana.number, SHORT).location


def test_link_and_recovery_code(portal, clock, ana):
    _secret, recovery = set_app_up(ana)
    page = ana.browser().get(link(ana))
    assert fill(page, code=recovery[0].lower(), new=GOOD).status_int == 303
    again = ana.browser().get(link(ana))
    assert fill(again, code=recovery[0], new=GOOD).status_int == 422


def test_a_desk_code_does_not_take_the_place_of_a_second_factor(portal, clock, ana):
    set_app_up(ana)
    page = ana.browser().get(link(ana))
    answer = fill(page, code=ana.new_code(), new=GOOD)
    assert answer.status_int == 422
    assert REFUSED in page_text(answer)


def test_a_code_of_the_app_is_taken_once(portal, clock, ana):
    secret, _codes = set_app_up(ana)
    code = app_code(ana, secret)
    assert fill(ana.browser().get(link(ana)), code=code, new=GOOD).status_int == 303
    assert fill(ana.browser().get(link(ana)), code=code, new=GOOD).status_int == 422
    browser = ana.browser()
    browser.sign_in(ana.number, GOOD)
    assert fill(browser.get("/sign-in/second"), code=code).status_int == 401


def test_a_thief_with_the_mailbox_guesses_from_many_addresses(portal, clock, ana):
    """Eight tries a link, however many addresses there are."""
    secret, _codes = set_app_up(ana)
    path = link(ana)
    browser = ana.browser()
    wrong = f"{(int(app_code(ana, secret)) + 1) % 1_000_000:06d}"
    statuses = []
    for n in range(12):
        browser.app.extra_environ["REMOTE_ADDR"] = f"198.51.100.{n}"
        clock.forward(minutes=6)
        fields = {
            "__formid__": "form",
            "link": path.partition("=")[2],
            "code": wrong,
            "new": GOOD,
            "again": GOOD,
        }
        statuses.append(browser.post("/reset/finish", fields, expect_errors=True).status_int)
    assert statuses.count(422) <= 8
    assert statuses[-1] == 410


def written(portal):
    """Return how many rows strangers could have added."""
    with portal.session("hospital") as session:
        return [session.query(model).count() for model in (AuditEvent, SignInThrottle)]


def test_links_that_are_made_up_leave_nothing(portal, clock):
    """Nobody fills the audit log, or the counters, without knowing anything."""
    before, browser = written(portal), portal.browser()
    for n in range(12):
        fields = {"__formid__": "form", "link": f"made-up-{n}", "code": "1", "new": GOOD}
        browser.post("/reset/finish", fields | {"again": GOOD}, status=410)
        browser.post("/activate", fields | {"again": GOOD}, status=422)
    assert written(portal) == before


def test_whoever_guesses_with_a_link_waits_and_costs_no_hash(portal, clock, ana, monkeypatch):
    hashed = []
    for module, name in ((views, "hash_password"), (codes, "_hash")):
        real = getattr(module, name)

        def counted(*given, real=real):
            hashed.append(1)
            return real(*given)

        monkeypatch.setattr(module, name, counted)
    ana.new_code()
    page = ana.browser().get(link(ana))
    for _ in range(FREE_TRIES_PAIR + 1):
        assert fill(page, code="AAAA-BBBB-CCCC", new=GOOD).status_int == 422
    hashed.clear()
    answer = fill(page, code="AAAA-BBBB-CCCC", new=GOOD)
    assert answer.status_int == 429 and int(answer.headers["Retry-After"]) > 0
    assert hashed == []


def test_codes_of_a_second_factor_are_throttled_before_the_hash(portal, clock, ana, monkeypatch):
    set_app_up(ana)
    path = link(ana)
    browser = portal.browser()
    # From many addresses, with the password: the codes have to wait wherever they come from.
    for n in range(FREE_TRIES_PAIR + 1):
        browser.app.extra_environ["REMOTE_ADDR"] = f"198.51.100.{n}"
        browser.sign_in(ana.number, OTHER)
        assert fill(browser.get("/sign-in/second"), code="000000").status_int == 401
    monkeypatch.setattr(views, "hash_password", None)
    answer = fill(ana.browser().get(path), code="000000", new=GOOD)
    assert answer.status_int == 429


def test_after_a_hundred_wrong_codes_a_link_and_the_app_are_not_enough(portal, clock, ana):
    secret, recovery_codes = set_app_up(ana)
    with ana.session() as session, session.begin():
        session.get(Totp, ana.id).wrong_in_a_row = MOST_IN_A_ROW
    page = ana.browser().get(link(ana))
    answer = fill(page, code=app_code(ana, secret), new=GOOD)
    assert answer.status_int == 422
    assert "Too many wrong codes were tried for this account." in page_text(answer)
    assert fill(page, code=recovery_codes[0], new=GOOD).status_int == 303


@pytest.mark.parametrize(
    ("field", "value", "status"),
    [
        ("code", "", 422),
        ("code", "x" * 61, 422),
        ("code", "１２３４５６", 422),
        ("code", "<script>alert(1)</script>", 422),
        ("code", "\x00", 400),
        ("again", "something else entirely", 422),
        ("new", "p" * 10_000_000, 413),
        ("link", "", 410),
        ("link", "made up", 410),
        ("link", "x" * 30_000, 410),
        ("link", "\ud7ff\u202e", 410),
    ],
)
def test_hostile_and_clumsy_input(portal, clock, ana, field, value, status):
    ana.new_code()
    fields = {
        "__formid__": "form",
        "link": link(ana).partition("=")[2],
        "code": "AAAA-BBBB-CCCC",
        "new": GOOD,
        "again": GOOD,
    }
    answer = ana.browser().post("/reset/finish", fields | {field: value}, expect_errors=True)
    assert answer.status_int == status
    assert "<script>alert" not in answer.text
    ana.signed_in(OTHER)


def test_no_secret_is_kept_anywhere_that_it_could_be_read(portal, clock, ana):
    path = link(ana)
    code = ana.new_code()
    fill(ana.browser().get(path), code=code, new=GOOD)
    with portal.session("hospital") as session:
        bodies = b"".join(bytes(body) for body in session.scalars(select(AuditEvent.body)))
        params = "".join(session.scalars(select(OutgoingMail.params)))
        kept = session.scalar(select(func.count()).select_from(OutgoingMail))
    assert kept
    for secret in (path.partition("=")[2], code, GOOD):
        assert secret.encode() not in bodies
        assert secret not in params
