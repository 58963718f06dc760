"""Changing one's password, in a browser's terms, at both institutions."""

import unicodedata

import pytest
from functional_helpers import page_text
from second_factor_helpers import LONG, register, told
from sqlalchemy import select, update

from medportal.audit.models import AuditEvent
from medportal.identity.factors import remove_all_factors
from medportal.identity.models import Account
from medportal.identity.passwords import hash_password, verify_password

OTHER = "seven lamps over the harbour"
PAGE = "/account/password"


@pytest.fixture(params=["hospital", "laboratory"])
def tenant(request):
    return request.param


at_one = pytest.mark.parametrize("tenant", ["hospital"], indirect=True)


@pytest.fixture
def someone(portal, clock, tenant):
    return register(portal, clock, tenant)


def change(browser, old, new, again=None):
    form = browser.get(PAGE).forms["form"]
    form["old"], form["new"], form["again"] = old, new, new if again is None else again
    return form.submit(expect_errors=True)


def stored(someone):
    with someone.session() as session:
        return session.scalar(select(Account.password_hash).where(Account.person_id == someone.id))


def token_of(browser):
    return browser.cookies[f"__Host-{browser.tenant}-session"]


def holds(someone, password):
    policy = someone.portal.settings.tenant(someone.tenant).passwords
    return verify_password(policy, stored(someone), password)


def test_a_change_ends_other_sessions_renews_this_one_and_is_told(someone):
    here, there = someone.signed_in(), someone.signed_in()
    token, csrf = token_of(here), here.cookies["__Host-csrf"]
    answer = change(here, LONG, OTHER)
    assert answer.status_int == 303
    assert answer.location.endswith("/account")
    assert told(here)[0][0] == "ok"
    assert here.get("/account").status_int == 200
    assert "sign-in" in there.get("/account", status=303).location
    assert token_of(here) != token
    assert here.cookies["__Host-csrf"] != csrf
    thief = someone.browser()
    thief.app.set_cookie(f"__Host-{someone.tenant}-session", token)
    assert "sign-in" in thief.get("/account", status=303).location
    assert someone.mails() == [("password-changed", "{}")]
    assert someone.give_password(someone.browser()).status_int == 401
    assert someone.give_password(someone.browser(), OTHER).status_int == 303


@at_one
def test_the_browser_stays_known_so_that_strangers_keep_nobody_waiting(someone):
    here, stranger = someone.signed_in(), someone.browser()
    assert change(here, LONG, OTHER).status_int == 303
    here.post("/sign-out", {})
    answers = [someone.give_password(stranger, "wrong").status_int for _try in range(6)]
    assert answers[-1] == 429
    assert someone.give_password(here, OTHER).status_int == 303


def test_the_audit_log_says_that_it_was_changed_and_not_to_what(someone):
    change(someone.signed_in(), LONG, OTHER)
    event = next(event for event in someone.events() if event.action == "password-changed")
    assert (event.outcome, event.actor) == ("allowed", someone.id)
    with someone.session() as session:
        bodies = b"".join(session.scalars(select(AuditEvent.body)))
    assert OTHER.encode() not in bodies
    assert LONG.encode() not in bodies


def test_the_wrong_old_password_changes_nothing_and_is_in_the_log(someone):
    browser = someone.signed_in()
    before = stored(someone)
    answer = change(browser, "something else entirely", OTHER)
    assert answer.status_int == 422
    assert "The current password is not right." in answer.text
    assert stored(someone) == before
    assert someone.mails() == []
    event = someone.events()[-1]
    assert (event.action, event.outcome) == ("password-changed", "denied")
    assert event.reasons == ("wrong-credentials",)


@at_one
def test_guessing_the_old_one_with_a_stolen_session_is_slow_from_everywhere(someone):
    browser = someone.signed_in()
    answers = []
    for number in range(7):
        browser.app.extra_environ["REMOTE_ADDR"] = f"127.0.0.{number + 10}"
        answers.append(change(browser, "something else entirely", OTHER).status_int)
    assert answers == [422] * 5 + [429] * 2
    # The person signs in anew, and is not held up by it.
    assert change(someone.signed_in(), LONG, OTHER).status_int == 303


@at_one
@pytest.mark.parametrize(
    ("new", "words"),
    [
        ("nine oars", "use at least 15 characters"),
        ("e\u0301" * 8 + "abcdef", "use at least 15 characters"),
        ("aaaaaaaaaaaaaaaaaaaaaaaa", "easily guessed"),
        ("Password123456!!", "easily guessed"),
        ("qwertyuiopasdfghjkl", "easily guessed"),
        ("Rita Lopes 02011970", "mostly made of your name"),
        ("rita@example.org rita", "mostly made of your name"),
        ("Riverside Hospital 1", "mostly made of your name"),
        ("x" * 257, "at most 256 characters"),
        ("x" * 19_000, "at most 256 characters"),
        ("", "Fill this in"),
    ],
)
def test_what_is_refused_is_refused_with_a_reason(someone, new, words):
    browser = someone.signed_in()
    before = stored(someone)
    answer = change(browser, LONG, new)
    assert answer.status_int == 422
    assert words in page_text(answer), page_text(answer)
    assert new not in answer.text or not new
    assert stored(someone) == before
    assert browser.get("/account").status_int == 200


@at_one
@pytest.mark.parametrize(
    "new",
    [
        "<script>alert('rivers')</script>",
        "'; DROP TABLE account; -- yes",
        "  two spaces at both ends  ",
        "tabs\tand\\backslashes in it",
        "ação é reação, não é?",
        "\U0001f418 elephants never forget",
        "${form} &lt;b&gt; %s {0} \u202e rivers",
        "\ufb01ne ﬁne ligatures tonight",
        " ".join(f"{n} rivers ran past house {n * n}" for n in range(7)),
    ],
)
def test_what_is_unusual_is_taken_exactly_as_typed(someone, new):
    assert change(someone.signed_in(), LONG, new).status_int == 303
    assert holds(someone, new)
    assert not holds(someone, new.strip() + " " if new == new.strip() else new.strip())
    assert someone.give_password(someone.browser(), new).status_int == 303


@at_one
def test_one_keyboard_composes_accents_and_another_does_not(someone):
    new = "às três da manhã há pão"
    answer = change(someone.signed_in(), LONG, unicodedata.normalize("NFD", new))
    assert answer.status_int == 303
    composed = unicodedata.normalize("NFC", new)
    assert someone.give_password(someone.browser(), composed).status_int == 303


@at_one
def test_two_that_differ_are_not_taken(someone):
    answer = change(someone.signed_in(), LONG, OTHER, OTHER + " ")
    assert answer.status_int == 422
    assert "not the same" in answer.text


@at_one
@pytest.mark.parametrize("field", ["old", "new", "again"])
def test_what_no_browser_sends(someone, field):
    browser = someone.signed_in()
    values = {"old": LONG, "new": OTHER, "again": OTHER}
    for sent, status in (("a\0b" * 10, 400), ("x" * 20_001, 400), ("x" * 10_000_000, 413)):
        answer = browser.post(PAGE, {**values, field: sent}, expect_errors=True)
        assert answer.status_int == status
    answer = browser.app.post(
        PAGE,
        {"csrf_token": browser.token(), **values},
        upload_files=[(field, "f", b"x")],
        expect_errors=True,
    )
    assert answer.status_int == 400
    assert someone.mails() == []


@at_one
def test_sending_it_twice_says_what_happened(someone):
    browser = someone.signed_in()
    form = browser.get(PAGE).forms["form"]
    form["old"], form["new"], form["again"] = LONG, OTHER, OTHER
    assert form.submit().status_int == 303
    # The page that was open has an old token: it says so, and nothing changes.
    assert form.submit(expect_errors=True).status_int == 403
    assert change(browser, LONG, OTHER).status_int == 422
    assert holds(someone, OTHER)


@at_one
def test_with_a_second_factor_eight_characters_do(someone):
    browser = someone.signed_in()
    assert "At least 15 characters" in page_text(browser.get(PAGE))
    assert change(browser, LONG, "xk3pqz9w").status_int == 422
    someone.set_app_up(browser)
    page = browser.get(PAGE)
    assert "At least 8 characters" in page_text(page)
    assert page.html.find("template", attrs={"data-strength": True})["data-minimum"] == "8"
    assert "use at least 8 characters" in change(browser, LONG, "xk3pqz9").text
    assert change(browser, LONG, "xk3pqz9w").status_int == 303
    (session,) = someone.sessions()
    assert set(session.methods.split()) == {"short-password", "totp"}
    assert someone.give_password(someone.browser(), "xk3pqz9w").location.endswith(
        "/sign-in/second?next=%2F"
    )


@at_one
def test_a_short_password_whose_second_factor_is_gone_counts_for_little(someone, clock):
    """The password opens a session all the same; roles wait until it is a longer one."""
    browser = someone.signed_in()
    someone.set_app_up(browser)
    assert change(browser, LONG, "xk3pqz9w").status_int == 303
    with someone.session() as session, session.begin():
        remove_all_factors(session, someone.id, clock())
    browser = someone.browser()
    assert someone.give_password(browser, "xk3pqz9w").status_int == 303
    (session,) = someone.sessions()
    assert session.methods == "short-password"
    assert browser.get("/audit", expect_errors=True).status_int != 200
    assert change(browser, "xk3pqz9w", "xk3pqz9w2").status_int == 422
    assert change(browser, "xk3pqz9w", OTHER).status_int == 303
    (session,) = someone.sessions()
    assert session.methods == "password"
    assert browser.get("/audit").status_int == 200


@at_one
def test_a_password_that_was_changed_elsewhere_meanwhile_wins(someone, monkeypatch):
    browser = someone.signed_in()
    real = someone.portal.settings.tenant(someone.tenant).passwords

    def hash_then_lose(policy, password):
        with someone.session() as session, session.begin():
            session.execute(
                update(Account)
                .where(Account.person_id == someone.id)
                .values(password_hash=hash_password(real, "three owls on a wire fence"))
            )
        return hash_password(policy, password)

    monkeypatch.setattr("medportal.identity.views.account.hash_password", hash_then_lose)
    answer = change(browser, LONG, OTHER)
    assert answer.status_int == 422
    assert "The current password is not right." in answer.text
    assert holds(someone, "three owls on a wire fence")
    assert someone.mails() == []


@at_one
def test_the_page_is_for_whoever_is_signed_in(someone):
    browser = someone.browser()
    assert "sign-in" in browser.get(PAGE, status=303).location
    answer = browser.post(PAGE, {"old": LONG, "new": OTHER, "again": OTHER}, expect_errors=True)
    assert answer.status_int == 303
    assert holds(someone, LONG)


@at_one
def test_fields_are_what_password_managers_expect(someone):
    page = someone.signed_in().get(PAGE).html
    found = {
        field["name"]: (field["type"], field["autocomplete"], field.get("value", ""))
        for field in page.select("form#form input[type=password]")
    }
    assert found == {
        "old": ("password", "current-password", ""),
        "new": ("password", "new-password", ""),
        "again": ("password", "new-password", ""),
    }
    assert not page.select("input[maxlength]"), "nothing is cut off without a word"
    assert not page.select("[onpaste], [oncopy]")
