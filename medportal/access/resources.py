"""Traversal contexts: Root -> Patients -> one patient -> one record.

Contexts are small objects, never ORM models. Walking does not ask whether a thing exists:
the decision does, so that what is hidden and what is missing take the same path.
"""

from functools import cached_property
from typing import Any

from pyramid.authorization import DENY_ALL, Allow
from pyramid.request import Request

from medportal.access.decisions import (
    AccessFacts,
    Decision,
    PatientFacts,
    RecordFacts,
    decide,
)
from medportal.access.facts import held_permissions, patient_facts
from medportal.access.grants import Grant, mint
from medportal.core.ids import is_id
from medportal.core.permissions import Permission


class Root:
    """The portal as a whole: what roles give without a patient in view."""

    def __init__(self, request: Request) -> None:
        self.request = request

    @cached_property
    def decision(self) -> Decision:
        """Return the decision, made once a request."""
        request = self.request
        return decide(request.identity, self.facts(), request.now)

    def facts(self) -> AccessFacts:
        """Return the facts that the decision looks at."""
        return AccessFacts(held_permissions(self.request.tenant, self.request.identity))

    @property
    def __acl__(self) -> list[Any]:
        """Return the decision, projected into Pyramid's terms."""
        identity = self.request.identity
        if identity is None:
            return [DENY_ALL]
        permissions = tuple(str(p) for p in self.decision.permissions)
        return [(Allow, identity.person_id, permissions), DENY_ALL]


class Patients(Root):
    """All patients: the way to one."""

    def __getitem__(self, patient_id: str) -> "PatientContext":
        if not is_id(patient_id):
            raise KeyError(patient_id)
        return PatientContext(self, patient_id)


class PatientContext(Root):
    """One patient, who may or may not exist."""

    def __init__(self, parent: Root, patient_id: str) -> None:
        super().__init__(parent.request)
        self.__parent__ = parent
        self.__name__ = patient_id
        self.patient_id = patient_id

    def __getitem__(self, record_id: str) -> "RecordContext":
        if not is_id(record_id):
            raise KeyError(record_id)
        return RecordContext(self, record_id)

    @cached_property
    def patient(self) -> PatientFacts:
        """Return the facts about the patient."""
        return patient_facts(self.request.db, self.request.identity, self.patient_id)

    def facts(self) -> AccessFacts:
        """Return the facts about the asker and this patient."""
        held = held_permissions(self.request.tenant, self.request.identity)
        return AccessFacts(held, self.patient)

    def grant(self, permission: Permission) -> Grant:
        """Mint a grant; raises ``NotPermitted`` where the decision does not allow it."""
        request = self.request
        return mint(request.identity, self.decision, permission, self.patient_id, request.now)

    def record_decision(self, record: RecordFacts) -> Decision:
        """Decide about one record of this patient, for lists that filter per record."""
        held = held_permissions(self.request.tenant, self.request.identity)
        facts = AccessFacts(held, self.patient, record)
        return decide(self.request.identity, facts, self.request.now)


class RecordContext(Root):
    """One record of one patient, which may or may not exist."""

    def __init__(self, parent: PatientContext, record_id: str) -> None:
        super().__init__(parent.request)
        self.__parent__ = parent
        self.__name__ = record_id
        self.patient_context = parent
        self.patient_id = parent.patient_id
        self.record_id = record_id

    @cached_property
    def record(self) -> RecordFacts:
        """Return the facts about the record, loaded by the room that keeps records."""
        load = self.request.registry["record_facts"]
        found: RecordFacts = load(self.request.db, self.patient_id, self.record_id)
        return found

    def facts(self) -> AccessFacts:
        """Return the facts about the asker, the patient and this record."""
        held = held_permissions(self.request.tenant, self.request.identity)
        return AccessFacts(held, self.patient_context.patient, self.record)

    def grant(self, permission: Permission) -> Grant:
        """Mint a grant for this record; raises ``NotPermitted`` where the decision says no."""
        request = self.request
        return mint(
            request.identity,
            self.decision,
            permission,
            self.patient_id,
            request.now,
            self.record_id,
        )
