"""Finding people: by the beginning of a word of their name, by role, by state, page by page."""

import unicodedata

import pytest

from medportal.audit.append import append
from medportal.audit.events import Action, Event
from medportal.core.reasons import Reason
from medportal.identity import accounts, directory
from medportal.identity.directory import Standing, Wanted
from medportal.identity.models import RoleGrant, Totp

EVERYBODY = Wanted()


def found(session, wanted=EVERYBODY, after=None, limit=100):
    session.flush()
    lines = directory.list_people(session, wanted, after=after, limit=limit)
    return [line.name for line in lines]


def test_the_list_is_of_staff_and_of_those_without_a_role(session, somebody, now, why):
    admin = somebody(session, "admin", name="Admin")
    somebody(session, "patient", name="Patient only")
    somebody(session, "patient", "porter", name="Porter and patient")
    gone = somebody(session, "porter", name="Without a role")
    assert found(session) == ["Admin", "Porter and patient", "Without a role"]
    accounts.revoke_role(session, gone, "porter", managing=(), by=admin, now=now)
    assert "Without a role" not in found(session), "nobody has written why yet"
    accounts.write_note(session, gone, Action.ROLES_CHANGED, why(admin, Reason.LEFT), now)
    assert found(session) == ["Admin", "Porter and patient", "Without a role"]


def test_a_patient_with_a_note_stays_off_the_list(session, somebody, now, why):
    admin = somebody(session, "admin", name="Admin")
    patient = somebody(session, "patient", name="Patient only")
    accounts.write_note(session, patient, Action.ACCOUNT_SUSPENDED, why(admin), now)
    assert found(session) == ["Admin"]
    assert directory.list_key(session, patient) is None
    assert directory.list_key(session, "0" * 32) is None
    assert directory.list_key(session, admin) == ("Admin", admin)


@pytest.mark.parametrize(
    ("typed", "matches"),
    [
        ("amanda", True),
        ("AMANDA JÚ", True),
        ("jul", True),
        ("júlio", True),
        (unicodedata.normalize("NFD", "júlio"), True),
        ("  Júlio ", True),
        ("D'ávila", True),
        ("davila", False),
        ("d avila", True),
        ("manda", False),
        ("amanda avila", False),
        ("ａｍａｎｄａ", True),
        ("аmanda", False),  # A Cyrillic letter is another one, however alike.
        ("%", False),
        ("_", False),
        ("*", False),
        ("'", False),
        ("\u200b", False),
        ("' OR 1=1 --", False),
        ("x" * 100, False),
    ],
)
def test_searching_by_name(session, somebody, typed, matches):
    somebody(session, "porter", name="Amanda Júlio D'Ávila")
    somebody(session, "porter", name="Zé")
    expected = ["Amanda Júlio D'Ávila"] if matches else []
    assert found(session, Wanted(name=typed)) == expected


def test_searching_by_role_and_state(session, somebody, now):
    admin = somebody(session, "admin", name="Admin")
    porter = somebody(session, "porter", "volunteer", name="Porter")
    somebody(session, "porter", name="New", active=False)
    closed = somebody(session, "volunteer", name="Closed")
    accounts.suspend(session, closed, managing=(), by=admin, now=now)
    session.add(Totp(person_id=porter, sealed_secret=b"s", confirmed_at=now))
    session.add(Totp(person_id=admin, pending_secret=b"s", pending_at=now))
    session.flush()
    assert found(session, Wanted(role="porter")) == ["New", "Porter"]
    assert found(session, Wanted(role="no such role")) == []
    by_standing = {s: found(session, Wanted(standing=s)) for s in Standing}
    assert by_standing == {
        Standing.ACTIVE: ["Admin", "Porter"],
        Standing.SUSPENDED: ["Closed"],
        Standing.HELD: [],
        Standing.NOT_ACTIVATED: ["New"],
        Standing.WITHOUT_SECOND_FACTOR: ["Admin", "New"],
    }
    both = Wanted(name="p", role="volunteer", standing=Standing.ACTIVE)
    assert found(session, both) == ["Porter"]


def test_lines_say_roles_and_state(session, somebody, now):
    somebody(session, "volunteer", "porter", "patient", name="A", active=False)
    session.flush()
    (line,) = directory.list_people(session, EVERYBODY, after=None)
    assert line.roles == ("patient", "porter", "volunteer")
    assert (line.active, line.activated) == (True, False)


def test_pages_stay_in_place_while_people_come_and_go(session, somebody, monkeypatch):
    for wanted in (EVERYBODY, Wanted(name="p")):
        people = {n: somebody(session, "porter", name=f"P{n:03}") for n in range(0, 20, 2)}
        monkeypatch.setattr(directory, "BATCH", 3)
        seen, after = [], None
        for turn in range(20):
            page = directory.list_people(session, wanted, after=after, limit=3)
            seen += [line.id for line in page]
            if len(page) < 3:
                break
            after = directory.list_key(session, page[-1].id)
            # Somebody is registered before the place where the reader is, and somebody behind.
            somebody(session, "porter", name=f"A{turn:03}")
            somebody(session, "porter", name=f"Z{turn:03}")
            session.flush()
        assert len(seen) == len(set(seen)), "nobody twice"
        assert set(people.values()) <= set(seen), "nobody left out"
        for role in session.query(RoleGrant).all():
            session.delete(role)
        session.flush()


def test_people_of_one_name_are_parted_by_their_ids(session, somebody):
    same = {somebody(session, "porter", name="Maria Silva") for _ in range(7)}
    seen, after = [], None
    while page := directory.list_people(session, EVERYBODY, after=after, limit=2):
        seen += [line.id for line in page]
        after = directory.list_key(session, page[-1].id)
    assert sorted(seen) == sorted(same)


def test_one_person(session, somebody, now):
    person = somebody(session, "porter", "patient", name="Amanda Júlio")
    details = directory.details(session, "citizen-card", person)
    assert (details.name, details.number) == ("Amanda Júlio", "20000000")
    assert details.role_ids == {"porter", "patient"} and details.is_patient
    assert details.active and details.activated and not details.has_second_factor
    assert directory.details(session, "passport", person).number == ""
    assert directory.details(session, "citizen-card", "0" * 32) is None


def test_notes_are_newest_first_and_name_their_writer(session, somebody, now, why):
    admin, person = somebody(session, "admin", name="Ana"), somebody(session, "porter")
    for day, text in enumerate(("first", "second"), start=1):
        at = now.replace(day=day)
        accounts.write_note(session, person, Action.ROLES_CHANGED, why(admin, note=text), at)
    session.flush()
    lines = directory.notes_of(session, person)
    assert [(line.note, line.by) for line in lines] == [("second", "Ana"), ("first", "Ana")]
    assert len(directory.notes_of(session, person, limit=1)) == 1


def test_the_last_sign_in_is_the_audit_logs(session, somebody, now):
    person = somebody(session, "porter")
    assert directory.last_sign_in(session, person) is None
    for day, action in ((1, Action.SIGN_IN), (2, Action.SIGN_IN), (3, Action.SIGN_IN_FAILED)):
        append(session, Event.create(action, now=now.replace(day=day), actor=person))
    assert directory.last_sign_in(session, person) == now.replace(day=2)
