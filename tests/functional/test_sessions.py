"""The list of one's sessions, ending them, and what acts on them at the next request."""

import json
from datetime import timedelta

import pytest
from click.testing import CliRunner
from functional_helpers import page_text
from installation import NUMBERS
from sqlalchemy import func, select, update

from medportal.audit.events import Action, Event
from medportal.audit.models import AuditEvent
from medportal.cli import main
from medportal.core.clock import utcnow
from medportal.identity.models import Account, AccountStatus, LoginSession, RoleGrant

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0"
OUTSIDE = "203.0.113.9"


def sessions_of(portal, role, tenant="hospital"):
    with portal.session(tenant) as session:
        return list(
            session.scalars(
                select(LoginSession).where(LoginSession.person_id == portal.person(role, tenant))
            )
        )


def from_elsewhere(portal, role, tenant="hospital"):
    browser = portal.browser(tenant)
    browser.app.extra_environ |= {"REMOTE_ADDR": OUTSIDE, "HTTP_USER_AGENT": FIREFOX}
    assert browser.sign_in(NUMBERS[role]).status_int == 303
    return browser


@pytest.mark.parametrize("tenant", ["hospital", "laboratory"])
def test_the_list_says_device_and_place(portal, tenant):
    here = portal.signed_in("auditor", tenant)
    from_elsewhere(portal, "auditor", tenant)
    page = here.get("/account/sessions")
    text = page_text(page)
    assert "Firefox on Linux" in text and OUTSIDE in text and "Outside the institution" in text
    assert "This device" in text and "At the institution" in text
    assert "Unknown device" in text and "Signed in with password" in text


def test_one_session_is_ended_and_the_others_stay(portal):
    here, there = portal.signed_in("porter"), from_elsewhere(portal, "porter")
    ended = next(row.id for row in sessions_of(portal, "porter") if row.address == OUTSIDE)
    answer = here.post(f"/account/sessions/{ended}/end", {}, status=303).follow()
    assert "That device is signed out." in answer.text
    assert there.get("/account/sessions", status=303).location.startswith(
        "https://hospital.localhost:8443/sign-in"
    )
    here.get("/account/sessions", status=200)
    events = [e for e in portal.events("hospital") if e[0] == "session-ended"]
    assert events[-1][2] == portal.person("porter")


def test_all_others_are_ended_at_once(portal):
    here, there = portal.signed_in("volunteer"), from_elsewhere(portal, "volunteer")
    here.post("/account/sessions/end-others", {}, status=303)
    there.get("/patients", status=303)
    here.get("/patients", status=200)
    assert len(sessions_of(portal, "volunteer")) == 1


def test_the_session_of_somebody_else_is_not_ended_and_not_told_about(portal):
    victim, thief = portal.signed_in("nurse"), portal.signed_in("porter")
    target = sessions_of(portal, "nurse")[-1].id
    hidden = thief.post(f"/account/sessions/{target}/end", {}, status=303)
    missing = thief.post(f"/account/sessions/{'0' * 32}/end", {}, status=303)
    assert hidden.location == missing.location
    victim.get("/patients", status=200)


def test_the_neighbours_session_is_out_of_reach(portal):
    victim = portal.signed_in("auditor", "laboratory")
    target = sessions_of(portal, "auditor", "laboratory")[-1].id
    portal.signed_in("auditor").post(f"/account/sessions/{target}/end", {}, status=303)
    victim.get("/audit", status=200)


def test_a_header_that_a_browser_sends_puts_nobody_on_site(portal):
    browser = portal.browser()
    browser.app.extra_environ |= {
        "REMOTE_ADDR": OUTSIDE,
        "HTTP_X_FORWARDED_FOR": "127.0.0.1",
        "HTTP_FORWARDED": "for=127.0.0.1",
        "HTTP_X_REAL_IP": "127.0.0.1",
    }
    assert browser.sign_in(NUMBERS["patient_assistant"]).status_int == 303
    assert [row.on_site for row in sessions_of(portal, "patient_assistant")] == [False]
    assert [row.address for row in sessions_of(portal, "patient_assistant")] == [OUTSIDE]


def test_suspension_and_lost_roles_act_at_the_next_request(portal):
    browser = portal.signed_in("clinical_assistant")
    person = portal.person("clinical_assistant")
    browser.get("/patients", status=200)
    with portal.session("hospital") as session, session.begin():
        session.execute(update(RoleGrant).where(RoleGrant.person_id == person).values(role="none"))
    browser.get("/patients", status=404)
    with portal.session("hospital") as session, session.begin():
        session.execute(
            update(RoleGrant).where(RoleGrant.person_id == person).values(role="clinical_assistant")
        )
        session.execute(
            update(Account)
            .where(Account.person_id == person)
            .values(status=AccountStatus.SUSPENDED)
        )
    browser.get("/patients", status=303)
    with portal.session("hospital") as session, session.begin():
        session.execute(
            update(Account).where(Account.person_id == person).values(status=AccountStatus.ACTIVE)
        )


def test_sessions_that_are_over_are_not_listed(portal):
    here = portal.signed_in("privacy_officer")
    from_elsewhere(portal, "privacy_officer")
    with portal.session("hospital") as session, session.begin():
        session.execute(
            update(LoginSession)
            .where(LoginSession.address == OUTSIDE)
            .values(last_used_at=utcnow() - timedelta(hours=2))
        )
    assert OUTSIDE not in here.get("/account/sessions").text


def test_what_a_browser_says_of_itself_is_cut_and_escaped(portal):
    browser = portal.browser()
    browser.app.extra_environ |= {"HTTP_USER_AGENT": "<script>Chrome/</script>\x07" + "x" * 5000}
    assert browser.sign_in(NUMBERS["other_doctor"]).status_int == 303
    (row,) = sessions_of(portal, "other_doctor")
    assert len(row.user_agent) == 200 and "\x07" not in row.user_agent
    assert "<script>Chrome" not in browser.get("/account/sessions").text


def test_the_language_of_mails_is_chosen_on_a_page(portal):
    browser = portal.signed_in("other_doctor")
    form = browser.get("/account/language").forms["form"]
    form["language"] = "pt"
    form.submit(status=303)
    assert "A minha conta" in browser.get("/account").text
    browser.post("/account/language", {"__formid__": "form", "language": "xx"}, status=422)
    form["language"] = "en"
    form.submit(status=303)


def test_a_person_has_at_most_twenty_sessions_and_the_oldest_gives_way(portal):
    first = portal.signed_in("patient")
    oldest = sessions_of(portal, "patient")
    for _ in range(20):
        portal.signed_in("patient")
    left = sessions_of(portal, "patient")
    assert len(left) == 20
    assert not {row.id for row in oldest} & {row.id for row in left}
    first.get("/account", status=303)


def test_looking_at_ones_sessions_takes_a_fresh_proof(portal):
    browser = portal.signed_in("ward_clerk")
    long_ago = utcnow() - timedelta(minutes=45)
    with portal.session("hospital") as session, session.begin():
        session.execute(
            update(LoginSession)
            .where(LoginSession.person_id == portal.person("ward_clerk"))
            .values(confirmed_at=long_ago)
        )
    for answer in (
        browser.get("/account/sessions", status=303),
        browser.post("/account/sessions/end-others", {}, status=303),
    ):
        assert "/account/confirm" in answer.location


@pytest.fixture
def command(portal, tmp_path):
    """Give a function that runs the command line on this installation."""
    ini = tmp_path / "portal.ini"
    lines = (f"{name} = {value}" for name, value in portal.raw.items())
    ini.write_text("\n".join(["[app:main]", "use = egg:medportal", *lines]), "utf-8")
    return lambda *words: CliRunner().invoke(main, ["--config", str(ini), "--json", *words])


def count_of(portal, tenant):
    with portal.session(tenant) as session:
        return session.scalar(select(func.count()).select_from(LoginSession))


def ends_of(portal, tenant):
    """Return the events of sessions that were ended, oldest first."""
    query = select(AuditEvent.body).where(AuditEvent.action == Action.SESSION_ENDED)
    with portal.session(tenant) as session:
        bodies = session.scalars(query.order_by(AuditEvent.at, AuditEvent.id))
        return [Event.from_bytes(body) for body in bodies]


def test_one_command_signs_everybody_of_one_institution_out(portal, command):
    browsers = [portal.signed_in("porter"), from_elsewhere(portal, "volunteer")]
    other = portal.signed_in("auditor", "laboratory")
    count, before = count_of(portal, "hospital"), ends_of(portal, "laboratory")
    said = command("sessions", "end", "hospital", "--reason", "stolen-device")
    assert said.exit_code == 0, said.output
    assert json.loads(said.stdout) == {"tenant": "hospital", "ended": count}
    assert count_of(portal, "hospital") == 0 < count
    for browser in browsers:
        assert "/sign-in" in browser.get("/account/sessions", status=303).location
    other.get("/account/sessions", status=200)
    assert ends_of(portal, "laboratory") == before
    event = ends_of(portal, "hospital")[-1]
    assert event.actor == "process:command-line"
    assert event.details == {"by": "command-line", "count": count, "reason": "stolen-device"}
    portal.signed_in("porter").get("/account/sessions", status=200)


@pytest.mark.parametrize(
    "words",
    [
        ("hospital", "--reason", "They were rude to Ana"),
        ("hospital", "--reason", ""),
        ("hospital", "--reason", "x" * 65),
        ("hospital",),
        ("elsewhere", "--reason", "test"),
        ("--reason", "test"),
    ],
)
def test_what_names_no_institution_or_reason_ends_nothing(portal, command, words):
    browser = portal.signed_in("porter")
    said = command("sessions", "end", *words)
    assert said.exit_code == 2
    assert isinstance(said.exception, SystemExit)
    browser.get("/account/sessions", status=200)
