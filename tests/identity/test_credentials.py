"""Passwords of accounts: choose, change, renew, on both engines."""

import json
import threading
from datetime import date, timedelta

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from medportal.core.identity import Method
from medportal.identity import credentials, people, sessions
from medportal.identity.errors import WeakPassword, WrongPassword
from medportal.identity.models import Account, AccountStatus, Person, Totp
from medportal.identity.passwords import hash_password, verify_password
from medportal.mail.kinds import MailKind
from medportal.mail.models import OutgoingMail

BROWSER = sessions.Browser("Mozilla/5.0 (X11; Linux x86_64)", "127.0.0.1", True)
BY_PASSWORD = frozenset({Method.PASSWORD})
GOOD = "quiet rivers carry small boats"
OTHER = "seven green lamps in a row"
MINUTE = timedelta(minutes=1)


def count(session, model):
    return session.scalar(select(func.count()).select_from(model))


def change(session, tenant, person, old, new, now):
    """Check, hash and replace, as the view does."""
    stored = credentials.check_password_change(session, tenant, person, old, new)
    hashed = hash_password(tenant.passwords, new)
    credentials.replace_password(session, person, stored, hashed, now)


def add_app(session, person, now, confirmed=True):
    """Give somebody an authenticator app."""
    session.flush()
    session.add(
        Totp(
            person_id=person,
            sealed_secret=b"sealed" if confirmed else None,
            confirmed_at=now if confirmed else None,
            pending_secret=None if confirmed else b"sealed",
            pending_at=None if confirmed else now,
        )
    )
    session.flush()


@pytest.fixture
def known(session, register, tenant, now):
    """Give somebody with a password and a mail address."""
    person = register().person_id
    credentials.set_password(session, person, tenant.passwords, GOOD, now)
    session.execute(
        update(Person)
        .where(Person.id == person)
        .values(email="zulmira.1980@mail.example", phone="+351 912 345 678", city="Peniche")
    )
    return person


def test_changing_a_password_ends_every_session_of_that_person(session, register, tenant, now):
    person = register().person_id
    other = register(number="12345678").person_id
    credentials.set_password(session, person, tenant.passwords, GOOD, now)
    tokens = [
        sessions.open_session(session, who, now, methods=BY_PASSWORD, browser=BROWSER)[1]
        for who in (person, person, other)
    ]
    change(session, tenant, person, GOOD, OTHER, now + MINUTE)
    found = [sessions.find_session(session, tenant, t, now) for t in tokens]
    assert [login.person_id if login else None for login in found] == [None, None, other]
    stored = credentials.credentials(session, "citizen-card", "17645234").password_hash
    assert verify_password(tenant.passwords, stored, OTHER)
    assert not verify_password(tenant.passwords, stored, GOOD)
    session.expire_all()
    assert session.get(Account, person).password_changed_at == now + MINUTE


@pytest.mark.parametrize(
    ("old", "new", "error"), [("wrong", OTHER, WrongPassword), (GOOD, "short", WeakPassword)]
)
def test_a_refused_change_changes_nothing(session, register, tenant, now, old, new, error):
    person = register().person_id
    credentials.set_password(session, person, tenant.passwords, GOOD, now)
    token = sessions.open_session(session, person, now, methods=BY_PASSWORD, browser=BROWSER)[1]
    before = credentials.credentials(session, "citizen-card", "17645234")
    with pytest.raises(error):
        change(session, tenant, person, old, new, now)
    assert credentials.credentials(session, "citizen-card", "17645234") == before
    assert sessions.find_session(session, tenant, token, now)


def test_a_hash_is_renewed_unless_the_password_changed_meanwhile(session, register, tenant, now):
    person = register().person_id
    credentials.set_password(session, person, tenant.passwords, GOOD, now)
    old = credentials.credentials(session, "citizen-card", "17645234").password_hash
    credentials.renew_hash(session, person, old, "renewed")
    credentials.renew_hash(session, person, old, "too late")
    assert credentials.credentials(session, "citizen-card", "17645234").password_hash == "renewed"


def test_nobody_without_a_password_changes_it(session, register, tenant, now):
    with pytest.raises(WrongPassword):
        change(session, tenant, register().person_id, "", OTHER, now)
    with pytest.raises(WrongPassword):
        change(session, tenant, "0" * 32, "", OTHER, now)


def test_the_person_is_told_by_mail_and_the_mail_holds_no_secret(session, known, tenant, now):
    change(session, tenant, known, GOOD, OTHER, now)
    session.flush()
    (mail,) = session.scalars(select(OutgoingMail))
    assert (mail.kind, mail.person_id) == (MailKind.PASSWORD_CHANGED, known)
    assert mail.address == "zulmira.1980@mail.example"
    assert json.loads(mail.params) == {}


def test_a_refused_change_is_not_told(session, known, tenant, now):
    with pytest.raises(WrongPassword):
        change(session, tenant, known, "wrong", OTHER, now)
    assert count(session, OutgoingMail) == 0


def test_of_two_changes_at_once_one_wins(session, known, tenant, now):
    stored = credentials.check_password_change(session, tenant, known, GOOD, OTHER)
    change(session, tenant, known, GOOD, "three owls on a wire fence", now)
    after = credentials.credentials(session, "citizen-card", "17645234")
    with pytest.raises(WrongPassword):
        credentials.replace_password(session, known, stored, "late", now)
    assert credentials.credentials(session, "citizen-card", "17645234") == after


def test_eight_characters_beside_a_second_factor(session, known, tenant, now):
    with pytest.raises(WeakPassword) as refused:
        credentials.check_choice(session, tenant, known, "xk3pqz9w")
    assert refused.value.minimum == 15
    add_app(session, known, now)
    credentials.check_choice(session, tenant, known, "xk3pqz9w")
    with pytest.raises(WeakPassword) as refused:
        credentials.check_choice(session, tenant, known, "xk3pqz9")
    assert (refused.value.code, refused.value.minimum) == ("too-short", 8)


def test_an_app_that_was_never_confirmed_is_no_second_factor(session, known, tenant, now):
    add_app(session, known, now, confirmed=False)
    with pytest.raises(WeakPassword):
        credentials.check_choice(session, tenant, known, "xk3pqz9w")


@pytest.mark.parametrize(
    "password",
    [
        "Amanda Júlio 17645234",
        "amandajulio1980",
        "Zulmira-03-02-1980",
        "zulmira.1980@mail",
        "1980020317645234",
        "912345678912345678",
        "+351 912 345 678",
        "Peniche03021980",
        "Riverside Hospital",
        "Hospital da Ribeira!",
        "hospital.localhost",
        "Cardiology-Maternity",
        "Júlio Amanda Peniche 1980",
    ],
)
def test_what_is_known_of_a_person_is_no_password(session, known, tenant, password):
    with pytest.raises(WeakPassword):
        credentials.check_choice(session, tenant, known, password)


@pytest.mark.parametrize(
    "password",
    [OTHER, "o meu gato chama-se Amanda Sofia", "Peniche no inverno tem ondas", "em 1980 nevou cá"],
)
def test_what_only_mentions_it_is_one(session, known, tenant, password):
    credentials.check_choice(session, tenant, known, password)


def test_words_of_somebody_of_whom_little_is_known(session, register, tenant):
    person = register(name="Ó").person_id
    credentials.check_choice(session, tenant, person, OTHER)
    credentials.check_choice(session, tenant, "0" * 32, OTHER)


def test_words_are_of_one_person(session, register, known, tenant):
    other = register(number="12345678", name="Berta Salgueiro").person_id
    words = credentials.guessable_words(session, tenant, other)
    assert "Berta Salgueiro" in words
    assert "12345678" in words
    assert not {"Amanda Júlio", "17645234", "Peniche"} & set(words)


def test_credentials_are_not_shown_by_accident(session, known):
    found = credentials.credentials(session, "citizen-card", "17645234")
    assert "argon2" not in repr(found)


@pytest.mark.parametrize("change_of", ["password", "suspension", "nothing"])
def test_what_was_verified_must_still_hold(session, known, tenant, now, change_of):
    found = credentials.credentials(session, "citizen-card", "17645234")
    if change_of == "password":
        credentials.set_password(session, known, tenant.passwords, GOOD, now)
    elif change_of == "suspension":
        session.execute(update(Account).values(status=AccountStatus.SUSPENDED))
    assert credentials.still_holds(session, found) is (change_of == "nothing")


def test_two_changes_at_once_on_two_connections(engine, tenant, now):
    """Both have shown the old password; one changes it, and the other hears that it is wrong."""
    with Session(engine) as session, session.begin():
        person = people.register_person(
            session,
            scheme="citizen-card",
            number="17645234",
            profile=people.Profile("A", date(1980, 1, 1), "female"),
            role="patient",
            by=None,
            now=now,
        ).person_id
        session.flush()
        credentials.set_password(session, person, tenant.passwords, GOOD, now)
    barrier, outcomes = threading.Barrier(2), []

    def browser(new):
        with Session(engine) as session:
            stored = session.scalar(select(Account.password_hash))
        barrier.wait(30)
        try:
            with Session(engine) as session, session.begin():
                credentials.replace_password(session, person, stored, new, now)
            outcomes.append(new)
        except WrongPassword:
            outcomes.append("refused")

    threads = [threading.Thread(target=browser, args=(new,)) for new in ("one", "other")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with Session(engine) as session:
        stored = session.scalar(select(Account.password_hash))
    assert sorted(outcomes) == sorted([stored, "refused"])
