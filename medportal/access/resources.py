"""Traversal contexts: Root -> Patients -> one patient -> one record.

Contexts are small objects, never ORM models. Walking does not ask whether a thing exists:
the decision does, so that what is hidden and what is missing take the same path.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from pyramid.authorization import DENY_ALL, Allow
from pyramid.request import Request

from medportal.access.decisions import Decision, decide, decide_in, stricter
from medportal.access.facts import asker_facts, departments_of, patient_facts, patients_facts
from medportal.access.grants import Grant, mint
from medportal.access.question import (
    AccessFacts,
    PatientFacts,
    RecordFacts,
    Relation,
    Situation,
)
from medportal.core.ids import is_id
from medportal.core.once import once
from medportal.core.permissions import Permission

#: What a list asks about each record that it may show.
ABOUT_A_RECORD = (Permission.RECORD_READ, Permission.PATIENT_VITALS)


class Root:
    """The portal as a whole: what roles give without a patient in view."""

    def __init__(self, request: Request) -> None:
        self.request = request

    @once
    def decision(self) -> Decision:
        """Return the decision, made once a request."""
        request = self.request
        return decide(request.identity, self.facts(), request.now)

    @once
    def departments(self) -> frozenset[str]:
        """Return the wards to whose teams the asker belongs now."""
        request = self.request
        asker = request.identity.person_id if request.identity else ""
        return departments_of(request.db, asker, request.now)

    @once
    def asker(self) -> AccessFacts:
        """Return the facts about the asker alone; what is below the root asks for them once."""
        return asker_facts(self.request.tenant, self.request.identity)

    def facts(self) -> AccessFacts:
        """Return the facts that the decision looks at."""
        return self.asker

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

    def several(self, patient_ids: Collection[str]) -> dict[str, "PatientContext"]:
        """Return the contexts of a list of patients, the facts about all of them read at once."""
        request = self.request
        found = patients_facts(
            request.db, request.identity, patient_ids, request.now, self.departments
        )
        return {each: PatientContext(self, each, facts) for each, facts in found.items()}


class PatientContext(Root):
    """One patient, who may or may not exist."""

    def __init__(self, parent: Root, patient_id: str, facts: PatientFacts | None = None) -> None:
        super().__init__(parent.request)
        self.__parent__ = parent
        self.__name__ = patient_id
        self.patient_id = patient_id
        self._read = facts

    def __getitem__(self, record_id: str) -> "RecordContext":
        if not is_id(record_id):
            raise KeyError(record_id)
        return RecordContext(self, record_id)

    @once
    def patient(self) -> PatientFacts:
        """Return the facts about the patient, read now unless a list read them."""
        if self._read is not None:
            return self._read
        request = self.request
        return patient_facts(
            request.db, request.identity, self.patient_id, request.now, self.departments
        )

    @once
    def departments(self) -> frozenset[str]:
        """Return the wards of the asker's teams; a list of patients asks for them once."""
        return self.__parent__.departments

    @once
    def asker(self) -> AccessFacts:
        """Return the facts about the asker alone."""
        return self.__parent__.asker

    def facts(self) -> AccessFacts:
        """Return the facts about the asker and this patient."""
        return replace(self.asker, patient=self.patient, departments=self.departments)

    def why(self, permission: Permission) -> dict[str, Any]:
        """Return what an event about this patient says of how one came to look."""
        return {"patient": self.patient_id, **why_of(self.decision, permission)}

    def grant(self, permission: Permission) -> Grant:
        """Mint a grant; raises ``NotPermitted`` where the decision does not allow it."""
        request = self.request
        return mint(request.identity, self.decision, permission, self.patient_id, request.now)

    def record_decision(
        self, record: RecordFacts, only: Collection[Permission] = ABOUT_A_RECORD
    ) -> Decision:
        """Decide about one record of this patient, for lists that filter per record.

        Records that differ in nothing but their ids, which no rule names, have one answer.
        """
        named = record.id if record.id in self._relation.named else ""
        key = (named, record.exists, record.author_id, record.category, record.origin, *only)
        if key not in self._decided:
            self._decided[key] = decide_in(Situation(self._relation, record), only)
        return self._decided[key]

    @once
    def _decided(self) -> dict[tuple[object, ...], Decision]:
        return {}

    @property
    def owes_a_proof(self) -> bool:
        """Tell whether some records open after a proof of identity alone, be there any or not."""
        return self._relation.owes_a_proof

    @once
    def _relation(self) -> Relation:
        return Relation(self.request.identity, self.facts(), self.request.now)


class RecordContext(Root):
    """One record of one patient, which may or may not exist."""

    def __init__(self, parent: PatientContext, record_id: str) -> None:
        super().__init__(parent.request)
        self.__parent__ = parent
        self.__name__ = record_id
        self.patient_context = parent
        self.patient_id = parent.patient_id
        self.record_id = record_id

    @once
    def decision(self) -> Decision:
        """Return the decision; about an older version, what the newest one gives too.

        What closes a record closes what it said before: whoever makes it a sensitive one means
        all of it.
        """
        request = self.request
        of_this = decide(request.identity, self.facts(), request.now)
        if self._version is None:
            return of_this
        newest = replace(self.facts(), record=self._load(None))
        return stricter(decide(request.identity, newest, request.now), of_this)

    @once
    def record(self) -> RecordFacts:
        """Return the facts about the record, or about the version that an address names."""
        return self._load(self._version)

    @property
    def _version(self) -> str | None:
        version: str | None = self.request.matchdict.get("version")
        return version

    def _load(self, version: str | None) -> RecordFacts:
        """Return facts as the room that keeps records has them."""
        load = self.request.registry["record_facts"]
        found: RecordFacts = load(self.request.db, self.patient_id, self.record_id, version)
        return found

    def facts(self) -> AccessFacts:
        """Return the facts about the asker, the patient and this record."""
        return replace(self.patient_context.facts(), record=self.record)

    def why(self, permission: Permission) -> dict[str, Any]:
        """Return what an event about this record says of how one came to look."""
        return {
            "patient": self.patient_id,
            "object": self.record_id,
            **why_of(self.decision, permission),
        }

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


def root_of(request: Request) -> Root:
    """Return the portal as a whole as this request sees it, with the decision that it keeps."""
    root = getattr(request, "root", None)
    return root if isinstance(root, Root) else Root(request)


def why_of(decision: Decision, permission: Permission) -> dict[str, Any]:
    """Return the reasons of an answer and what it rests on, as ``request.audit`` takes them."""
    return {
        "reasons": decision.because[permission],
        "basis": decision.basis.get(permission),
    }
