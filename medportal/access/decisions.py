"""The decision table (PURE): who may do what, and why.

Read :data:`TABLE` from the top: a permission is given if any of its clauses holds, and a
clause holds if every one of its conditions does. The reason of the clause that held, or of
the conditions that failed, is the answer to "why".
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from medportal.core.categories import is_sensitive
from medportal.core.identity import Identity
from medportal.core.permissions import Permission, Reach
from medportal.core.reasons import Reason


@dataclass(frozen=True, slots=True)
class PatientFacts:
    """What matters about one patient to the person who asks.

    ``assignments`` are the kinds of the asker's care assignments with their ends, as they
    are stored: whether they are in force is decided here, at ``now``.
    """

    id: str
    exists: bool
    is_self: bool = False
    assignments: tuple["AssignmentFacts", ...] = ()


@dataclass(frozen=True, slots=True)
class AssignmentFacts:
    """One care assignment: its kind and its time, ``until`` open if ``None``."""

    treating: bool
    since: datetime
    until: datetime | None

    def in_force(self, now: datetime) -> bool:
        """Tell whether it has begun and has not ended; the end itself is outside."""
        return self.since <= now and (self.until is None or now < self.until)


@dataclass(frozen=True, slots=True)
class RecordFacts:
    """What matters about one record; ``exists`` is false for an id that names none."""

    id: str
    exists: bool
    author_id: str | None = None
    category: str = ""


@dataclass(frozen=True, slots=True)
class AccessFacts:
    """Everything that a decision looks at, besides who asks and when."""

    held: Mapping[Permission, frozenset[Reach]]
    patient: PatientFacts | None = None
    record: RecordFacts | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What is allowed, and for every permission the reasons of its answer."""

    permissions: frozenset[Permission]
    because: Mapping[Permission, tuple[Reason, ...]]
    obligations: frozenset[str] = frozenset()

    def allows(self, permission: Permission) -> bool:
        """Tell whether a permission is given."""
        return permission in self.permissions


@dataclass(frozen=True, slots=True)
class _Question:
    identity: Identity | None
    facts: AccessFacts
    now: datetime
    permission: Permission

    def holds(self, reach: Reach) -> bool:
        return reach in self.facts.held.get(self.permission, frozenset())


@dataclass(frozen=True, slots=True)
class Condition:
    """A named predicate, and the reason to give when it fails."""

    name: str
    test: Callable[[_Question], bool] = field(repr=False)
    otherwise: Reason


@dataclass(frozen=True, slots=True)
class Clause:
    """Conditions that must all hold, and the reason to give when they do."""

    because: Reason
    conditions: tuple[Condition, ...]


def _in_care(question: _Question) -> bool:
    patient = question.facts.patient
    return patient is not None and any(a.in_force(question.now) for a in patient.assignments)


def _ordinary_or_treating(question: _Question) -> bool:
    record, patient = question.facts.record, question.facts.patient
    if record is None or not is_sensitive(record.category):
        return True
    return patient is not None and any(
        a.treating and a.in_force(question.now) for a in patient.assignments
    )


def _is_self(question: _Question) -> bool:
    return question.facts.patient is not None and question.facts.patient.is_self


def _wrote_it(question: _Question) -> bool:
    record = question.facts.record
    return (
        record is not None
        and question.identity is not None
        and record.author_id == question.identity.person_id
    )


def _exists(question: _Question) -> bool:
    patient, record = question.facts.patient, question.facts.record
    return (patient is None or patient.exists) and (record is None or record.exists)


SIGNED_IN = Condition(
    "is signed in", lambda q: q.identity is not None, otherwise=Reason.NOT_SIGNED_IN
)
HELD = Condition(
    "has a role of staff with this permission",
    lambda q: q.holds(Reach.ANY) or q.holds(Reach.ASSIGNED),
    otherwise=Reason.NO_ROLE,
)
HELD_ANY = Condition(
    "has a role with this permission over everybody",
    lambda q: q.holds(Reach.ANY),
    otherwise=Reason.NO_ROLE,
)
HELD_ASSIGNED = Condition(
    "has a role with this permission over assigned patients",
    lambda q: q.holds(Reach.ASSIGNED),
    otherwise=Reason.NO_ROLE,
)
HELD_OWN = Condition(
    "has a role with this permission over oneself",
    lambda q: q.holds(Reach.OWN),
    otherwise=Reason.NO_ROLE,
)
EXISTS = Condition("the thing exists", _exists, otherwise=Reason.NO_SUCH_THING)
NOT_SELF = Condition(
    "the patient is somebody else",
    lambda q: not _is_self(q),
    otherwise=Reason.OWN_RECORD_ONLY_AS_PATIENT,
)
SELF = Condition("the patient is oneself", _is_self, otherwise=Reason.NOT_OWN)
IN_CARE = Condition("is assigned to the patient now", _in_care, otherwise=Reason.NOT_ASSIGNED)
ORDINARY_OR_TREATING = Condition(
    "the category is ordinary, or one is the treating doctor",
    _ordinary_or_treating,
    otherwise=Reason.SENSITIVE,
)
WROTE_IT = Condition("wrote the record", _wrote_it, otherwise=Reason.NOT_ASSIGNED)

EVERYBODY = Clause(Reason.SIGNED_IN, (SIGNED_IN,))
BY_ROLE = Clause(Reason.ROLE_ANY, (SIGNED_IN, HELD))
OVER_ALL = Clause(Reason.ROLE_ANY, (SIGNED_IN, HELD_ANY, EXISTS, NOT_SELF))
OVER_ASSIGNED = Clause(Reason.ASSIGNED_CARE, (SIGNED_IN, HELD_ASSIGNED, EXISTS, NOT_SELF, IN_CARE))
OVER_SELF = Clause(Reason.OWN_RECORD, (SIGNED_IN, HELD_OWN, EXISTS, SELF))
OVER_ASSIGNED_CONTENT = Clause(
    Reason.ASSIGNED_CARE,
    (SIGNED_IN, HELD_ASSIGNED, EXISTS, NOT_SELF, IN_CARE, ORDINARY_OR_TREATING),
)
AS_AUTHOR = Clause(Reason.AUTHOR, (SIGNED_IN, HELD, EXISTS, NOT_SELF, WROTE_IT))

TABLE: Mapping[Permission, tuple[Clause, ...]] = {
    Permission.HOME_VIEW: (EVERYBODY,),
    Permission.ACCOUNT_CHANGE: (EVERYBODY,),
    Permission.PATIENTS_LIST: (BY_ROLE,),
    Permission.PATIENTS_REGISTER: (BY_ROLE,),
    Permission.DELIVERIES_VIEW: (BY_ROLE,),
    Permission.AUDIT_VIEW: (BY_ROLE,),
    Permission.PEOPLE_MANAGE: (BY_ROLE,),
    Permission.APPROVALS_DECIDE: (BY_ROLE,),
    Permission.SETTINGS_MANAGE: (BY_ROLE,),
    Permission.PATIENT_SEE: (OVER_ALL, OVER_ASSIGNED, OVER_SELF),
    Permission.PATIENT_BED: (OVER_ALL, OVER_ASSIGNED, OVER_SELF),
    Permission.PATIENT_DEMOGRAPHICS: (OVER_ALL, OVER_ASSIGNED, OVER_SELF),
    Permission.CARE_MANAGE: (OVER_ALL,),
    Permission.RECORD_LIST: (OVER_ALL, OVER_ASSIGNED, OVER_SELF),
    Permission.RECORD_READ: (OVER_ALL, OVER_ASSIGNED_CONTENT, OVER_SELF, AS_AUTHOR),
    Permission.RECORD_CREATE: (OVER_ALL, OVER_ASSIGNED),
    Permission.DELIVERY_FOLLOW: (OVER_ALL,),
}
#: Permissions about one patient; without a patient in the facts none of them is given.
ABOUT_A_PATIENT = frozenset(
    permission
    for permission, clauses in TABLE.items()
    if any(EXISTS in clause.conditions for clause in clauses)
)


def decide(identity: Identity | None, facts: AccessFacts, now: datetime) -> Decision:
    """Return what ``identity`` may do in the light of ``facts`` at ``now``."""
    because: dict[Permission, tuple[Reason, ...]] = {}
    allowed = set()
    for permission, clauses in TABLE.items():
        if permission in ABOUT_A_PATIENT and facts.patient is None:
            because[permission] = (Reason.NO_SUCH_THING,)
            continue
        question = _Question(identity, facts, now, permission)
        held, failed = _answer(question, clauses)
        because[permission] = held or failed
        if held:
            allowed.add(permission)
    return Decision(frozenset(allowed), because)


def _answer(
    question: _Question, clauses: tuple[Clause, ...]
) -> tuple[tuple[Reason, ...], tuple[Reason, ...]]:
    held: list[Reason] = []
    failed: list[Reason] = []
    for clause in clauses:
        missing = next((c for c in clause.conditions if not c.test(question)), None)
        if missing is None:
            held.append(clause.because)
        else:
            failed.append(missing.otherwise)
    telling = [reason for reason in failed if reason is not Reason.NO_ROLE]
    return tuple(dict.fromkeys(held)), tuple(dict.fromkeys(telling or failed))
