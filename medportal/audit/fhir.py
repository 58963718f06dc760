"""Events as FHIR R4 AuditEvent (PURE).

https://hl7.org/fhir/R4/auditevent.html. A view for tools that read FHIR: what counts, and what
the verifier checks, is the event's own encoding. Ids are given as identifiers in name spaces of
the institution; names of people are not in the log and so not here.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from medportal.audit.events import Action, Event, Outcome

URN = "urn:medportal"
AUDIT_EVENT_TYPES = "http://terminology.hl7.org/CodeSystem/audit-event-type"
OBJECT_ROLES = "http://terminology.hl7.org/CodeSystem/object-role"
DICOM = "http://dicom.nema.org/resources/ontology/DCM"
SOURCE_TYPES = "http://terminology.hl7.org/CodeSystem/security-source-type"

#: FHIR's outcome: 0 success, 4 minor failure (refused, as it should be), 8 serious failure.
_OUTCOMES = {Outcome.ALLOWED: "0", Outcome.DENIED: "4", Outcome.FAILED: "8"}

#: What an action does: C create, R read, U update, D delete, E execute (the rest).
_VERBS = MappingProxyType(
    {
        "C": ("-created", "-registered", "-received", "-filed", "-made", "-admitted", "-added"),
        "R": ("-viewed", "-listed", "-read", "-sought", "-exported"),
        "U": ("-changed", "-amended", "-renamed", "-assigned", "-rotated"),
        "D": ("-removed", "-destroyed", "-pruned"),
    }
)
_SIGN_INS = frozenset(
    {
        Action.SIGN_IN,
        Action.SIGN_IN_FAILED,
        Action.SECOND_FACTOR_AWAITED,
        Action.SIGN_OUT,
        Action.SESSION_ENDED,
    }
)


def to_fhir(event: Event, tenant: str) -> dict[str, Any]:
    """Return the AuditEvent resource of an event of the institution ``tenant``."""
    resource: dict[str, Any] = {
        "resourceType": "AuditEvent",
        "id": event.id,
        "type": _type_of(event.action),
        "subtype": [{"system": f"{URN}:action", "code": str(event.action)}],
        "action": verb(event.action),
        "recorded": instant(event.at),
        "outcome": _OUTCOMES[event.outcome],
        "agent": [_agent(event, tenant)],
        "source": {
            "observer": _reference(f"{URN}:institution", tenant),
            "type": [{"system": SOURCE_TYPES, "code": "4", "display": "Application Server"}],
        },
    }
    if event.reasons:
        resource["purposeOfEvent"] = [
            {"coding": [{"system": f"{URN}:reason", "code": reason}]} for reason in event.reasons
        ]
    entities = _entities(event, tenant)
    if entities:
        resource["entity"] = entities
    return resource


def verb(action: Action) -> str:
    """Return FHIR's letter for what an action does."""
    for letter, endings in _VERBS.items():
        if str(action).endswith(endings):
            return letter
    return "E"


def instant(moment: datetime) -> str:
    """Return a FHIR instant in UTC, to the microsecond."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _type_of(action: Action) -> dict[str, str]:
    if action in _SIGN_INS:
        return {"system": DICOM, "code": "110114", "display": "User Authentication"}
    return {"system": AUDIT_EVENT_TYPES, "code": "rest", "display": "RESTful Operation"}


def _agent(event: Event, tenant: str) -> dict[str, Any]:
    """Return who acted; somebody unknown is an agent without ``who``, as FHIR wants one."""
    agent: dict[str, Any] = {"requestor": True}
    if event.actor is not None:
        kind, colon, name = event.actor.partition(":")
        # Processes and partners say what they are; a person is an id.
        agent["who"] = (
            _reference(f"{URN}:{kind}", name)
            if colon
            else _reference(f"{URN}:{tenant}:person", event.actor)
        )
    roles = str(event.details.get("roles", ""))
    if roles:
        agent["role"] = [
            {"coding": [{"system": f"{URN}:{tenant}:role", "code": role}]}
            for role in roles.split(",")
        ]
    return agent


def _entities(event: Event, tenant: str) -> list[dict[str, Any]]:
    entities: list[dict[str, Any]] = []
    if event.patient is not None:
        entities.append(
            {
                "what": _reference(f"{URN}:{tenant}:patient", event.patient),
                "role": {"system": OBJECT_ROLES, "code": "1", "display": "Patient"},
            }
        )
    if event.object is not None:
        entities.append({"what": _reference(f"{URN}:{tenant}:object", event.object)})
    details = _details(event.details)
    if event.session is not None:
        details.append({"type": "session", "valueString": event.session})
    if details:
        entities.append({"what": _reference(f"{URN}:{tenant}:event", event.id), "detail": details})
    return entities


def _details(details: Mapping[str, str | int]) -> list[dict[str, str]]:
    # FHIR has no empty strings: an empty detail says nothing.
    return [
        {"type": name, "valueString": str(value)}
        for name, value in sorted(details.items())
        if str(value).strip()
    ]


def _reference(system: str, value: str) -> dict[str, Any]:
    return {"identifier": {"system": system, "value": value}}
