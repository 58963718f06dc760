"""Register, activate, sign in, change a password, end sessions, on both engines."""

import threading
from datetime import date, timedelta

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from medportal.core.ids import is_id
from medportal.identity import service
from medportal.identity.errors import ActivationRefused, WeakPassword, WrongPassword
from medportal.identity.models import (
    Account,
    AccountStatus,
    Activation,
    LoginSession,
    Person,
    PersonIdentifier,
    RoleGrant,
)
from medportal.identity.passwords import hash_password, verify_password
from medportal.tenancy.tenant import SessionPolicy

GOOD = "quiet rivers carry small boats"
OTHER = "seven green lamps in a row"
POLICY = SessionPolicy(idle=timedelta(minutes=30), absolute=timedelta(hours=12))
MINUTE = timedelta(minutes=1)


def count(session, model):
    return session.scalar(select(func.count()).select_from(model))


def test_registering_makes_person_number_account_and_role(session, register, now):
    made = register(by="f" * 32)
    assert made.created
    assert is_id(made.person_id)
    assert service.find_person(session, "citizen-card", "17645234") == made.person_id
    assert service.roles_of(session, made.person_id) == {"doctor"}
    found = service.credentials(session, "citizen-card", "17645234")
    assert found == service.Credentials(made.person_id, None, active=True)
    grant = session.get(RoleGrant, (made.person_id, "doctor"))
    assert (grant.granted_by, grant.granted_at) == ("f" * 32, now)
    assert service.names_of(session, [made.person_id, made.person_id, "0" * 32]) == {
        made.person_id: "Amanda Júlio"
    }


def test_whoever_is_known_gets_the_role_and_keeps_their_data(session, register):
    first = register(role="doctor")
    again = register(role="patient", name="Somebody Else")
    assert again == service.Registered(first.person_id, created=False)
    assert register(role="patient").created is False
    assert service.roles_of(session, first.person_id) == {"doctor", "patient"}
    assert session.scalar(select(Person.name)) == "Amanda Júlio"
    assert count(session, Person) == count(session, Account) == 1


def test_numbers_of_other_schemes_are_others(session, register):
    register()
    assert service.find_person(session, "passport", "17645234") is None
    assert service.credentials(session, "passport", "17645234") is None
    assert service.find_person(session, "citizen-card", "17645235") is None


def test_two_registrations_at_once_make_one_person(engine, now):
    """Two clerks, two connections: one person, and the second finds the first or is refused."""
    barrier = threading.Barrier(2)
    outcomes = []

    def clerk():
        barrier.wait(10)
        try:
            with Session(engine) as session, session.begin():
                made = service.register_person(
                    session,
                    scheme="citizen-card",
                    number="17645234",
                    profile=service.Profile("A", date(1980, 1, 1), "female"),
                    role="patient",
                    by=None,
                    now=now,
                )
                outcomes.append(made.person_id)
        except IntegrityError:
            outcomes.append("refused")

    threads = [threading.Thread(target=clerk) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    with Session(engine) as session:
        ids = session.scalars(select(PersonIdentifier.person_id)).all()
        assert len(ids) == count(session, Person) == 1
        assert len(outcomes) == 2
        assert set(outcomes) <= {ids[0], "refused"}
        assert ids[0] in outcomes


# -- activation --------------------------------------------------------------------------------


def activate(session, tenant, code, now, number="17645234", password=GOOD):
    """Check, hash and activate, as the view does; return the person's id."""
    person = service.check_activation(session, tenant, number, code, password, now)
    service.activate(session, person, code, hash_password(tenant.passwords, password), now)
    return person


def change(session, tenant, person, old, new, now):
    """Check, hash and replace, as the view does."""
    service.check_password_change(session, tenant, person, old, new)
    service.replace_password(session, person, hash_password(tenant.passwords, new), now)


def test_a_code_lets_somebody_choose_a_password_once(session, register, tenant, now):
    person = register().person_id
    code = service.issue_activation(session, person, now)
    assert activate(session, tenant, code, now) == person
    stored = service.credentials(session, "citizen-card", "17645234").password_hash
    assert verify_password(tenant.passwords, stored, GOOD)
    session.flush()
    with pytest.raises(ActivationRefused):
        activate(session, tenant, code, now, password=OTHER)
    assert count(session, Activation) == 0


def test_a_code_is_read_as_people_copy_it(session, register, tenant, now, monkeypatch):
    person = register().person_id
    monkeypatch.setattr(service.secrets, "choice", lambda alphabet: "0" if alphabet else "")
    assert service.issue_activation(session, person, now) == "0000-0000-0000"
    assert activate(session, tenant, " oooo OoO0-o000", now) == person


def test_the_letters_that_look_like_one(session, register, tenant, now, monkeypatch):
    person = register().person_id
    monkeypatch.setattr(service.secrets, "choice", lambda _alphabet: "1")
    service.issue_activation(session, person, now)
    assert activate(session, tenant, "ilIL1i-llll-11", now) == person


def test_codes_are_random_and_only_their_hash_is_kept(session, register, now):
    person = register().person_id
    codes = {service.issue_activation(session, person, now) for _ in range(20)}
    assert len(codes) == 20
    assert all(len(code.replace("-", "")) == 12 for code in codes)
    (stored,) = session.scalars(select(Activation.code_hash))
    assert len(stored) == 32


def test_a_new_code_ends_the_old_one(session, register, tenant, now):
    person = register().person_id
    old = service.issue_activation(session, person, now)
    new = service.issue_activation(session, person, now)
    with pytest.raises(ActivationRefused):
        activate(session, tenant, old, now)
    assert activate(session, tenant, new, now) == person


@pytest.mark.parametrize("case", ["number", "code", "late", "empty", "hostile"])
def test_whatever_is_wrong_gets_one_answer(session, register, tenant, now, case):
    code = service.issue_activation(session, register().person_id, now)
    number, given, at = "17645234", code, now
    if case == "number":
        number = "99999999"
    elif case == "late":
        at = now + service.ACTIVATION_LIFETIME
    else:
        given = {"code": "AAAA-BBBB-CCCC", "empty": "", "hostile": "\ud800é" * 9}[case]
    with pytest.raises(ActivationRefused) as refused:
        activate(session, tenant, given, at, number)
    assert str(refused.value) == "activation refused"
    assert service.credentials(session, "citizen-card", "17645234").password_hash is None


def test_a_code_stands_until_the_last_moment(session, register, tenant, now):
    code = service.issue_activation(session, register().person_id, now)
    at = now + service.ACTIVATION_LIFETIME - timedelta(microseconds=1)
    assert activate(session, tenant, code, at)


@pytest.mark.parametrize(
    "password", ["short", "Amanda Júlio 17645234", "Riverside Hospital", "palavra-passe passe"]
)
def test_a_weak_password_leaves_the_code_usable(session, register, tenant, now, password):
    code = service.issue_activation(session, register().person_id, now)
    with pytest.raises(WeakPassword):
        activate(session, tenant, code, now, password=password)
    assert activate(session, tenant, code, now)


def test_a_code_that_was_used_or_replaced_since_the_check_is_refused(
    session, register, tenant, now
):
    person = register().person_id
    hashed = hash_password(tenant.passwords, GOOD)
    old = service.issue_activation(session, person, now)
    assert service.check_activation(session, tenant, "17645234", old, GOOD, now) == person
    new = service.issue_activation(session, person, now)
    session.flush()
    for code, at in ((old, now), (new, now + service.ACTIVATION_LIFETIME)):
        with pytest.raises(ActivationRefused):
            service.activate(session, person, code, hashed, at)
    service.activate(session, person, new, hashed, now)
    with pytest.raises(ActivationRefused):
        service.activate(session, person, new, hash_password(tenant.passwords, OTHER), now)
    stored = service.credentials(session, "citizen-card", "17645234").password_hash
    assert stored == hashed


def test_a_code_opens_its_own_account_alone(session, register, tenant, now):
    mine, other = register().person_id, register(number="12345678").person_id
    code = service.issue_activation(session, mine, now)
    service.issue_activation(session, other, now)
    session.flush()
    with pytest.raises(ActivationRefused):
        activate(session, tenant, code, now, number="12345678")
    with pytest.raises(ActivationRefused):
        service.activate(session, other, code, "hash", now)


def test_activation_ends_sessions(session, register, tenant, now):
    person = register().person_id
    token = service.open_session(session, person, now)[1]
    activate(session, tenant, service.issue_activation(session, person, now), now)
    assert service.find_session(session, POLICY, token, now) is None


# -- passwords -----------------------------------------------------------------------------------


def test_changing_a_password_ends_every_session_of_that_person(session, register, tenant, now):
    person = register().person_id
    other = register(number="12345678").person_id
    service.set_password(session, person, tenant.passwords, GOOD, now)
    tokens = [service.open_session(session, who, now)[1] for who in (person, person, other)]
    change(session, tenant, person, GOOD, OTHER, now + MINUTE)
    found = [service.find_session(session, POLICY, t, now) for t in tokens]
    assert [login.person_id if login else None for login in found] == [None, None, other]
    stored = service.credentials(session, "citizen-card", "17645234").password_hash
    assert verify_password(tenant.passwords, stored, OTHER)
    assert not verify_password(tenant.passwords, stored, GOOD)
    session.expire_all()
    assert session.get(Account, person).password_changed_at == now + MINUTE


@pytest.mark.parametrize(
    ("old", "new", "error"), [("wrong", OTHER, WrongPassword), (GOOD, "short", WeakPassword)]
)
def test_a_refused_change_changes_nothing(session, register, tenant, now, old, new, error):
    person = register().person_id
    service.set_password(session, person, tenant.passwords, GOOD, now)
    token = service.open_session(session, person, now)[1]
    before = service.credentials(session, "citizen-card", "17645234")
    with pytest.raises(error):
        change(session, tenant, person, old, new, now)
    assert service.credentials(session, "citizen-card", "17645234") == before
    assert service.find_session(session, POLICY, token, now)


def test_a_hash_is_renewed_unless_the_password_changed_meanwhile(session, register, tenant, now):
    person = register().person_id
    service.set_password(session, person, tenant.passwords, GOOD, now)
    old = service.credentials(session, "citizen-card", "17645234").password_hash
    service.renew_hash(session, person, old, "renewed")
    service.renew_hash(session, person, old, "too late")
    assert service.credentials(session, "citizen-card", "17645234").password_hash == "renewed"


def test_nobody_without_a_password_changes_it(session, register, tenant, now):
    with pytest.raises(WrongPassword):
        change(session, tenant, register().person_id, "", OTHER, now)
    with pytest.raises(WrongPassword):
        change(session, tenant, "0" * 32, "", OTHER, now)


# -- sessions ------------------------------------------------------------------------------------


def test_a_session_is_found_by_its_token_alone(session, register, now):
    person = register().person_id
    session_id, token = service.open_session(session, person, now)
    login = service.find_session(session, POLICY, token, now)
    assert (login.id, login.person_id, login.person_name) == (session_id, person, "Amanda Júlio")
    assert login.roles == {"doctor"}
    for wrong in ("", session_id, token[:-1], token + "A", token.swapcase(), "\ud800", person):
        assert service.find_session(session, POLICY, wrong, now) is None


def test_the_database_holds_hashes_of_tokens(session, register, now):
    _, token = service.open_session(session, register().person_id, now)
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
def test_sessions_end(session, register, now, used_after, asked_after, in_force):
    session_id, token = service.open_session(session, register().person_id, now)
    session.flush()
    service.touch_session(session, session_id, now + used_after)
    found = service.find_session(session, POLICY, token, now + asked_after)
    assert (found is not None) is in_force
    # What housekeeping deletes is exactly what is not found any more.
    assert service.forget_stale_sessions(session, POLICY, now + asked_after) == (not in_force)


def test_ending_one_session_leaves_the_others(session, register, now):
    person = register().person_id
    (first, one), (_, other) = (service.open_session(session, person, now) for _ in range(2))
    service.end_session(session, first)
    assert service.find_session(session, POLICY, one, now) is None
    assert service.find_session(session, POLICY, other, now)
    service.end_session(session, first)
    service.end_sessions(session, person)
    assert count(session, LoginSession) == 0


def test_suspension_ends_access_at_once(session, register, now):
    person = register().person_id
    _, token = service.open_session(session, person, now)
    session.flush()
    session.execute(update(Account).values(status=AccountStatus.SUSPENDED))
    assert service.find_session(session, POLICY, token, now) is None
    assert service.credentials(session, "citizen-card", "17645234").active is False


def test_roles_are_those_of_now(session, register, now):
    person = register(role="doctor").person_id
    _, token = service.open_session(session, person, now)
    register(role="patient")
    assert service.find_session(session, POLICY, token, now).roles == {"doctor", "patient"}
    session.delete(session.get(RoleGrant, (person, "doctor")))
    session.flush()
    assert service.find_session(session, POLICY, token, now).roles == {"patient"}
