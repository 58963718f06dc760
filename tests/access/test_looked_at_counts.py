"""Counting what one account did, patient by patient."""

from datetime import timedelta

import pytest

from medportal.access.looked_at import Search, Totals, all_seen, key_of, seen, totals
from medportal.audit.append import append
from medportal.audit.events import Action, Event, Outcome
from medportal.core.ids import new_id


@pytest.fixture
def note(session, now):
    def made(actor, patient, action=Action.PATIENT_VIEWED, hours=0, **more):
        at = now + timedelta(hours=hours)
        append(session, Event.create(action, now=at, actor=actor, patient=patient, **more))

    return made


def test_counts_by_patient_and_name(session, person, note, now):
    nurse, other = person("nurse"), person("nurse")
    zoe, ana = person("patient", "Zoe"), person("patient", "Ana")
    record = new_id()
    note(nurse, zoe)
    for object_ in (record, record, new_id()):
        note(nurse, ana, Action.RECORD_READ, 1, object=object_)
    note(nurse, ana, Action.RECORD_READ, 2, object=new_id(), outcome=Outcome.DENIED)
    note(other, zoe, hours=3)
    found = seen(session, Search(nurse))
    assert [(s.name, s.done, s.records, s.refused) for s in found] == [
        ("Ana", 3, 2, 1),
        ("Zoe", 1, 0, 0),
    ]
    assert (found[0].first, found[0].last) == (now + timedelta(hours=1), now + timedelta(hours=2))
    assert list(all_seen(session, Search(nurse))) == found


def test_the_end_of_a_period_is_outside(session, person, note, now):
    nurse, ana = person("nurse"), person("patient", "Ana")
    for hours in range(4):
        note(nurse, ana, hours=hours)
    search = Search(nurse, now + timedelta(hours=1), now + timedelta(hours=3))
    assert [s.done for s in seen(session, search)] == [2]
    assert totals(session, search).events == 2


def test_pages_by_key_within_the_list(session, person, note):
    nurse = person("nurse")
    same = [person("patient", "Same") for _ in range(3)]
    for patient in same:
        note(nurse, patient)
    stranger = person("patient", "Stranger")
    first = seen(session, Search(nurse), limit=2)
    key = key_of(session, Search(nurse), first[-1].patient_id)
    rest = seen(session, Search(nurse), after=key)
    assert [s.patient_id for s in first + rest] == sorted(same)
    assert key_of(session, Search(nurse), stranger) is None
    assert key_of(session, Search(nurse), new_id()) is None


def test_totals(session, person, note):
    nurse, ana = person("nurse"), person("patient", "Ana")
    note(nurse, ana)
    note(nurse, ana)
    note(nurse, None, Action.PATIENTS_LISTED)
    note(nurse, None, Action.SIGN_IN)
    note(nurse, new_id(), Action.ACCESS_DENIED, outcome=Outcome.DENIED)
    assert totals(session, Search(nurse)) == Totals(patients=1, events=2, lists=1, nobody=1)
    assert totals(session, Search(new_id())) == Totals(0, 0, 0, 0)
