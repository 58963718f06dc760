"""Asked again who one is, before something that changes who can get in."""

import threading
from datetime import timedelta
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from functional_helpers import page_text
from pyramid.request import Request
from second_factor_helpers import LONG, register, told
from sqlalchemy import update

from medportal.identity.models import Account, LoginSession
from medportal.identity.views.confirm import nearest_page

ASKED = "/account/second-factor"
CONFIRM = "/account/confirm"


@pytest.fixture(params=["hospital", "laboratory"])
def someone(request, portal, clock):
    return register(portal, clock, request.param)


@pytest.fixture
def stale(someone):
    """Give a browser whose holder signed in a while ago."""
    browser = someone.signed_in()
    someone.clock.forward(minutes=10)
    browser.someone = someone
    return browser


def give(page, password):
    form = page.forms["form"]
    form["password"] = password
    return form.submit(expect_errors=True)


def wanted(answer):
    parts = urlsplit(answer.location)
    assert parts.path == CONFIRM
    return parse_qs(parts.query)["next"][0]


def test_a_page_that_asks_leads_there_and_back(stale):
    answer = stale.get(ASKED, status=303)
    assert wanted(answer) == ASKED
    page = answer.follow()
    words = page_text(page)
    assert "changes who can get in" in words
    assert page.html.find_all("h1")[0].get_text() == "Show that it is you"
    before = {name: stale.cookies[name] for name in stale.cookies}
    answer = give(page, LONG)
    assert answer.location.endswith(ASKED)
    for name in ("__Host-csrf", f"__Host-{stale.tenant}-session"):
        assert stale.cookies[name] != before[name]
    assert answer.follow().status_int == 200
    event = stale.someone.events()[-1]
    assert (event.action, event.outcome) == ("identity-confirmed", "allowed")
    assert event.details == {"method": "password"}


def test_the_query_of_the_page_is_kept(stale):
    answer = stale.get(ASKED + "?a=1&b=%2F", status=303)
    assert wanted(answer) == ASKED + "?a=1&b=%2F"


def test_being_sent_there_is_no_event(stale):
    events = len(stale.someone.events())
    stale.get(ASKED, status=303)
    assert len(stale.someone.events()) == events


def test_a_form_that_was_open_too_long_says_so_and_changes_nothing(stale):
    stale.someone.clock.forward(minutes=15)
    stale.get("/account")
    stale.someone.clock.forward(minutes=15)
    answer = stale.post(ASKED + "/app", {"__formid__": "begin"}, status=303)
    assert wanted(answer) == ASKED + "/app"
    ((kind, words, _numbers),) = told(stale)
    assert kind == "warn" and "nothing was changed" in words
    assert give(answer.follow(), LONG).location.endswith(ASKED + "/app")
    assert "Show the picture" in stale.get(ASKED + "/app").text


def test_a_wrong_password_confirms_nothing(stale):
    page = stale.get(ASKED, status=303).follow()
    answer = give(page, "not the password of anybody")
    assert answer.status_int == 422 and "That is not your password." in answer.text
    assert answer.forms["form"]["next"].value == ASKED
    assert answer.forms["form"]["password"].value == ""
    event = stale.someone.events()[-1]
    assert (event.action, event.outcome) == ("identity-confirmed", "denied")
    assert event.reasons == ("wrong-credentials",)
    assert stale.get(ASKED, status=303)
    assert give(answer, LONG).location.endswith(ASKED)


@pytest.mark.parametrize(
    ("password", "status"),
    [
        ("", 422),
        ("x" * 257, 422),
        ("quiet rivers carry small boats ", 422),
        ("QUIET RIVERS CARRY SMALL BOATS", 422),
        ("' OR 1=1 --", 422),
        ("<script>alert(1)</script>", 422),
        ("a\r\nSet-Cookie: b=c", 422),
        ("quiet rivers carry small boats\0", 400),
        ("x" * 21_000, 400),
        ("x" * 10_000_000, 413),
    ],
)
@pytest.mark.parametrize("someone", ["hospital"], indirect=True)
def test_hostile_and_clumsy_passwords(stale, password, status):
    answer = give(stale.get(ASKED, status=303).follow(), password)
    assert answer.status_int == status
    assert "<script>alert" not in answer.text
    stale.get(ASKED, status=303)


@pytest.mark.parametrize(
    "target", ["//evil.example/", "https://evil.example", "/\\evil", "javascript:alert(1)", "a\nb"]
)
@pytest.mark.parametrize("someone", ["hospital"], indirect=True)
def test_a_stranger_is_not_where_one_goes_next(stale, target):
    page = stale.get(f"{CONFIRM}?{urlencode({'next': target})}")
    assert page.forms["form"]["next"].value == "/account"
    page.forms["form"]["next"].force_value(target)
    assert give(page, LONG).location.endswith(":8443/account")


def test_nobody_is_asked_who_is_not_signed_in(someone):
    for browser in (someone.browser(), someone.browser()):
        answer = browser.get(CONFIRM + "?next=/account", status=303)
        assert "/sign-in" in answer.location
        answer = browser.post(CONFIRM, {"password": LONG}, status=303)
        assert "/sign-in" in answer.location


def test_a_thief_with_the_session_gets_few_guesses_from_however_many_addresses(stale):
    statuses = []
    for n in range(9):
        stale.app.extra_environ["REMOTE_ADDR"] = f"198.51.100.{n}"
        statuses.append(give(stale.get(CONFIRM), f"wrong guess number {n}").status_int)
    assert statuses == [422] * 5 + [429] * 4
    answer = give(stale.get(CONFIRM), LONG)
    assert answer.status_int == 429 and int(answer.headers["Retry-After"]) > 0
    # The person signs in anew and is asked nothing of the kind; and can confirm there.
    own = stale.someone.signed_in()
    assert own.get(ASKED).status_int == 200
    assert give(own.get(CONFIRM), LONG).location.endswith("/account")
    stale.someone.clock.forward(seconds=5)
    assert give(stale.get(CONFIRM), LONG).location.endswith("/account")


def test_guesses_at_one_moment_are_no_more_than_in_a_row(stale):
    forms = [stale.get(CONFIRM).forms["form"] for _ in range(12)]
    barrier, statuses = threading.Barrier(len(forms)), []

    def send(form, n):
        form["password"] = f"wrong guess number {n}"
        barrier.wait(30)
        statuses.append(form.submit(expect_errors=True).status_int)

    threads = [threading.Thread(target=send, args=(form, n)) for n, form in enumerate(forms)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(statuses) == 12 and statuses.count(422) <= 5


def test_a_forged_form_is_refused(stale):
    fields = {"password": LONG, "next": "/account"}
    answer = stale.app.post(CONFIRM, {**fields, "csrf_token": "x" * 43}, expect_errors=True)
    assert answer.status_int == 403
    stale.get(ASKED, status=303)


def test_sending_it_twice_does_no_harm(stale):
    page = stale.get(ASKED, status=303).follow()
    assert give(page, LONG).status_int == 303
    assert give(page, LONG).status_int == 403
    assert stale.get(ASKED).status_int == 200


def test_the_old_cookie_is_void_afterwards(stale):
    name = f"__Host-{stale.tenant}-session"
    before = stale.cookies[name]
    give(stale.get(CONFIRM), LONG)
    thief = stale.someone.browser()
    thief.app.set_cookie(name, before)
    assert "/sign-in" in thief.get("/account", status=303).location


def test_who_was_suspended_meanwhile_confirms_nothing(stale):
    page = stale.get(CONFIRM)
    with stale.someone.session() as session, session.begin():
        session.execute(
            update(Account).where(Account.person_id == stale.someone.id).values(status="suspended")
        )
    assert "/sign-in" in give(page, LONG).location
    assert "/sign-in" in stale.get("/account", status=303).location


def test_a_session_that_was_ended_meanwhile_is_not_revived(stale, monkeypatch):
    """Ended by the person, elsewhere, in the moment between the check and the answer."""
    from medportal.identity.views import confirm as view

    real = view.check_own_password

    def checked_and_ended(request, password):
        real(request, password)
        request.db.query(LoginSession).filter_by(person_id=stale.someone.id).delete()

    page = stale.get(CONFIRM)
    monkeypatch.setattr(view, "check_own_password", checked_and_ended)
    assert give(page, LONG).location.endswith("/sign-in")
    assert "/sign-in" in stale.get("/account", status=303).location


def test_the_page_can_be_left(stale):
    page = stale.get(CONFIRM)
    assert page.html.find("a", href="/", string=lambda s: s and "Not now" in s)


@pytest.mark.parametrize(
    ("method", "path", "page"),
    [
        ("GET", "/account/second-factor?a=b", "/account/second-factor?a=b"),
        ("POST", "/account/second-factor/app", "/account/second-factor/app"),
        ("POST", "/account/passkeys/options", "/account"),
        ("POST", "/account/sessions/abc/end", "/account/sessions"),
        ("POST", "/people/abc/suspend?x=1", None),
        ("POST", "/sign-out", "/"),
        ("POST", "/no/such/page", "/"),
        ("POST", "/", "/"),
    ],
)
@pytest.mark.parametrize("someone", ["hospital"], indirect=True)
def test_the_nearest_page_can_be_opened(someone, method, path, page):
    """What was sent to an address that only takes forms leads back to the page above it."""
    request = Request.blank(path, method=method)
    request.registry = someone.portal.app.registry
    found = nearest_page(request)
    if page is not None:
        assert found == page
    else:
        assert found in {"/people/abc/suspend", "/people/abc", "/"}


def test_a_stale_moment_is_ten_minutes(someone):
    browser = someone.signed_in()
    (session,) = someone.sessions()
    assert session.confirmed_at + timedelta(minutes=10) > someone.clock.now
    someone.clock.forward(minutes=9, seconds=59)
    assert browser.get(ASKED).status_int == 200
    someone.clock.forward(seconds=1)
    browser.get(ASKED, status=303)


def give_both(page, password, code):
    form = page.forms["form"]
    form["password"], form["code"] = password, code
    return form.submit(expect_errors=True)


def test_whoever_has_a_second_factor_shows_it_here_too(someone):
    browser = someone.signed_in()
    recovery_codes = someone.set_app_up(browser)
    someone.clock.forward(minutes=11)
    page = browser.get(ASKED, status=303).follow()
    assert give(page, LONG).status_int == 422
    wrong = give_both(page, LONG, "000000" if someone.code() != "000000" else "111111")
    assert wrong.status_int == 422 and "That code is not right" in wrong.text
    assert someone.events()[-1].reasons == ("wrong-code",)
    browser.get(ASKED, status=303)
    answer = give_both(page, LONG, someone.code())
    assert answer.location.endswith(ASKED)
    assert someone.events()[-1].details == {"method": "password totp"}
    browser.get(ASKED, status=200)
    someone.clock.forward(minutes=11)
    page = browser.get(ASKED, status=303).follow()
    give_both(page, LONG, recovery_codes[0])
    browser.get(ASKED, status=200)


def test_a_wrong_password_costs_no_code(someone):
    """Whoever sits down at a forgotten keyboard gets no try of the second factor."""
    browser = someone.signed_in()
    someone.set_app_up(browser)
    someone.clock.forward(minutes=11)
    page = browser.get(ASKED, status=303).follow()
    code = someone.code()
    assert "not your password" in give_both(page, "quite another password", code).text
    assert give_both(page, LONG, code).location.endswith(ASKED)


def test_a_code_is_not_good_for_two_confirmations(someone):
    browser = someone.signed_in()
    someone.set_app_up(browser)
    someone.clock.forward(minutes=11)
    page = browser.get(ASKED, status=303).follow()
    code = someone.code()
    assert give_both(page, LONG, code).status_int == 303
    again = give_both(browser.get(CONFIRM), LONG, code)
    assert again.status_int == 422 and someone.events()[-1].reasons == ("used-code",)
