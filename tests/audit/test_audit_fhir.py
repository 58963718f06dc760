"""Events as FHIR AuditEvent: valid for whatever an event can hold."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from fhir.resources.R4B.auditevent import AuditEvent

from medportal.audit.events import Action, Event, Outcome
from medportal.audit.fhir import to_fhir, verb

NOW = datetime(2026, 3, 1, 12, 0, 0, 5, tzinfo=UTC)


@pytest.mark.parametrize("action", list(Action), ids=str)
def test_every_action_is_a_valid_resource(action: Action) -> None:
    for outcome in Outcome:
        resource = to_fhir(Event.create(action, outcome, now=NOW), "hospital")
        read = AuditEvent.model_validate(resource)
        assert read.recorded == NOW
        assert read.subtype[0].code == str(action)
    assert verb(action) in "CRUDE"


@pytest.mark.parametrize(
    ("changes", "system", "value"),
    [
        ({}, "urn:medportal:hospital:person", "1" * 32),
        ({"actor": "process:jobs"}, "urn:medportal:process", "jobs"),
        ({"actor": "partner:laboratory"}, "urn:medportal:partner", "laboratory"),
    ],
    ids=["person", "process", "partner"],
)
def test_who_and_about_whom(
    make_event: Callable[..., Event], changes: dict[str, Any], system: str, value: str
) -> None:
    details = {"roles": "doctor,patient", "place": "on-site", "empty": "", "count": 3}
    event = make_event(1, details=details, **changes)
    resource = to_fhir(event, "hospital")
    AuditEvent.model_validate(resource)
    assert resource["agent"][0]["who"]["identifier"] == {"system": system, "value": value}
    assert [role["coding"][0]["code"] for role in resource["agent"][0]["role"]] == [
        "doctor",
        "patient",
    ]
    patient, thing, rest = resource["entity"]
    assert patient["what"]["identifier"]["value"] == event.patient
    assert thing["what"]["identifier"]["value"] == event.object
    told = {each["type"]: each["valueString"] for each in rest["detail"]}
    assert told == {
        "roles": "doctor,patient",
        "place": "on-site",
        "count": "3",
        "session": event.session,
    }


def test_somebody_unknown_has_no_name(make_event: Callable[..., Event]) -> None:
    event = make_event(1, actor=None, session=None, patient=None, object=None, reasons=[])
    resource = to_fhir(event, "hospital")
    AuditEvent.model_validate(resource)
    assert resource["agent"] == [{"requestor": True}]
    assert "purposeOfEvent" not in resource


@pytest.mark.parametrize(
    ("action", "letter"),
    [
        (Action.RECORD_CREATED, "C"),
        (Action.RECORD_READ, "R"),
        (Action.AUDIT_EXPORTED, "R"),
        (Action.ROLES_CHANGED, "U"),
        (Action.PATIENT_KEY_DESTROYED, "D"),
        (Action.SIGN_IN, "E"),
    ],
)
def test_verbs(action: Action, letter: str) -> None:
    assert verb(action) == letter


def test_nothing_but_an_action_has_neither_entity_nor_purpose() -> None:
    resource = to_fhir(Event.create(Action.SIGN_OUT, now=NOW), "hospital")
    assert "entity" not in resource
    assert resource["type"]["code"] == "110114"
