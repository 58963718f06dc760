"""Credentials are changed by sessions that are in force when it happens, and by no others."""

from datetime import timedelta

import pytest
from second_factor_helpers import (
    LONG,
    begin,
    register,
    shown_codes,
    shown_key,
    told,
)
from sqlalchemy import func, select, update

from medportal.identity import email_change, policy, recovery
from medportal.identity.accounts import begin_anew
from medportal.identity.factors import remove_all_factors
from medportal.identity.links import link_hash
from medportal.identity.models import (
    Account,
    EmailChange,
    LoginSession,
    Person,
    RecoveryCode,
    Totp,
)
from medportal.identity.sessions import end_sessions
from medportal.mail.kinds import MailKind
from medportal.mail.models import OutgoingMail

SET_UP = "/account/second-factor"
APP = SET_UP + "/app"
CODES = SET_UP + "/recovery-codes"
CONFIRM = "/account/confirm"
PASSWORD = "/account/password"
EMAIL = "/account/email"
OTHER = "seven green lamps in a row"


@pytest.fixture(autouse=True)
def cheap_codes(monkeypatch):
    """Let recovery codes cost as little as the passwords of these tests do."""
    monkeypatch.setattr("medportal.identity.recovery._MEMORY_KIB", 8)


@pytest.fixture
def someone(portal, clock):
    return register(portal, clock, "hospital")


def careful(someone):
    """Return a browser of somebody who has just set an app up."""
    browser = someone.signed_in()
    someone.set_app_up(browser)
    return browser


def beginning_an_app(someone):
    return someone.signed_in(), APP, {"__formid__": "begin"}


def finishing_an_app(someone):
    browser = someone.signed_in()
    page = begin(browser)
    someone.secret = shown_key(page)
    form = page.forms["form"]
    form["code"] = someone.code()
    return browser, APP, dict(form.submit_fields())


def moving_the_app(someone):
    browser = careful(someone)
    page = begin(browser)
    someone.secret = shown_key(page)
    form = page.forms["form"]
    form["code"] = someone.code()
    return browser, APP, dict(form.submit_fields())


def removing_the_app(someone):
    return careful(someone), APP + "/remove", {"password": LONG}


def making_codes(someone):
    return careful(someone), CODES, {}


def changing_the_password(someone):
    return someone.signed_in(), PASSWORD, {"old": LONG, "new": OTHER, "again": OTHER}


def asking_for_an_address(someone):
    return someone.signed_in(), EMAIL, {"email": "new@example.org"}


def confirming_an_address(someone):
    browser = someone.signed_in()
    with someone.session() as session, session.begin():
        change = email_change.request_own(session, someone.id, "new@example.org", someone.clock())
        session.flush()
        session.execute(
            update(EmailChange)
            .where(EmailChange.id == change)
            .values(
                link_hash=link_hash(MailKind.EMAIL_CONFIRM, f"link-{someone.id}"),
                expires_at=someone.clock() + timedelta(hours=1),
            )
        )
    return browser, "/email/confirm", {"link": f"link-{someone.id}"}


def sign_out(session, someone):
    end_sessions(session, someone.id)


def suspend(session, someone):
    session.execute(
        update(Account).where(Account.person_id == someone.id).values(status="suspended")
    )
    end_sessions(session, someone.id)


def reset_factors(session, someone):
    remove_all_factors(session, someone.id, someone.clock())


def anew(session, someone):
    begin_anew(session, someone.id, someone.clock(), by=None)


def state(someone):
    """Return everything that opens the account, or tells its person of it."""
    with someone.session() as session:

        def rows(model, *columns):
            mine = select(*columns).where(model.person_id == someone.id)
            return sorted(map(tuple, session.execute(mine)), key=repr)

        return (
            rows(Account, Account.password_hash, Account.status),
            rows(Totp, Totp.sealed_secret, Totp.confirmed_at, Totp.pending_secret),
            rows(RecoveryCode, RecoveryCode.code_hash),
            rows(EmailChange, EmailChange.id, EmailChange.done_at, EmailChange.cancelled_at),
            rows(OutgoingMail, OutgoingMail.id),
            rows(LoginSession, LoginSession.id),
            session.scalar(select(Person.email).where(Person.id == someone.id)),
        )


def post_while(monkeypatch, someone, browser, path, fields, deed):
    """Send a form; do the deed in the moment after its session was found."""
    real, states = policy.find_session, []

    def found_then(*arguments):
        found = real(*arguments)
        if not states:
            with someone.session() as session, session.begin():
                deed(session, someone)
            states.append(state(someone))
        return found

    fields = {**fields, "csrf_token": browser.token()}
    monkeypatch.setattr(policy, "find_session", found_then)
    answer = browser.app.post(path, fields, expect_errors=True)
    monkeypatch.setattr(policy, "find_session", real)
    assert states
    return answer, states[0]


@pytest.mark.parametrize("deed", [sign_out, suspend, reset_factors, anew])
@pytest.mark.parametrize(
    "way",
    [
        beginning_an_app,
        finishing_an_app,
        moving_the_app,
        removing_the_app,
        making_codes,
        changing_the_password,
        asking_for_an_address,
        confirming_an_address,
    ],
)
def test_nothing_that_is_under_way_outlives_its_session(someone, monkeypatch, way, deed):
    browser, path, fields = way(someone)
    answer, before = post_while(monkeypatch, someone, browser, path, fields, deed)
    assert state(someone) == before
    assert shown_codes(answer) == []
    if deed in (sign_out, suspend):
        assert answer.location.endswith("/sign-in")
        assert told(browser)[0][0] == "warn"
    assert "/sign-in" in browser.get("/account", status=303).location


def test_the_first_second_factor_comes_with_new_codes(someone):
    """Codes that somebody left behind while there was no factor open nothing later."""
    with someone.session() as session, session.begin():
        old = recovery.replace_codes(session, someone.id, someone.clock())
    codes = someone.set_app_up(someone.signed_in())
    assert len(codes) == 10 and not set(codes) & set(old)
    with someone.session() as session:
        mine = select(func.count()).select_from(RecoveryCode)
        assert session.scalar(mine.where(RecoveryCode.person_id == someone.id)) == 10


def test_codes_are_made_three_times_an_hour(someone):
    browser = careful(someone)
    assert len(shown_codes(browser.post(CODES, {}))) == 10
    assert len(shown_codes(browser.post(CODES, {}))) == 10
    before = state(someone)
    answer = browser.post(CODES, {})
    assert answer.location.endswith(CODES)
    assert "Wait an hour" in told(browser)[0][1]
    assert state(someone) == before
    event = someone.events()[-1]
    assert (event.action, event.outcome) == ("recovery-codes-made", "denied")
    assert event.reasons == ("too-many",)
    someone.clock.forward(minutes=61)
    assert len(shown_codes(someone.signed_in().post(CODES, {}))) == 10


def test_a_second_factor_ends_the_sessions_that_came_before_it(someone):
    elsewhere, browser = someone.signed_in(), someone.signed_in()
    someone.set_app_up(browser)
    assert "/sign-in" in elsewhere.get("/account", status=303).location
    assert browser.get("/account").status_int == 200


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (CONFIRM, {"password": LONG, "next": SET_UP}),
        (APP + "/remove", {"password": LONG}),
        (CODES, {}),
        (PASSWORD, {"old": LONG, "new": OTHER, "again": OTHER}),
    ],
)
def test_a_session_without_the_factor_that_there_is_signs_in_again(someone, path, fields):
    browser = careful(someone)
    with someone.session() as session, session.begin():
        session.execute(
            update(LoginSession)
            .where(LoginSession.person_id == someone.id)
            .values(methods="password")
        )
    before = state(someone)
    code = someone.code()
    answer = browser.post(path, {**fields, **({"code": code} if path == CONFIRM else {})})
    assert answer.location.endswith("/sign-in")
    after = state(someone)
    assert before[:5] == after[:5] and after[5] == []
    event = someone.events()[-1]
    assert (event.action, event.reasons) == ("session-ended", ("second-factor-needed",))
    # The page of sign-in is there, and the code was not spent.
    assert browser.get("/sign-in").status_int == 200
    half = someone.half_in()
    form = half.get("/sign-in/second").forms["form"]
    form["code"] = code
    assert form.submit(expect_errors=True).status_int == 303


def test_a_password_alone_confirms_nobody_who_has_a_second_factor(someone):
    browser = careful(someone)
    with someone.session() as session, session.begin():
        long_ago = someone.clock() - timedelta(minutes=40)
        session.execute(
            update(LoginSession)
            .where(LoginSession.person_id == someone.id)
            .values(confirmed_at=long_ago, methods="passkey password totp")
        )
    (before,) = someone.sessions()
    fields = {"old": LONG, "new": OTHER, "again": OTHER}
    assert browser.post(PASSWORD, fields).location.endswith("/account")
    (after,) = someone.sessions()
    assert after.id == before.id and after.token_hash != before.token_hash
    assert after.confirmed_at == before.confirmed_at
    # It no longer counts as having the passkey that the account does not have.
    assert after.methods == "password totp"
    assert CONFIRM in browser.get(SET_UP, status=303).location


def test_a_right_password_is_in_the_log_before_the_second_proof(someone):
    careful(someone)
    someone.half_in()
    event = someone.events()[-1]
    assert (event.action, event.outcome) == ("second-factor-awaited", "allowed")
    assert event.details["method"] == "password"
    assert [s.stage for s in someone.sessions()].count("second-factor") == 1
