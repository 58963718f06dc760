"""A second factor, in a browser's terms, at both institutions: set up, sign in, remove."""

import threading
from dataclasses import replace
from datetime import timedelta
from urllib.parse import urlencode

import pyotp
import pytest
from functional_helpers import page_text
from second_factor_helpers import (
    LONG,
    SHORT,
    begin,
    confirm,
    register,
    send_code,
    shown_codes,
    shown_key,
    told,
)
from sqlalchemy import select, update

from medportal.audit.models import AuditEvent
from medportal.core.identity import Method
from medportal.identity.factors import remove_all_factors
from medportal.identity.models import Account, RecoveryCode, SessionStage, SignInThrottle, Totp
from medportal.identity.passwords import hash_password
from medportal.identity.sessions import MOST_SESSIONS, end_sessions
from medportal.identity.totp import MOST_IN_A_ROW
from medportal.routes import ROUTES

SET_UP = "/account/second-factor"
APP = "/account/second-factor/app"
CODES = "/account/second-factor/recovery-codes"
REFUSAL = "That code is not right, has been used already, or is too old."


@pytest.fixture(autouse=True)
def cheap_codes(monkeypatch):
    """Let recovery codes cost as little as the passwords of these tests do."""
    monkeypatch.setattr("medportal.identity.recovery._MEMORY_KIB", 8)


@pytest.fixture(params=["hospital", "laboratory"])
def tenant(request):
    return request.param


#: Tables of input are played at one institution: what reads it is the same at both.
at_one = pytest.mark.parametrize("tenant", ["hospital"], indirect=True)


@pytest.fixture
def someone(portal, clock, tenant):
    """Give somebody without a second factor."""
    return register(portal, clock, tenant)


@pytest.fixture
def careful(someone):
    """Give somebody who has set an app up, with the recovery codes."""
    someone.recovery_codes = someone.set_app_up(someone.signed_in())
    return someone


def actions(someone):
    return [(event.action, event.outcome) for event in someone.events()]


def last_event(someone):
    return someone.events()[-1]


# -- setting up ----------------------------------------------------------------------------------


def test_the_overview_says_what_there_is(someone):
    browser = someone.signed_in()
    words = page_text(browser.get(SET_UP))
    assert "Set an app up" in words
    assert "You get ten of them when you have set up a second proof." in words
    codes = someone.set_app_up(browser)
    words = page_text(browser.get(SET_UP))
    assert "Move to a new phone" in words and "You have 10 recovery codes left." in words
    assert not any(code in words for code in codes)


def test_setting_an_app_up(someone):
    browser = someone.signed_in()
    before = browser.cookies["__Host-" + someone.tenant + "-session"]
    page = begin(browser)
    assert len(page.html.find("svg", class_="qr").find_all("path")) == 2
    frame = page.html.find(class_="qr-frame")
    assert frame["role"] == "img" and frame["aria-label"]
    someone.secret = shown_key(page)
    uri = page.html.find("a", href=lambda h: h and h.startswith("otpauth:"))["href"]
    parsed = pyotp.parse_uri(uri)
    assert (parsed.secret, parsed.name) == (someone.secret, "Rita Lopes")
    assert parsed.issuer == someone.portal.settings.tenant(someone.tenant).names["en"]
    assert someone.number not in page.text
    answer = confirm(page, someone.code())
    assert len(shown_codes(answer)) == 10
    assert "shown again" in page_text(answer)
    # Nothing to run and no style of its own: the policy would drop it.
    for shown in (page, answer):
        assert not shown.html.find_all(style=True)
        assert [s for s in shown.html.find_all("script") if not s.get("src")] == []
    after = browser.cookies["__Host-" + someone.tenant + "-session"]
    assert before != after
    (session,) = someone.sessions()
    assert session.methods == "password totp"
    assert ("second-factor-added", "allowed") in actions(someone)
    assert ("recovery-codes-made", "allowed") in actions(someone)
    assert someone.mails() == [
        ("recovery-codes-made", "{}"),
        ("second-factor-added", '{"factor": "totp"}'),
    ]


def test_no_secret_is_in_the_audit_log_or_the_mail(careful):
    texts = [event.to_bytes() for event in careful.events()]
    texts += [params.encode() for _kind, params in careful.mails()]
    for code in [careful.secret, *careful.recovery_codes]:
        assert not any(code.encode() in text for text in texts)


def test_the_pages_are_in_portuguese_too(someone):
    browser = someone.signed_in()
    browser.post("/language", {"language": "pt", "next": "/"})
    page = begin(browser)
    uri = page.html.find("a", href=lambda h: h and h.startswith("otpauth:"))["href"]
    assert pyotp.parse_uri(uri).issuer == someone.portal.settings.tenant(someone.tenant).names["pt"]


def test_nothing_counts_before_a_right_code(someone):
    browser = someone.signed_in()
    page = begin(browser)
    answer = confirm(page, "000000")
    assert answer.status_int == 422
    assert "clock is set automatically" in answer.text
    assert shown_key(answer) == shown_key(page)
    again = someone.browser()
    assert "second" not in someone.give_password(again).location


def test_of_two_tabs_the_last_wins_and_the_first_is_told(someone):
    browser = someone.signed_in()
    first = begin(browser)
    second = begin(browser)
    someone.secret = shown_key(first)
    answer = confirm(first, someone.code())
    assert answer.status_int == 422
    assert "You began again in another tab or window" in answer.text
    assert shown_key(answer) == shown_key(second) != shown_key(first)
    someone.secret = shown_key(answer)
    assert len(shown_codes(confirm(answer, someone.code()))) == 10


def test_sending_the_confirmation_twice(someone):
    """A double click, or the browser's reload: the second time says that it is done."""
    browser = someone.signed_in()
    page = begin(browser)
    someone.secret = shown_key(page)
    form = page.forms["form"]
    form["code"] = someone.code()
    fields = dict(form.submit_fields())
    assert len(shown_codes(confirm(page, someone.code()))) == 10
    fields["csrf_token"] = browser.token()
    answer = browser.post(APP, fields)
    assert answer.location.endswith(SET_UP)
    assert told(browser)[0][:2] == ["info", "Your app is set up."]
    # A page from before the token was renewed is refused as any forged one.
    assert form.submit(expect_errors=True).status_int == 403


def test_a_session_that_was_ended_meanwhile_sets_nothing_up(someone, monkeypatch):
    """Its owner ends a thief's session in the moment in which the thief confirms an app."""
    browser = someone.signed_in()
    page = begin(browser)
    someone.secret = shown_key(page)

    def ended(request):
        with someone.session() as session, session.begin():
            end_sessions(session, someone.id)

    monkeypatch.setattr("medportal.identity.views.second_factor.fresh_codes", ended)
    assert confirm(page, someone.code()).location.endswith("/sign-in")
    with someone.session() as session:
        assert session.get(Totp, someone.id).confirmed_at is None
    assert someone.mails() == [] and "second-factor-added" not in dict(actions(someone))


def test_a_setup_that_took_too_long_begins_again(someone):
    browser = someone.signed_in()
    page = begin(browser)
    someone.secret = shown_key(page)
    someone.clock.forward(minutes=29)
    confirm(page, "000000")
    with someone.session() as session, session.begin():
        long_ago = someone.clock() - timedelta(minutes=31)
        session.execute(
            update(Totp).values(pending_at=long_ago).where(Totp.person_id == someone.id)
        )
    answer = confirm(page, someone.code())
    assert answer.location.endswith(APP)
    assert told(browser)[0][0] == "warn"


def test_a_new_phone_replaces_the_old_one_when_it_is_confirmed(careful):
    browser, elsewhere = careful.signed_in(), careful.signed_in()
    old = careful.secret
    page = begin(browser)
    assert "You have an app already." in page_text(page)
    # The old one still lets in.
    careful.clock.forward(seconds=30)
    assert send_code(careful.half_in(), careful.code()).status_int == 303
    careful.clock.forward(seconds=30)
    careful.secret = shown_key(page)
    answer = confirm(page, careful.code())
    assert answer.location.endswith(SET_UP)
    assert browser.get("/account").status_int == 200
    assert "/sign-in" in elsewhere.get("/account", status=303).location
    careful.clock.forward(seconds=30)
    half = careful.half_in()
    assert send_code(half, pyotp.TOTP(old).at(careful.clock.now)).status_int == 401
    assert send_code(half, careful.code()).status_int == 303
    added = [e for e in careful.events() if e.action == "second-factor-added"]
    assert [event.details["replaced"] for event in added] == [0, 1]


CLUMSY = [
    ("", 422),
    (" ", 422),
    ("12345", 422),
    ("1234567", 422),
    ("O00000", 422),
    ("<script>alert(1)</script>", 422),
    ("000000\r\nSet-Cookie: a=b", 422),
    ("' OR 1=1 --", 422),
    ("1" * 61, 422),
    ("\u202e000000", 422),
    ("000000\0", 400),
    ("0" * 21_000, 400),
]


@at_one
@pytest.mark.parametrize(("typed", "status"), CLUMSY)
def test_hostile_and_clumsy_codes_confirm_nothing(someone, typed, status):
    browser = someone.signed_in()
    answer = confirm(begin(browser), typed)
    assert answer.status_int == status
    assert "<script>alert" not in answer.text
    assert "Set-Cookie" not in str(answer.headers.get("a", ""))
    with someone.session() as session:
        assert session.get(Totp, someone.id).confirmed_at is None


def test_ten_megabytes_are_not_read(someone):
    browser = someone.signed_in()
    fields = {"__formid__": "form", "code": "1" * 10_000_000}
    assert browser.post(APP, fields, expect_errors=True).status_int == 413


def test_odd_forms_are_refused(someone):
    browser = someone.signed_in()
    begin(browser)
    for fields in (
        {"__start__": "code:sequence", "code": "1", "__end__": "code:sequence"},
        {"__formid__": "form", "code": "000000", "setup": "x" * 65},
        {"__formid__": "form", "setup": "x"},
    ):
        answer = browser.post(APP, fields, expect_errors=True)
        assert answer.status_int in (400, 422)


def test_digits_of_other_scripts_and_spaces_are_read(someone):
    browser = someone.signed_in()
    page = begin(browser)
    someone.secret = shown_key(page)
    wide = "".join(chr(0xFF10 + int(digit)) for digit in someone.code())
    assert shown_codes(confirm(page, f" {wide[:3]} {wide[3:]} "))


def test_setting_up_opens_roles_that_were_withheld(portal, clock, tenant, monkeypatch):
    someone = register(portal, clock, tenant)
    found = portal.settings.tenant(tenant)
    strict = replace(
        found, roles={**found.roles, "auditor": replace(found.roles["auditor"], second_factor=True)}
    )
    monkeypatch.setattr("medportal.tenancy.effective.EffectiveTenant.current", lambda self: strict)
    browser = someone.signed_in()
    assert browser.get("/audit", expect_errors=True).status_int == 404
    words = page_text(browser.get(SET_UP))
    assert "Your role needs one: Auditor" in words
    someone.set_app_up(browser)
    assert browser.get("/audit").status_int == 200
    page = browser.get(APP + "/remove")
    assert "its pages stay closed" in page_text(page)
    form = page.forms["form"]
    form["password"] = LONG
    assert form.submit().location.endswith(SET_UP)
    assert browser.get("/audit", expect_errors=True).status_int == 404


# -- the second step of sign-in ------------------------------------------------------------------


def test_signing_in_with_a_code(careful):
    browser = careful.browser()
    first = browser.cookies.get("__Host-csrf")
    answer = careful.give_password(browser)
    cookie = "__Host-" + careful.tenant + "-session"
    half, csrf_half = browser.cookies[cookie], browser.cookies["__Host-csrf"]
    assert answer.location.endswith("/sign-in/second?next=%2F")
    answer = send_code(browser, careful.code())
    assert answer.location.endswith(":8443/")
    # Every step gives the browser new tokens, so none that somebody planted is raised.
    assert len({half, browser.cookies[cookie]}) == 2
    assert len({first, csrf_half, browser.cookies["__Host-csrf"]}) == 3
    assert browser.get("/account").status_int == 200
    event = last_event(careful)
    assert (event.action, event.details["method"]) == ("sign-in", "password totp")
    thief = careful.browser()
    thief.app.set_cookie(cookie, half)
    assert "/sign-in" in thief.get("/account", status=303).location
    assert "/sign-in" in thief.get("/sign-in/second", status=303).location


def test_a_code_is_accepted_once(careful):
    code = careful.code()
    assert send_code(careful.half_in(), code).status_int == 303
    answer = send_code(careful.half_in(), code)
    assert answer.status_int == 401 and REFUSAL in answer.text
    assert last_event(careful).reasons == ("used-code",)


def test_of_two_browsers_with_one_code_at_once_one_gets_in(careful):
    halves = [careful.half_in() for _ in range(2)]
    forms = [half.get("/sign-in/second").forms["form"] for half in halves]
    code, statuses, barrier = careful.code(), [], threading.Barrier(2)

    def send(form):
        form["code"] = code
        barrier.wait(20)
        statuses.append(form.submit(expect_errors=True).status_int)

    threads = [threading.Thread(target=send, args=(form,)) for form in forms]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(statuses) == [303, 401]


@at_one
@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        (lambda s: s.code(seconds=-60), "expired"),
        (lambda s: s.code(seconds=60), "wrong-code"),
        (lambda s: s.code(hours=-1), "wrong-code"),
        (lambda s: "ABCD-EFGH-JKMN", "wrong-code"),
        (lambda s: s.secret, "wrong-code"),
        (lambda s: "<script>alert(1)</script>", "wrong-code"),
        (lambda s: "' OR 1=1 --", "wrong-code"),
        (lambda s: "000000\r\nSet-Cookie: a=b", "wrong-code"),
    ],
)
def test_what_is_wrong_used_or_old_gets_one_answer(careful, typed, reason):
    half = careful.half_in()
    answer = send_code(half, typed(careful))
    assert answer.status_int == 401 and REFUSAL in answer.text
    assert "<script>alert" not in answer.text
    event = last_event(careful)
    assert (event.action, event.outcome, event.reasons) == ("sign-in-failed", "denied", (reason,))
    assert "/sign-in" in half.get("/account", status=303).location
    assert send_code(half, careful.code()).status_int == 303


@at_one
@pytest.mark.parametrize(
    ("typed", "status"), [("", 422), ("1" * 61, 422), ("000000\0", 400), ("0" * 21_000, 400)]
)
def test_what_is_no_code_at_all_is_no_try(careful, typed, status):
    half = careful.half_in()
    assert send_code(half, typed).status_int == status
    assert send_code(half, careful.code()).status_int == 303


def test_a_code_is_read_as_people_type_it(careful):
    code = careful.code()
    assert send_code(careful.half_in(), f" {code[:3]} {code[3:]}").status_int == 303
    careful.clock.forward(seconds=30)
    arabic = "".join(chr(0x0660 + int(digit)) for digit in careful.code())
    assert send_code(careful.half_in(), arabic).status_int == 303


def test_a_recovery_code_lets_in_once_and_says_how_many_are_left(careful):
    code = careful.recovery_codes[4]
    browser = careful.half_in()
    assert send_code(browser, code.lower().replace("-", " ")).status_int == 303
    assert [entry[0] for entry in told(browser)] == ["info"]
    assert told(browser)[0][2] == {"left": 9}
    assert last_event(careful).details["method"] == "password recovery-code"
    assert ("recovery-code-used", '{"left": 9}') in careful.mails()
    half = careful.half_in()
    assert send_code(half, code).status_int == 401
    assert last_event(careful).reasons == ("used-code",)
    assert last_event(careful).details == {"method": "recovery-code"}
    for used in careful.recovery_codes[5:]:
        assert send_code(half, used).status_int == 303
        half = careful.half_in()
    for used in careful.recovery_codes[:2]:
        assert send_code(half, used).status_int == 303
        half = careful.half_in()
    browser = careful.half_in()
    send_code(browser, careful.recovery_codes[2])
    assert told(browser)[0][0] == "warn" and told(browser)[0][2] == {"left": 1}
    assert "You have only 1 recovery code left." in page_text(browser.get(SET_UP))


def test_where_one_wanted_to_go_is_kept_and_is_ours(careful):
    browser = careful.browser()
    form = browser.get("/sign-in?next=/account/password").forms["form"]
    form["number"], form["password"] = careful.number, careful.password
    second = form.submit().follow()
    assert second.forms["form"]["next"].value == "/account/password"
    failed = send_form(second, "000000")
    assert failed.forms["form"]["next"].value == "/account/password"
    assert send_form(failed, careful.code()).location.endswith(":8443/account/password")


def send_form(page, code):
    form = page.forms["form"]
    form["code"] = code
    return form.submit(expect_errors=True)


@at_one
@pytest.mark.parametrize("target", ["//evil.example/", "https://evil.example/", "/\\evil", "\t/x"])
def test_a_stranger_is_not_where_one_goes_next(careful, target):
    half = careful.half_in()
    form = half.get("/sign-in/second?" + urlencode({"next": target})).forms["form"]
    assert form["next"].value == "/"
    form["next"].force_value(target)
    form["code"] = careful.code()
    assert form.submit().location.endswith(":8443/")


def test_without_a_password_there_is_no_second_step(someone):
    stranger = someone.browser()
    there = stranger.get("/sign-in/second?next=/account", status=303).location
    assert there.endswith("/sign-in?next=%2Faccount")
    answer = stranger.post("/sign-in/second", {"code": "000000", "next": "/account"})
    assert answer.location.endswith("/sign-in?next=%2Faccount")
    browser = someone.signed_in()
    assert browser.get("/sign-in/second?next=/help", status=303).location.endswith("/help")
    answer = browser.post("/sign-in/second", {"code": "000000", "next": "/help"})
    assert answer.location.endswith("/help") and told(browser) == []


def test_who_is_half_in_is_nobody_on_every_page(careful):
    """Each address of the portal answers whoever gave only a password as it answers a stranger."""
    half, stranger = careful.half_in(), careful.browser()
    own = {"sign-in-second", "sign-in-passkey", "sign-in-passkey-options", "sign-out"}
    for name, path, _factory, _traverse in ROUTES:
        if name in own:
            continue
        address = path
        for part in ("patient", "record", "person", "session", "passkey", "approval", "assignment"):
            address = address.replace("{" + part + "}", careful.id)
        for part in ("tid", "version", "fingerprint", "name", "mail"):
            address = address.replace("{" + part + "}", "0" * 32)
        answers = [b.get(address, expect_errors=True) for b in (half, stranger)]
        assert [a.status_int for a in answers][0] == answers[1].status_int, address
        assert answers[0].headers.get("Location") == answers[1].headers.get("Location"), address
        assert "Rita Lopes" not in answers[0].text
        answers = [b.post(address, {}, expect_errors=True) for b in (half, stranger)]
        assert answers[0].status_int == answers[1].status_int, address
        assert answers[0].headers.get("Location") == answers[1].headers.get("Location"), address
    assert send_code(half, careful.code()).status_int == 303


def test_the_second_step_does_not_say_whose_it_is(careful):
    page = careful.half_in().get("/sign-in/second")
    assert "Rita" not in page.text and careful.number not in page.text


def test_half_a_sign_in_lasts_ten_minutes(careful):
    half = careful.half_in()
    page = half.get("/sign-in/second")
    careful.clock.forward(minutes=9, seconds=50)
    assert half.get("/sign-in/second").status_int == 200
    careful.clock.forward(seconds=10)
    assert "/sign-in" in half.get("/sign-in/second", status=303).location
    answer = send_form(page, careful.code())
    assert answer.location.endswith("/sign-in")
    assert told(half)[0][0] == "warn"
    assert "/sign-in" in half.get("/account", status=303).location


def new_password(someone):
    """The password is changed in another browser, by somebody who is all the way in."""
    form = someone.signed_in().get("/account/password").forms["form"]
    form["old"] = LONG
    form["new"] = form["again"] = "seven green lamps in a row"
    assert form.submit().status_int == 303


def suspend(someone):
    with someone.session() as session, session.begin():
        session.execute(
            update(Account).where(Account.person_id == someone.id).values(status="suspended")
        )


def lose_factors(someone):
    with someone.session() as session, session.begin():
        remove_all_factors(session, someone.id, someone.clock())


@pytest.mark.parametrize("event", [new_password, suspend, lose_factors])
def test_what_happens_in_between_voids_the_first_step(careful, event):
    half = careful.half_in()
    page = half.get("/sign-in/second")
    event(careful)
    answer = send_form(page, careful.code())
    assert answer.status_int == 303 and answer.location.endswith("/sign-in")
    assert "/sign-in" in half.get("/account", status=303).location


def test_starting_again_ends_the_half(careful):
    half = careful.half_in()
    page = half.get("/sign-in/second")
    again = [form for form in page.forms.values() if form.action.endswith("/sign-out")]
    assert len(again) == 1
    assert again[0].submit().location.endswith("/sign-in")
    assert "/sign-in" in half.get("/sign-in/second", status=303).location
    assert not [s for s in careful.sessions() if s.stage != "open"]


def test_a_changed_cookie_is_nobody(careful):
    half = careful.half_in()
    name = "__Host-" + careful.tenant + "-session"
    token = half.cookies[name]
    for other in (token[:-1] + ("A" if token[-1] != "A" else "B"), token.lower(), token + "x", ""):
        thief = careful.browser()
        thief.app.set_cookie(name, other)
        assert "/sign-in" in thief.get("/sign-in/second", status=303).location


def test_half_a_session_of_the_neighbour_is_nobody_here(careful):
    half = careful.half_in()
    other = "laboratory" if careful.tenant == "hospital" else "hospital"
    thief = careful.portal.browser(other)
    thief.app.set_cookie(
        f"__Host-{other}-session", half.cookies[f"__Host-{careful.tenant}-session"]
    )
    assert "/sign-in" in thief.get("/sign-in/second", status=303).location


def test_a_forged_form_is_refused(careful):
    half = careful.half_in()
    fields = {"code": careful.code(), "next": "/"}
    for token in ("", "x" * 43):
        answer = half.app.post(
            "/sign-in/second", {**fields, "csrf_token": token}, expect_errors=True
        )
        assert answer.status_int == 403
    answer = half.post(
        "/sign-in/second", fields, headers={"Sec-Fetch-Site": "cross-site"}, status=403
    )
    assert send_code(half, careful.code()).status_int == 303


def test_sending_the_second_step_twice(careful):
    """The second of a double click comes with a token that is no longer good: 403, and no harm."""
    half = careful.half_in()
    page = half.get("/sign-in/second")
    code = careful.code()
    assert send_form(page, code).status_int == 303
    assert send_form(page, code).status_int == 403
    assert half.get("/account").status_int == 200
    # And back to the page of the second step leads on.
    assert half.get("/sign-in/second", status=303).location.endswith(":8443/")


# -- guessing ------------------------------------------------------------------------------------


def stranger_at(someone, address):
    browser = someone.browser()
    browser.app.extra_environ["REMOTE_ADDR"] = address
    answer = someone.give_password(browser)
    assert answer.status_int == 303, answer.text
    return browser


def test_a_thief_with_the_password_gets_few_guesses_from_however_many_addresses(careful):
    """Counted over all addresses: four at once, then ever fewer, in the end twelve an hour."""
    answers = [
        send_code(stranger_at(careful, f"198.51.100.{n}"), "000000").status_int for n in range(8)
    ]
    assert answers == [401] * 5 + [429] * 3
    looked_at, thief = 0, None
    for minute in range(120):
        careful.clock.forward(minutes=1)
        if minute % 9 == 0:
            thief = stranger_at(careful, f"203.0.113.{minute}")
        looked_at += send_code(thief, "000000").status_int == 401
    # Tried every minute for two hours, from many addresses: twelve an hour were looked at, and
    # each is right in three cases of a million.
    assert looked_at <= 2 * 12 + 6


def test_a_thousand_at_once_are_no_more_than_in_a_row(careful, monkeypatch):
    monkeypatch.setitem(MOST_SESSIONS, SessionStage.SECOND_FACTOR, 12)
    halves = [stranger_at(careful, f"198.51.100.{n}") for n in range(3)]
    forms = [half.get("/sign-in/second").forms["form"] for half in halves for _ in range(4)]
    barrier, statuses = threading.Barrier(len(forms)), []

    def send(form):
        form["code"] = "000000"
        barrier.wait(30)
        statuses.append(form.submit(expect_errors=True).status_int)

    threads = [threading.Thread(target=send, args=(form,)) for form in forms]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(statuses) == 12
    assert statuses.count(401) <= 5


def test_a_thief_keeps_nobody_out(careful):
    """The person's own browser, a recovery code and a passkey are counted on their own."""
    own = careful.signed_in()
    own.post("/sign-out", {})
    for n in range(12):
        send_code(stranger_at(careful, f"198.51.100.{n}"), "000000")
    new = stranger_at(careful, "192.0.2.1")
    careful.clock.forward(seconds=1)
    answer = send_code(new, careful.code())
    assert answer.status_int == 429 and int(answer.headers["Retry-After"]) > 0
    assert "Please wait" in answer.text
    assert send_code(new, careful.recovery_codes[0]).status_int == 303
    careful.give_password(own)
    assert send_code(own, careful.code(seconds=30)).status_int == 303


def test_the_person_is_told_that_somebody_knows_the_password(careful):
    """By mail, once a day, with how many codes were tried."""
    half = careful.half_in()
    for _ in range(20):
        half = careful.half_in()
        send_code(half, "000000")
        careful.clock.forward(minutes=4)
    assert careful.mails().count(("second-step-failed", '{"count": 9}')) == 1
    assert [kind for kind, _params in careful.mails()].count("second-step-failed") == 1


def test_a_browser_that_is_known_is_throttled_on_its_own(careful):
    own = careful.signed_in()
    own.post("/sign-out", {})
    careful.give_password(own)
    answers = [send_code(own, "000000").status_int for _ in range(7)]
    assert answers == [401] * 5 + [429] * 2
    careful.clock.forward(seconds=30)
    assert send_code(stranger_at(careful, "192.0.2.1"), careful.code()).status_int == 303


def test_the_known_browser_is_one_persons(careful, portal, clock):
    """Somebody else's cookie is a stranger's: it gives no counter of its own."""
    other = register(portal, clock, careful.tenant)
    other.set_app_up(other.signed_in())
    own = other.signed_in()
    name = f"__Host-{careful.tenant}-device"
    for n in range(6):
        send_code(stranger_at(careful, f"198.51.100.{n}"), "000000")
    thief = stranger_at(careful, "198.51.100.99")
    thief.app.set_cookie(name, own.cookies[name])
    assert send_code(thief, "000000").status_int == 429


def test_a_changed_password_or_app_makes_known_browsers_strangers(careful):
    """Whoever once got in keeps no counter of their own after the person changed a proof."""
    own = careful.signed_in()
    own.post("/sign-out", {})
    # An attack: strangers wait, a known browser does not.
    for n in range(6):
        send_code(stranger_at(careful, f"198.51.100.{n}"), "000000")
    careful.give_password(own)
    assert send_code(own, "000000").status_int == 401
    with careful.session() as session, session.begin():
        session.get(Account, careful.id).password_changed_at += timedelta(seconds=1)
    careful.give_password(own)
    assert send_code(own, "000000").status_int == 429


def wrong_in_a_row(someone, count=None):
    with someone.session() as session, session.begin():
        app = session.get(Totp, someone.id)
        if count is not None:
            app.wrong_in_a_row = count
        return app.wrong_in_a_row


def test_after_a_hundred_wrong_codes_only_known_browsers_give_one(careful):
    """Six digits do not withstand months; recovery codes stay, so that nobody is kept out."""
    own = careful.signed_in()
    own.post("/sign-out", {})
    assert wrong_in_a_row(careful) == 0
    thief = stranger_at(careful, "198.51.100.1")
    assert send_code(thief, "000000").status_int == 401
    assert wrong_in_a_row(careful, MOST_IN_A_ROW - 1) == MOST_IN_A_ROW - 1
    assert send_code(thief, "000000").status_int == 401
    assert ("second-step-failed", '{"count": 100}') in careful.mails()
    careful.clock.forward(seconds=30)
    answer = send_code(stranger_at(careful, "198.51.100.2"), careful.code())
    assert answer.status_int == 401
    assert "Too many wrong codes were tried for this account." in page_text(answer)
    assert last_event(careful).reasons == ("too-many",)
    assert wrong_in_a_row(careful) == MOST_IN_A_ROW, "what was not looked at was not guessed"
    new = stranger_at(careful, "192.0.2.1")
    assert send_code(new, careful.recovery_codes[0]).status_int == 303
    # The browser in which the person got in is known from now on, and so is their own.
    for browser in (new, own):
        browser.post("/sign-out", {})
        careful.give_password(browser)
        careful.clock.forward(seconds=30)
        assert send_code(browser, careful.code()).status_int == 303
    assert wrong_in_a_row(careful) == 0


def test_success_forgets_failures_and_the_table_names_nobody(careful):
    half = careful.half_in()
    for _ in range(3):
        send_code(half, "000000")
    assert send_code(half, careful.code()).status_int == 303
    half = careful.half_in()
    careful.clock.forward(seconds=30)
    answers = [send_code(half, "000000").status_int for _ in range(4)]
    assert answers == [401] * 4
    with careful.session() as session:
        keys = b"".join(bytes(key) for key in session.scalars(select(SignInThrottle.key)))
    assert careful.id.encode() not in keys


# -- removing, new codes -------------------------------------------------------------------------


def remove(browser, password):
    form = browser.get(APP + "/remove").forms["form"]
    form["password"] = password
    return form.submit(expect_errors=True)


def test_removing_the_app(careful):
    here, there = careful.signed_in(), careful.signed_in()
    page = here.get(APP + "/remove")
    assert "your password alone lets anybody in" in page_text(page)
    assert page.html.find("button", class_="btn-danger")
    answer = remove(here, "not the password at all")
    assert answer.status_int == 422 and "not your password" in answer.text
    assert last_event(careful).reasons == ("wrong-credentials",)
    assert remove(here, LONG).location.endswith(SET_UP)
    assert "/sign-in" in there.get("/account", status=303).location
    assert here.get("/account").status_int == 200
    (session,) = careful.sessions()
    assert session.methods == "password"
    with careful.session() as session:
        assert session.get(Totp, careful.id) is None
        assert not session.scalars(
            select(RecoveryCode).where(RecoveryCode.person_id == careful.id)
        ).all()
    assert ("second-factor-removed", '{"factor": "totp"}') in careful.mails()
    assert actions(careful)[-1] == ("second-factor-removed", "allowed")
    assert "second" not in careful.give_password(careful.browser()).location
    # Again, from another tab: nothing happens, nothing is mailed.
    mails = careful.mails()
    assert remove(here, LONG).location.endswith(SET_UP)
    assert careful.mails() == mails


def test_a_short_password_is_not_left_alone(portal, clock, tenant):
    someone = register(portal, clock, tenant)
    someone.set_app_up(someone.signed_in())
    policy = portal.settings.tenant(tenant).passwords
    with someone.session() as session, session.begin():
        session.execute(
            update(Account)
            .where(Account.person_id == someone.id)
            .values(password_hash=hash_password(policy, SHORT))
        )
    someone.password = SHORT
    browser = someone.signed_in()
    answer = remove(browser, SHORT)
    assert answer.status_int == 422
    assert f"First choose one of at least {policy.minimum_length} characters" in answer.text
    assert last_event(someone).reasons == ("password-too-short",)
    assert "second" in someone.give_password(someone.browser()).location


def test_guessing_the_password_at_the_removal_is_throttled(careful):
    browser = careful.signed_in()
    answers = [remove(browser, f"wrong guess {n}").status_int for n in range(7)]
    assert answers == [422] * 5 + [429] * 2
    # The person, elsewhere, is not kept from it.
    assert remove(careful.signed_in(), LONG).status_int == 303


@at_one
@pytest.mark.parametrize(
    ("password", "status"),
    [("", 422), ("x" * 300, 422), ("a\0b", 400), ("x" * 21_000, 400), ("<b>' OR 1=1", 422)],
)
def test_hostile_passwords_remove_nothing(careful, password, status):
    browser = careful.signed_in()
    answer = remove(browser, password)
    assert answer.status_int == status and "<b>' OR" not in answer.text
    with careful.session() as session:
        assert session.get(Totp, careful.id) is not None


def test_new_recovery_codes(careful):
    browser = careful.signed_in()
    page = browser.get(CODES)
    assert "You have 10 recovery codes left." in page_text(page)
    answer = [f for f in page.forms.values() if f.action.endswith(CODES)][0].submit()
    fresh = shown_codes(answer)
    assert len(fresh) == 10 and not set(fresh) & set(careful.recovery_codes)
    half = careful.half_in()
    assert send_code(half, careful.recovery_codes[0]).status_int == 401
    assert send_code(half, fresh[0]).status_int == 303
    assert ("recovery-codes-made", "{}") in careful.mails()[2:]
    assert shown_codes(browser.get(CODES)) == []


def test_without_a_second_factor_there_are_no_recovery_codes(someone):
    browser = someone.signed_in()
    assert "Set one up first" in page_text(browser.get(CODES))
    browser.post(CODES, {})
    with someone.session() as session:
        found = select(RecoveryCode).where(RecoveryCode.person_id == someone.id)
        assert session.scalars(found).all() == []


def test_pages_with_secrets_are_not_kept_by_the_browser(someone):
    browser = someone.signed_in()
    page = begin(browser)
    someone.secret = shown_key(page)
    shown = confirm(page, someone.code())
    for answer in (page, shown):
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Referrer-Policy"] == "no-referrer"


@at_one
@pytest.mark.parametrize("path", [SET_UP, APP, APP + "/remove", CODES])
def test_everything_is_asked_again_after_a_while(careful, path):
    """Who finds an open browser changes nothing about who gets in."""
    browser = careful.signed_in()
    browser.get(path)
    careful.clock.forward(minutes=10)
    there = browser.get(path, status=303).location
    assert "/account/confirm?next=" + path.replace("/", "%2F") in there
    careful.clock.forward(minutes=19)
    if path != SET_UP:
        assert "confirm" not in (browser.post(path, {}, expect_errors=True).location or "")
        careful.clock.forward(minutes=1)
        answer = browser.post(path, {"__formid__": "begin"}, status=303)
        assert "/account/confirm?next=" + path.replace("/", "%2F") in answer.location
        assert told(browser)[-1][0] == "warn"


def test_nothing_secret_is_in_any_event(portal, careful):
    send_code(careful.half_in(), careful.recovery_codes[0])
    send_code(careful.half_in(), "ABCD-EFGH-JKMN")
    with careful.session() as session:
        bodies = session.scalars(select(AuditEvent.body)).all()
    for secret in (careful.secret, careful.recovery_codes[0], "ABCD-EFGH-JKMN", LONG):
        assert not any(secret.encode() in body for body in bodies)


def test_methods_are_those_that_count(careful):
    assert {Method(m) for m in careful.sessions()[0].methods.split()} == {
        Method.PASSWORD,
        Method.TOTP,
    }
