"""Sessions: found by their token alone, and over when they are over, on both engines."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from medportal.core.identity import Method
from medportal.identity import credentials, sessions
from medportal.identity.models import Account, AccountStatus, LoginSession, RoleGrant, SessionStage
from medportal.tenancy.tenant import SessionPolicy

BROWSER = sessions.Browser("Mozilla/5.0 (X11; Linux x86_64)", "127.0.0.1", True)
POLICY = SessionPolicy(idle=timedelta(minutes=30), absolute=timedelta(hours=12))
MINUTE = timedelta(minutes=1)


@pytest.fixture
def tenant(tenant):
    """Give the hospital with the same times for every role."""
    roles = {name: replace(role, sessions=None) for name, role in tenant.roles.items()}
    return replace(tenant, sessions=POLICY, roles=roles)


def opened(session, person, now):
    return sessions.open_session(
        session, person, now, methods=frozenset({Method.PASSWORD}), browser=BROWSER
    )


def count(session, model):
    return session.scalar(select(func.count()).select_from(model))


def test_a_session_is_found_by_its_token_alone(session, register, tenant, now):
    person = register().person_id
    session_id, token = opened(session, person, now)
    login = sessions.find_session(session, tenant, token, now)
    assert (login.id, login.person_id, login.person_name) == (session_id, person, "Amanda Júlio")
    assert login.roles == {"doctor"}
    for wrong in ("", session_id, token[:-1], token + "A", token.swapcase(), "\ud800", person):
        assert sessions.find_session(session, tenant, wrong, now) is None


def test_the_database_holds_hashes_of_tokens(session, register, now):
    _, token = opened(session, register().person_id, now)
    session.flush()
    (stored,) = session.scalars(select(LoginSession.token_hash))
    assert len(stored) == 32
    assert token.encode() not in stored
    assert len(token) == 43, "256 bits"


@pytest.mark.parametrize(
    ("used_after", "asked_after", "in_force"),
    [
        (timedelta(0), POLICY.idle - timedelta(microseconds=1), True),
        (timedelta(0), POLICY.idle, False),
        (20 * MINUTE, 20 * MINUTE + POLICY.idle - MINUTE, True),
        (20 * MINUTE, 20 * MINUTE + POLICY.idle, False),
        (POLICY.absolute - MINUTE, POLICY.absolute - timedelta(microseconds=1), True),
        (POLICY.absolute - MINUTE, POLICY.absolute, False),
    ],
)
def test_sessions_end(session, register, tenant, now, used_after, asked_after, in_force):
    session_id, token = opened(session, register().person_id, now)
    session.flush()
    sessions.touch_session(session, session_id, now + used_after)
    found = sessions.find_session(session, tenant, token, now + asked_after)
    assert (found is not None) is in_force
    # What housekeeping deletes is exactly what is not found any more.
    assert sessions.forget_stale_sessions(session, tenant, now + asked_after) == (not in_force)


def test_ending_one_session_leaves_the_others(session, register, tenant, now):
    person = register().person_id
    (first, one), (_, other) = (opened(session, person, now) for _ in range(2))
    sessions.end_session(session, first)
    assert sessions.find_session(session, tenant, one, now) is None
    assert sessions.find_session(session, tenant, other, now)
    sessions.end_session(session, first)
    sessions.end_sessions(session, person)
    assert count(session, LoginSession) == 0


def test_suspension_ends_access_at_once(session, register, tenant, now):
    person = register().person_id
    _, token = opened(session, person, now)
    session.flush()
    session.execute(update(Account).values(status=AccountStatus.SUSPENDED))
    assert sessions.find_session(session, tenant, token, now) is None
    assert credentials.credentials(session, "citizen-card", "17645234").active is False


def test_roles_are_those_of_now(session, register, tenant, now):
    person = register(role="doctor").person_id
    _, token = opened(session, person, now)
    register(role="patient")
    assert sessions.find_session(session, tenant, token, now).roles == {"doctor", "patient"}
    session.delete(session.get(RoleGrant, (person, "doctor")))
    session.flush()
    assert sessions.find_session(session, tenant, token, now).roles == {"patient"}


def test_a_new_token_voids_the_old_one_and_says_what_was_proved(session, register, tenant, now):
    _, old = opened(session, register().person_id, now)
    login = sessions.find_session(session, tenant, old, now)
    later = now + MINUTE
    new = sessions.rotate_session(session, login, later, add=frozenset({Method.TOTP}))
    assert sessions.find_session(session, tenant, old, later) is None
    found = sessions.find_session(session, tenant, new, later)
    assert found.methods == {Method.PASSWORD, Method.TOTP}
    assert (found.id, found.confirmed_at, found.created_at) == (login.id, later, now)


def test_a_session_that_was_ended_is_not_rotated_back_to_life(session, register, tenant, now):
    person = register().person_id
    _, token = opened(session, person, now)
    login = sessions.find_session(session, tenant, token, now)
    sessions.end_sessions(session, person)
    assert sessions.rotate_session(session, login, now, add=frozenset()) is None
    assert count(session, LoginSession) == 0


def test_a_half_open_session_is_nobodys_and_soon_over(session, register, tenant, now):
    person = register().person_id
    _, token = sessions.open_session(
        session,
        person,
        now,
        methods=frozenset({Method.PASSWORD}),
        browser=BROWSER,
        stage=SessionStage.SECOND_FACTOR,
    )
    assert sessions.find_session(session, tenant, token, now).stage is SessionStage.SECOND_FACTOR
    assert sessions.sessions_of(session, tenant, person, now) == []
    assert sessions.find_session(session, tenant, token, now + sessions.SECOND_STEP) is None


def test_the_list_shows_the_sessions_in_force_last_used_first(session, register, tenant, now):
    person = register().person_id
    first, second, over = (opened(session, person, now - n * MINUTE)[0] for n in (2, 1, 31))
    opened(session, register(number="12345678").person_id, now)
    session.flush()
    sessions.touch_session(session, first, now)
    lines = sessions.sessions_of(session, tenant, person, now)
    assert [line.id for line in lines] == [first, second]
    assert over not in {line.id for line in lines}
    assert (lines[0].user_agent, lines[0].address) == (BROWSER.user_agent, "127.0.0.1")


def test_one_ends_ones_own_sessions_only(session, register, now):
    mine, other = register().person_id, register(number="12345678").person_id
    session_id, _ = opened(session, mine, now)
    session.flush()
    assert not sessions.end_session(session, session_id, other)
    assert sessions.end_session(session, session_id, mine)
    assert not sessions.end_session(session, session_id, mine)


def test_all_sessions_but_this_one_end(session, register, now):
    person = register().person_id
    ids = [opened(session, person, now)[0] for _ in range(3)]
    assert sessions.end_sessions(session, person, but=ids[1]) == 2
    assert session.scalars(select(LoginSession.id)).all() == [ids[1]]


@pytest.mark.parametrize(
    ("said", "kept"),
    [("x" * 900, "x" * 200), ("a\x00b\r\nSet-Cookie: c", "abSet-Cookie: c"), ("", "")],
)
def test_what_a_browser_says_of_itself_is_cut(said, kept):
    assert sessions.Browser(said, "127.0.0.1", False).user_agent == kept


def test_half_open_sessions_end_no_open_one_and_are_three(session, register, tenant, now):
    """Somebody who knows no more than the password tries it over and over."""
    person = register().person_id
    _, token = opened(session, person, now)
    for minute in range(1, 25):
        sessions.open_session(
            session,
            person,
            now + minute * timedelta(seconds=1),
            methods=frozenset({Method.PASSWORD}),
            browser=BROWSER,
            stage=SessionStage.SECOND_FACTOR,
        )
    assert sessions.find_session(session, tenant, token, now) is not None
    stages = session.scalars(select(LoginSession.stage)).all()
    assert sorted(stages) == ["open"] + 3 * ["second-factor"]


def test_half_open_sessions_that_are_completed_are_counted_too(session, register, tenant, now):
    person = register().person_id
    for second in range(25):
        at = now + timedelta(seconds=second)
        _, token = sessions.open_session(
            session,
            person,
            at,
            methods=frozenset({Method.PASSWORD}),
            browser=BROWSER,
            stage=SessionStage.SECOND_FACTOR,
        )
        half = sessions.find_session(session, tenant, token, at)
        assert sessions.rotate_session(session, half, at, add=frozenset({Method.TOTP}))
    assert count(session, LoginSession) == 20
