"""Passkeys in a browser's terms, at both institutions: add, use, name, remove."""

import base64
import json
import re
from datetime import date, timedelta

import pytest
from admin_helpers import unused_number
from functional_helpers import page_text
from software_authenticator import HONEST, PRESENT, Authenticator
from sqlalchemy import select, update

from medportal.audit.models import AuditEvent
from medportal.core.clock import utcnow
from medportal.identity import passkeys, throttle
from medportal.identity.credentials import set_password
from medportal.identity.models import (
    Account,
    LoginSession,
    PasskeyChallenge,
    RecoveryCode,
    SignInThrottle,
)
from medportal.identity.people import Profile, register_person
from medportal.mail.models import OutgoingMail

PASSWORD = "quiet rivers carry small boats"
OPTIONS, USE = "/sign-in/passkey/options", "/sign-in/passkey"
NEW_OPTIONS, ADD = "/account/passkeys/options", "/account/passkeys/add"
TENANTS = ("hospital", "laboratory")
ORIGINS = {name: f"https://{name}.localhost:8443" for name in TENANTS}


@pytest.fixture(autouse=True)
def _no_waiting(portal):
    """Begin each test without failures or challenges of the one before."""
    for tenant in TENANTS:
        with portal.session(tenant) as session, session.begin():
            for model in (SignInThrottle, PasskeyChallenge):
                session.query(model).delete()


@pytest.fixture
def person(portal):
    """Return a maker of people of these tests' own, by tenant and role: id and number."""

    def make(tenant="hospital", role="auditor", password=PASSWORD):
        number = unused_number()
        policy = portal.settings.tenant(tenant).passwords
        profile = Profile(
            "Ana <b>Reis</b>", date(1980, 2, 3), "female", email="ana@example.org", language="en"
        )
        with portal.session(tenant) as session, session.begin():
            person_id = register_person(
                session,
                scheme="citizen-card",
                number=number,
                profile=profile,
                role=role,
                by=None,
                now=utcnow(),
            ).person_id
            set_password(session, person_id, policy, password, utcnow())
        return person_id, number

    return make


def signed_in(portal, number, tenant="hospital"):
    browser = portal.browser(tenant)
    assert browser.sign_in(number).status_int == 303
    return browser


def add(browser, device, name="", **lies):
    """Add a passkey as the script does; return the page that comes next."""
    options = browser.post(NEW_OPTIONS, {"purpose": "add"}).json
    answer = device.create(options, ORIGINS[browser.tenant], **lies)
    return browser.post(ADD, {"purpose": "add", "name": name, "credential": json.dumps(answer)})


def use(browser, device, purpose="sign-in", next_path="/", **lies):
    """Use a passkey as the script does; return the answer to its form."""
    options = browser.post(OPTIONS, {"purpose": purpose}).json
    answer = device.get(options, lies.pop("origin", ORIGINS[browser.tenant]), **lies)
    return send(browser, answer, purpose, next_path)


def send(browser, answer, purpose="sign-in", next_path="/"):
    fields = {"purpose": purpose, "next": next_path, "credential": json.dumps(answer)}
    return browser.post(USE, fields, expect_errors=True)


def with_passkey(portal, person, tenant="hospital", **kw):
    """Return a person with a passkey: id, number, device."""
    person_id, number = person(tenant, **kw)
    device = Authenticator()
    add(signed_in(portal, number, tenant), device)
    return person_id, number, device


def told(browser):
    """Return what the next page tells, as it is said in English before any translation."""
    cookie = browser.cookies["__Host-flash"].strip('"')
    return " ".join(text for _kind, text, _numbers in json.loads(base64.urlsafe_b64decode(cookie)))


def events(portal, person_id, tenant="hospital"):
    from medportal.audit.models import AuditEvent as E

    with portal.session(tenant) as session:
        rows = session.execute(
            select(E.action, E.outcome, E.body).where(E.actor == person_id).order_by(E.at, E.id)
        )
        return [(r.action, r.outcome, bytes(r.body)) for r in rows]


def mails(portal, person_id, tenant="hospital"):
    with portal.session(tenant) as session:
        rows = session.scalars(select(OutgoingMail).where(OutgoingMail.person_id == person_id))
        return sorted((str(row.kind), row.params) for row in rows)


@pytest.mark.parametrize("tenant", TENANTS)
def test_add_one_and_sign_in_with_it(portal, person, tenant):
    person_id, number = person(tenant)
    device = Authenticator()
    shown = add(signed_in(portal, number, tenant), device, "My phone")
    codes = re.findall(r"\b[0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]{4}\b", shown.text)
    assert len(codes) == 10

    browser = portal.browser(tenant)
    answer = use(browser, device, next_path="/account")
    assert (answer.status_int, answer.location) == (303, f"{ORIGINS[tenant]}/account")
    page = browser.get("/account/second-factor")
    assert "My phone" in page_text(page)
    done = events(portal, person_id, tenant)
    assert sorted((action, outcome) for action, outcome, _body in done) == [
        ("recovery-codes-made", "allowed"),
        ("second-factor-added", "allowed"),
        ("sign-in", "allowed"),
        ("sign-in", "allowed"),
    ]
    by_passkey = [action for action, _outcome, body in done if b"passkey" in body]
    assert sorted(by_passkey) == ["second-factor-added", "sign-in"]
    assert ("second-factor-added", '{"factor": "passkey"}') in mails(portal, person_id, tenant)


def test_the_session_counts_as_having_a_second_factor_from_then_on(portal, person):
    person_id, number = person()
    browser = signed_in(portal, number)
    before = browser.cookies["__Host-hospital-session"]
    add(browser, Authenticator())
    assert browser.cookies["__Host-hospital-session"] != before
    with portal.session("hospital") as session:
        [methods] = session.scalars(
            select(LoginSession.methods).where(LoginSession.person_id == person_id)
        )
    assert methods == "passkey password"
    assert browser.get("/account").status_int == 200
    thief = portal.browser()
    thief.app.set_cookie("__Host-hospital-session", before)
    assert "sign-in" in thief.get("/account", status=303).location


def test_a_second_passkey_makes_no_new_recovery_codes(portal, person):
    person_id, number = person()
    browser = signed_in(portal, number)
    add(browser, Authenticator())
    answer = add(browser, Authenticator())
    assert answer.location.endswith("/account/second-factor")
    assert "has been added" in told(browser)
    with portal.session("hospital") as session:
        codes = session.scalars(
            select(RecoveryCode).where(RecoveryCode.person_id == person_id)
        ).all()
    assert len(codes) == 10


def test_it_is_the_second_step_after_the_password(portal, person):
    person_id, number, device = with_passkey(portal, person)
    browser = portal.browser()
    assert "/sign-in/second" in browser.sign_in(number).location
    assert "sign-in" in browser.get("/account", status=303).location
    answer = use(browser, device, "second-step", "/account")
    assert answer.location == "https://hospital.localhost:8443/account"
    assert browser.get("/account").status_int == 200
    with portal.session("hospital") as session:
        methods = session.scalars(
            select(LoginSession.methods).where(LoginSession.person_id == person_id)
        ).all()
    assert "passkey password" in methods


def test_it_confirms_who_one_is(portal, person):
    person_id, number, device = with_passkey(portal, person)
    browser = portal.browser()
    use(browser, device)
    _grow_old(portal, person_id)
    page = browser.get("/account/second-factor", status=303)
    assert "/account/confirm" in page.location
    answer = use(browser, device, "confirm", "/account/second-factor")
    assert answer.location.endswith("/account/second-factor")
    assert browser.get("/account/second-factor").status_int == 200
    assert events(portal, person_id)[-1][0] == "identity-confirmed"


def test_adding_wants_somebody_who_proved_who_they_are_of_late(portal, person):
    person_id, number = person()
    browser = signed_in(portal, number)
    options = browser.post(NEW_OPTIONS, {}).json
    answer = Authenticator().create(options, ORIGINS["hospital"])
    _grow_old(portal, person_id)
    for path, fields in ((NEW_OPTIONS, {}), (ADD, {"credential": json.dumps(answer)})):
        said = browser.post(path, fields, status=303)
        assert said.location.endswith("/account/confirm?next=%2Faccount%2Fsecond-factor")
    assert _passkeys(portal, person_id) == []


def _grow_old(portal, person_id, tenant="hospital"):
    with portal.session(tenant) as session, session.begin():
        session.execute(
            update(LoginSession)
            .where(LoginSession.person_id == person_id)
            .values(confirmed_at=utcnow() - timedelta(hours=1))
        )


def _passkeys(portal, person_id, tenant="hospital"):
    with portal.session(tenant) as session:
        return passkeys.passkeys_of(session, person_id)


def test_strangers_add_nothing(portal):
    browser = portal.browser()
    for path in (NEW_OPTIONS, ADD):
        assert "/sign-in" in browser.post(path, {}, status=303).location
    for path in ("name", "remove"):
        address = f"/account/passkeys/{'0' * 32}/{path}"
        assert "/sign-in" in browser.get(address, status=303).location
        assert "/sign-in" in browser.post(address, {}, status=303).location


@pytest.mark.parametrize(
    "lies",
    [
        {"origin": "https://hospital.localhost:8443.evil.example"},
        {"origin": "https://laboratory.localhost:8443"},
        {"rp_id": "laboratory.localhost"},
        {"flags": PRESENT},
        {"flags": HONEST | 0x80},
        {"challenge": "A" * 43},
        pytest.param({"private": Authenticator()._new_key()}, id="another private key"),
        {"user_handle": None},
        {"user_handle": b"0" * 16},
        {"type": "webauthn.create"},
        {"cross_origin": True},
    ],
    ids=str,
)
def test_lies_are_refused_in_one_voice(portal, person, lies):
    person_id, _number, device = with_passkey(portal, person)
    browser = portal.browser()
    answer = use(browser, device, next_path="/account", **dict(lies))
    assert answer.location == "https://hospital.localhost:8443/sign-in?next=%2Faccount"
    assert "was not accepted" in told(browser)
    assert "__Host-hospital-session" not in browser.cookies
    # The challenge is gone with it, and a new one lets the person in.
    assert use(browser, device).location == "https://hospital.localhost:8443/"


def test_refusals_are_in_the_audit_log_with_their_reason(portal, person):
    person_id, _number, device = with_passkey(portal, person)
    use(portal.browser(), device, origin="https://hospital.evil.example")
    action, outcome, body = events(portal, person_id)[-1]
    assert (action, outcome) == ("sign-in-failed", "denied")
    assert b"wrong-site" in body and b"passkey" in body and b"evil" not in body


def test_an_answer_counts_once(portal, person):
    _person_id, _number, device = with_passkey(portal, person)
    browser = portal.browser()
    options = browser.post(OPTIONS, {"purpose": "sign-in"}).json
    answer = device.get(options, ORIGINS["hospital"])
    assert send(browser, answer).location == "https://hospital.localhost:8443/"
    browser.post("/sign-out", {}, status=303)
    assert "/sign-in" in send(browser, answer).location


def test_an_answer_is_worth_nothing_in_another_browser(portal, person):
    """Somebody sends a victim an answer of their own, to have them signed in as the sender."""
    _person_id, _number, device = with_passkey(portal, person)
    options = portal.browser().post(OPTIONS, {"purpose": "sign-in"}).json
    answer = device.get(options, ORIGINS["hospital"])
    victim = portal.browser()
    assert "/sign-in" in send(victim, answer).location
    assert "__Host-hospital-session" not in victim.cookies


def test_an_answer_for_one_purpose_is_worth_nothing_for_another(portal, person):
    _person_id, number, device = with_passkey(portal, person)
    browser = portal.browser()
    browser.sign_in(number)
    options = browser.post(OPTIONS, {"purpose": "second-step"}).json
    answer = device.get(options, ORIGINS["hospital"])
    assert send(browser, answer, "sign-in").location.endswith("/sign-in")
    assert "/sign-in" in browser.get("/account", status=303).location
    assert send(browser, answer, "second-step").location == "https://hospital.localhost:8443/"


def test_the_second_step_is_for_whose_password_it_was(portal, person):
    """A colleague knows Ana's password and has a passkey of their own."""
    _ana, number, _hers = with_passkey(portal, person)
    _rui, _number, theirs = with_passkey(portal, person)
    browser = portal.browser()
    browser.sign_in(number)
    answer = use(browser, theirs, "second-step", credential=theirs.kept[0])
    assert "/sign-in/second" in answer.location
    assert browser.get("/account", status=303)


def test_one_institutions_passkey_is_nobody_at_the_other(portal, person):
    _person_id, _number, device = with_passkey(portal, person, "laboratory")
    browser = portal.browser("hospital")
    answer = use(browser, device)
    assert "/sign-in" in answer.location
    assert "__Host-hospital-session" not in browser.cookies


def test_a_possible_copy_is_refused_and_audited(portal, person):
    person_id, _number, device = with_passkey(portal, person)
    device.step = 5
    assert use(portal.browser(), device).location == "https://hospital.localhost:8443/"
    assert "/sign-in" in use(portal.browser(), device, count=2).location
    assert b"possible-clone" in events(portal, person_id)[-1][2]


def test_the_suspended_hear_what_others_hear(portal, person):
    person_id, _number, device = with_passkey(portal, person)
    with portal.session("hospital") as session, session.begin():
        session.execute(
            update(Account).where(Account.person_id == person_id).values(status="suspended")
        )
    browser = portal.browser()
    use(browser, device)
    assert "was not accepted" in told(browser)
    assert b"suspended" in events(portal, person_id)[-1][2]


def test_nobody_learns_who_has_a_passkey(portal, person):
    with_passkey(portal, person)
    options = portal.browser().post(OPTIONS, {"purpose": "sign-in"}).json
    assert options["allowCredentials"] == []


def test_whoever_took_too_long_signs_in_anew(portal, person):
    _person_id, number, device = with_passkey(portal, person)
    browser = portal.browser()
    browser.sign_in(number)
    options = browser.post(OPTIONS, {"purpose": "second-step"}).json
    answer = device.get(options, ORIGINS["hospital"])
    browser.post("/sign-out", {}, status=303)
    said = browser.post(OPTIONS, {"purpose": "second-step"}, status=401)
    assert "too long" in said.json["text"]
    gone = send(browser, answer, "second-step")
    assert gone.location == "https://hospital.localhost:8443/sign-in"
    assert "too long" in told(browser)


ODD = [
    {},
    {"purpose": "sign-in"},
    {"purpose": "add"},
    {"purpose": "everything", "credential": "{}"},
    {"purpose": "sign-in" * 1000, "credential": "{}"},
    {"purpose": "sign-in", "credential": ""},
    {"purpose": "sign-in", "credential": "null"},
    {"purpose": "sign-in", "credential": "{"},
    {"purpose": "sign-in", "credential": "[" * 9000},
    {"purpose": "sign-in", "credential": "{}" + " " * 16_000},
    {"purpose": "sign-in", "credential": '{"type": "public-key", "response": {}}'},
    {"purpose": "sign-in", "credential": '{"id": "\\ud800", "rawId": "\\ud800"}'},
    {"purpose": "sign-in", "credential": "a\x00b"},
]


@pytest.mark.parametrize("fields", ODD, ids=lambda fields: str(fields)[:60])
def test_what_no_browser_sends_is_400(portal, fields):
    browser = portal.browser()
    assert browser.post(USE, fields, expect_errors=True).status_int == 400


@pytest.mark.parametrize("credential", [one["credential"] for one in ODD if "credential" in one])
def test_what_no_browser_sends_adds_nothing(portal, person, credential):
    _person_id, number = person()
    browser = signed_in(portal, number)
    answer = browser.post(ADD, {"credential": credential}, expect_errors=True)
    assert answer.status_int == 400


def test_files_in_place_of_fields_are_400(portal):
    browser = portal.browser()
    for field in ("purpose", "credential"):
        fields = {"csrf_token": browser.token(), "purpose": "sign-in", "credential": "{}"}
        del fields[field]
        answer = browser.app.post(
            USE, fields, upload_files=[(field, "x.json", b"{}")], expect_errors=True
        )
        assert answer.status_int == 400


def test_ten_megabytes_are_refused(portal):
    browser = portal.browser()
    fields = {"purpose": "sign-in", "credential": "x" * 10_000_000}
    assert browser.post(USE, fields, expect_errors=True).status_int == 413


def test_posts_without_the_token_are_refused(portal, person):
    _person_id, number = person()
    browser = signed_in(portal, number)
    for path in (OPTIONS, USE, NEW_OPTIONS, ADD):
        assert browser.app.post(path, {"purpose": "sign-in"}, expect_errors=True).status_int == 403


def test_a_script_may_send_the_token_as_a_header(portal):
    browser = portal.browser()
    headers = {"X-CSRF-Token": browser.token()}
    said = browser.app.post(OPTIONS, {"purpose": "sign-in"}, headers=headers)
    assert said.json["rpId"] == "hospital.localhost"
    assert said.headers["Cache-Control"] == "no-store"


def test_a_link_to_a_stranger_is_not_followed(portal, person):
    _person_id, _number, device = with_passkey(portal, person)
    for away in ("https://evil.example/", "//evil.example/", "/\\evil.example", "x" * 900):
        answer = use(portal.browser(), device, next_path=away)
        assert answer.location == "https://hospital.localhost:8443/"


def test_wrong_answers_are_slowed_down(portal, person):
    _person_id, _number, device = with_passkey(portal, person)
    browser = portal.browser()
    for _try in range(throttle.FREE_TRIES_PAIR + 1):
        use(browser, device, user_handle=None)
    use(browser, device)
    assert "Too many tries" in told(browser)
    assert "__Host-hospital-session" not in browser.cookies
    elsewhere = portal.browser()
    elsewhere.app.extra_environ["REMOTE_ADDR"] = "127.0.0.90"
    assert use(elsewhere, device).location == "https://hospital.localhost:8443/"


def test_strangers_cannot_fill_the_table(portal, monkeypatch):
    monkeypatch.setattr(passkeys, "MOST_OPEN", 3)
    browser = portal.browser()
    for _time in range(9):
        browser.post(OPTIONS, {"purpose": "sign-in"}, status=200)
    assert _rows(portal, PasskeyChallenge) == 3


def test_strangers_keep_nobody_from_asking(portal, person, monkeypatch):
    _person_id, number, device = with_passkey(portal, person)
    monkeypatch.setattr(passkeys, "MOST_OPEN", 3)
    monkeypatch.setattr(passkeys, "MOST_OPEN_OF_SESSION", 2)
    stranger, browser = portal.browser(), portal.browser()
    for _time in range(5):
        stranger.post(OPTIONS, {"purpose": "sign-in"}, status=200)
    assert use(browser, device).location == "https://hospital.localhost:8443/"
    # Whoever knows the password, too, takes nothing from the second step of its owner.
    second, thief = portal.browser(), portal.browser()
    for half in (second, thief):
        half.sign_in(number)
    options = second.post(OPTIONS, {"purpose": "second-step"}, status=200).json
    for _time in range(5):
        thief.post(OPTIONS, {"purpose": "second-step"}, status=200)
    answer = device.get(options, ORIGINS["hospital"])
    assert send(second, answer, "second-step").location == "https://hospital.localhost:8443/"


def test_passkeys_that_are_made_up_leave_nothing(portal):
    """Nobody fills the audit log, or the counters, with answers that name no passkey of ours."""
    before = _rows(portal, AuditEvent)
    browser, device = portal.browser(), Authenticator()
    asked = browser.post(OPTIONS, {"purpose": "sign-in"}).json
    site = {"rp": {"id": "hospital.localhost"}, "user": {"id": "AAAA"}}
    device.create({**asked, **site}, ORIGINS["hospital"])
    for _time in range(20):
        assert use(browser, device).location.endswith("/sign-in")
        assert "was not accepted" in told(browser)
    assert _rows(portal, AuditEvent) == before
    assert _rows(portal, SignInThrottle) == 0
    assert _rows(portal, PasskeyChallenge) == 1, "the first, which was not answered"


def _rows(portal, model):
    with portal.session("hospital") as session:
        return session.query(model).count()


def test_housekeeping_forgets_challenges(portal):
    portal.browser().post(OPTIONS, {"purpose": "sign-in"})
    jobs = portal.jobs("hospital")
    jobs.turn(utcnow() + timedelta(minutes=6))
    with portal.session("hospital") as session:
        assert session.scalars(select(PasskeyChallenge)).all() == []


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("  My\tphone\r\nBcc: x@example.org ", "My phone Bcc: x@example.org"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("Cafe\u0301", "Café"),
        ("\u202emoc.elgoog\u200b", "moc.elgoog"),
        ("x" * 61, "x" * 60),
        ("日本の鍵 🔑", "日本の鍵 🔑"),
    ],
)
def test_names_are_kept_as_typed_but_clean(portal, person, typed, kept):
    person_id, number = person()
    browser = signed_in(portal, number)
    add(browser, Authenticator(), typed)
    assert [line.name for line in _passkeys(portal, person_id)] == [kept]
    page = browser.get("/account/second-factor")
    assert kept in page_text(page)
    assert "<script>alert" not in page.text


@pytest.mark.parametrize("typed", ["", "   ", "\u200b\u202e"])
def test_a_passkey_without_a_name_is_called_by_its_day(portal, person, typed):
    person_id, number = person()
    browser = signed_in(portal, number)
    add(browser, Authenticator(), typed)
    [line] = _passkeys(portal, person_id)
    assert re.fullmatch(r"Passkey of \d{1,2} \w+ \d{4}", line.name)


def test_rename(portal, person):
    person_id, number, _device = with_passkey(portal, person)
    browser = portal.browser()
    [line] = _passkeys(portal, person_id)
    use(browser, _device)
    form = browser.get(f"/account/passkeys/{line.id}/name").forms["form"]
    assert form["name"].value == line.name
    form["name"] = "  Grey key \u200b of the   lab "
    assert form.submit().location.endswith("/account/second-factor")
    assert [line.name for line in _passkeys(portal, person_id)] == ["Grey key of the lab"]
    assert events(portal, person_id)[-1][0] == "passkey-renamed"
    for bad in ("", "   ", "\u200b", "x" * 61):
        form = browser.get(f"/account/passkeys/{line.id}/name").forms["form"]
        form["name"] = bad
        assert form.submit(expect_errors=True).status_int == 422


def test_what_is_anothers_is_not_there(portal, person):
    ana, _number, _device = with_passkey(portal, person)
    _rui, number, device = with_passkey(portal, person)
    [hers] = _passkeys(portal, ana)
    browser = portal.browser()
    use(browser, device)
    for path in ("name", "remove"):
        address = f"/account/passkeys/{hers.id}/{path}"
        assert browser.get(address, expect_errors=True).status_int == 404
        fields = {"__formid__": "form", "name": "Mine", "password": PASSWORD}
        assert browser.post(address, fields, expect_errors=True).status_int == 404
    for odd in ("x", "%00", "0" * 500, "..%2f"):
        address = f"/account/passkeys/{odd}/remove"
        assert browser.get(address, expect_errors=True).status_int in {400, 404}
    assert len(_passkeys(portal, ana)) == 1


def test_removing_the_last_one_wants_the_password_and_takes_what_goes_with_it(portal, person):
    person_id, number, device = with_passkey(portal, person)
    browser, other = portal.browser(), portal.browser()
    for one in (browser, other):
        use(one, device)
    [line] = _passkeys(portal, person_id)
    page = browser.get(f"/account/passkeys/{line.id}/remove")
    assert "password alone" in page_text(page)
    form = page.forms["form"]
    form["password"] = "not my password at all"
    assert form.submit(expect_errors=True).status_int == 422
    form["password"] = PASSWORD
    answer = form.submit()
    assert answer.location.endswith("/account/second-factor")
    assert "has been removed" in told(browser)
    assert _passkeys(portal, person_id) == []
    # The other device is out; this session counts as one by password; the codes are gone.
    assert "/sign-in" in other.get("/account", status=303).location
    with portal.session("hospital") as session:
        [methods] = session.scalars(
            select(LoginSession.methods).where(LoginSession.person_id == person_id)
        )
        codes = session.scalars(
            select(RecoveryCode).where(RecoveryCode.person_id == person_id)
        ).all()
    assert (methods, codes) == ("password", [])
    assert "/sign-in" in use(portal.browser(), device).location
    assert portal.browser().sign_in(number).location == "https://hospital.localhost:8443/"
    done = [(action, outcome) for action, outcome, _body in events(portal, person_id)]
    assert ("second-factor-removed", "denied") in done
    assert ("second-factor-removed", "allowed") in done
    assert ("second-factor-removed", '{"factor": "passkey"}') in mails(portal, person_id)
    # Sent twice, it is not there any more.
    assert form.submit(expect_errors=True).status_int == 404


def test_the_last_one_stays_while_the_password_is_too_short_to_be_alone(portal, person):
    person_id, number, device = with_passkey(portal, person)
    policy = portal.settings.tenant("hospital").passwords
    with portal.session("hospital") as session, session.begin():
        set_password(session, person_id, policy, "nine lives", utcnow())
    browser = portal.browser()
    use(browser, device)
    [line] = _passkeys(portal, person_id)
    form = browser.get(f"/account/passkeys/{line.id}/remove").forms["form"]
    form["password"] = "nine lives"
    answer = form.submit(expect_errors=True)
    assert answer.status_int == 422
    assert "at least 15 characters" in answer.text
    assert len(_passkeys(portal, person_id)) == 1


def test_one_of_two_goes_whatever_the_password(portal, person):
    person_id, number, device = with_passkey(portal, person)
    browser = portal.browser()
    use(browser, device)
    add(browser, Authenticator(), "Spare")
    policy = portal.settings.tenant("hospital").passwords
    with portal.session("hospital") as session, session.begin():
        set_password(session, person_id, policy, "nine lives", utcnow())
    first, _second = _passkeys(portal, person_id)
    page = browser.get(f"/account/passkeys/{first.id}/remove")
    assert "password alone" not in page_text(page)
    form = page.forms["form"]
    form["password"] = "nine lives"
    assert form.submit().status_int == 303
    assert [line.name for line in _passkeys(portal, person_id)] == ["Spare"]


def test_removing_wants_somebody_who_proved_who_they_are_of_late(portal, person):
    person_id, _number, device = with_passkey(portal, person)
    browser = portal.browser()
    use(browser, device)
    [line] = _passkeys(portal, person_id)
    _grow_old(portal, person_id)
    address = f"/account/passkeys/{line.id}/remove"
    assert "/account/confirm" in browser.get(address, status=303).location
    assert "/account/confirm" in browser.post(address, {"password": PASSWORD}, status=303).location
    assert len(_passkeys(portal, person_id)) == 1


def test_a_session_that_was_ended_meanwhile_adds_nothing(portal, person, monkeypatch):
    person_id, number = person()
    browser = signed_in(portal, number)
    real = passkeys.check_new

    def check_then_end(*arguments):
        made = real(*arguments)
        with portal.session("hospital") as session, session.begin():
            session.query(LoginSession).filter_by(person_id=person_id).delete()
        return made

    monkeypatch.setattr(passkeys, "check_new", check_then_end)
    answer = add(browser, Authenticator())
    assert answer.status_int == 303
    assert _passkeys(portal, person_id) == []
    assert "/sign-in" in browser.get("/account", status=303).location


def test_a_passkey_that_another_has_is_not_added_and_the_session_goes_on(portal, person):
    ana, _number, device = with_passkey(portal, person)
    rui, number = person()
    browser = signed_in(portal, number)
    add(browser, Authenticator(), credential_id=device.kept[0].id)
    assert "could not be added" in told(browser)
    assert _passkeys(portal, rui) == []
    assert browser.get("/account").status_int == 200
    with portal.session("hospital") as session:
        [methods] = session.scalars(
            select(LoginSession.methods).where(LoginSession.person_id == rui)
        )
    assert methods == "password"
    action, outcome, _body = events(portal, rui)[-1]
    assert (action, outcome) == ("second-factor-added", "denied")


def test_nobody_adds_more_than_twenty(portal, person, monkeypatch):
    monkeypatch.setattr(passkeys, "MOST_PASSKEYS", 1)
    person_id, _number, device = with_passkey(portal, person)
    browser = portal.browser()
    use(browser, device)
    said = browser.post(NEW_OPTIONS, {}, status=422)
    assert "cannot have more" in said.json["text"]
    monkeypatch.setattr(passkeys, "MOST_PASSKEYS", 2)
    options = browser.post(NEW_OPTIONS, {}).json
    monkeypatch.setattr(passkeys, "MOST_PASSKEYS", 1)
    answer = Authenticator().create(options, ORIGINS["hospital"])
    browser.post(ADD, {"credential": json.dumps(answer)}, status=303)
    assert "cannot have more" in told(browser)
    assert b"too-many" in events(portal, person_id)[-1][2]
    assert len(_passkeys(portal, person_id)) == 1


def test_nobody_asks_for_challenges_without_end(portal, person, monkeypatch):
    _person_id, number = person()
    browser = signed_in(portal, number)
    monkeypatch.setattr(passkeys, "MOST_OPEN_OF_SESSION", 1)
    for _time in range(3):
        browser.post(NEW_OPTIONS, {}, status=200)
    assert _rows(portal, PasskeyChallenge) == 1


def test_the_password_is_not_guessed_on_the_page_that_removes(portal, person):
    person_id, _number, device = with_passkey(portal, person)
    browser = portal.browser()
    use(browser, device)
    [line] = _passkeys(portal, person_id)
    for _try in range(throttle.FREE_TRIES_PAIR + 2):
        form = browser.get(f"/account/passkeys/{line.id}/remove").forms["form"]
        form["password"] = "not my password at all"
        answer = form.submit(expect_errors=True)
    assert answer.status_int == 429
    assert len(_passkeys(portal, person_id)) == 1


def test_the_page_holds_what_the_script_needs(portal):
    page = portal.browser().get("/sign-in?next=/account")
    form = page.html.find("form", attrs={"data-passkey": "get"})
    assert form.has_attr("hidden")
    assert form["data-options"] == OPTIONS
    assert form.find("input", attrs={"name": "next"})["value"] == "/account"
    words = {one["data-words"] for one in form.find_all("template")}
    assert words == {
        "asking",
        "cancelled",
        "timeout",
        "unsupported",
        "known",
        "site",
        "failed",
    }


def test_the_keys_of_the_page_are_not_another_sites(portal):
    """The one address that people see decides, whatever else stands in the request."""
    browser = portal.browser()
    fields = {"csrf_token": browser.token(), "purpose": "sign-in"}
    headers = {"X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example"}
    said = browser.app.post(OPTIONS, fields, headers=headers)
    assert said.json["rpId"] == "hospital.localhost"
    other = {**headers, "Host": "evil.example"}
    assert browser.app.post(OPTIONS, fields, headers=other, expect_errors=True).status_int == 421
