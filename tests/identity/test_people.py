"""People: one person a number, whoever registers them and how often, on both engines."""

import threading
from datetime import date

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from medportal.core.ids import is_id
from medportal.identity import credentials, people
from medportal.identity.models import Account, Person, PersonIdentifier, RoleGrant


def count(session, model):
    return session.scalar(select(func.count()).select_from(model))


def test_registering_makes_person_number_account_and_role(session, register, now):
    made = register(by="f" * 32)
    assert made.created
    assert is_id(made.person_id)
    assert people.find_person(session, "citizen-card", "17645234") == made.person_id
    assert people.roles_of(session, made.person_id) == {"doctor"}
    found = credentials.credentials(session, "citizen-card", "17645234")
    assert found == credentials.Credentials(made.person_id, None, active=True)
    grant = session.get(RoleGrant, (made.person_id, "doctor"))
    assert (grant.granted_by, grant.granted_at) == ("f" * 32, now)
    assert people.names_of(session, [made.person_id, made.person_id, "0" * 32]) == {
        made.person_id: "Amanda Júlio"
    }


def test_whoever_is_known_gets_the_role_and_keeps_their_data(session, register):
    first = register(role="doctor")
    again = register(role="patient", name="Somebody Else")
    assert again == people.Registered(first.person_id, created=False)
    assert register(role="patient").created is False
    assert people.roles_of(session, first.person_id) == {"doctor", "patient"}
    assert session.scalar(select(Person.name)) == "Amanda Júlio"
    assert count(session, Person) == count(session, Account) == 1


def test_numbers_of_other_schemes_are_others(session, register):
    register()
    assert people.find_person(session, "passport", "17645234") is None
    assert credentials.credentials(session, "passport", "17645234") is None
    assert people.find_person(session, "citizen-card", "17645235") is None


def test_two_registrations_at_once_make_one_person(engine, now):
    """Two clerks, two connections: one person, and the second finds the first or is refused."""
    barrier = threading.Barrier(2)
    outcomes = []

    def clerk():
        barrier.wait(10)
        try:
            with Session(engine) as session, session.begin():
                made = people.register_person(
                    session,
                    scheme="citizen-card",
                    number="17645234",
                    profile=people.Profile("A", date(1980, 1, 1), "female"),
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
