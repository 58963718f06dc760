"""The decision table (PURE): who may do what, and why.

Read :data:`TABLE` from the top: a permission is given if any of its clauses holds, and a
clause holds if every one of its conditions does. The reason of the clause that held, or of
the conditions that failed, is the answer to "why". ``docs/access.md`` is made from it.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from medportal.access.conditions import (
    CONFIRM,
    CONFIRM_WHEN_REMOTE,
    EXISTS,
    HELD,
    HELD_ANY,
    HELD_OWN,
    NOT_SELF,
    RECORD,
    REVIEW,
    SELF,
    SENSITIVE_BROKEN,
    SENSITIVE_MADE_HERE,
    SENSITIVE_OPEN,
    SIGNED_IN,
    TELL,
    WAY,
    WHOLE,
    WROTE_IT,
    Clause,
    Condition,
    as_representative,
    through_care,
    through_glass,
    through_rule,
)
from medportal.access.question import AccessFacts, Question, Relation, Situation
from medportal.core.identity import Identity
from medportal.core.obligations import Obligation
from medportal.core.permissions import Permission
from medportal.core.reasons import Reason


@dataclass(frozen=True, slots=True)
class Decision:
    """What is allowed, and for every permission the reasons of its answer.

    ``basis`` is the id of what an answer rests on: the assignment, the patient's rule, the
    broken glass; of a refusal the patient's rule that blocks. ``obligations`` are what goes with
    a permission that is given.
    """

    permissions: frozenset[Permission]
    because: Mapping[Permission, tuple[Reason, ...]]
    obligations: Mapping[Permission, frozenset[Obligation]] = field(default_factory=dict)
    basis: Mapping[Permission, str] = field(default_factory=dict)

    def allows(self, permission: Permission) -> bool:
        """Tell whether a permission is given."""
        return permission in self.permissions

    def demands(self, permission: Permission, obligation: Obligation) -> bool:
        """Tell whether an obligation goes with a permission."""
        return obligation in self.obligations.get(permission, frozenset())


def stricter(first: Decision, second: Decision) -> Decision:
    """Return what two decisions both give, with what each of them asks for besides.

    A refusal is told as the first that refuses tells it.
    """
    telling = {
        permission: second if first.allows(permission) else first for permission in first.because
    }
    given = first.permissions & second.permissions
    duties = {
        permission: first.obligations.get(permission, frozenset())
        | second.obligations.get(permission, frozenset())
        for permission in given
    }
    return Decision(
        given,
        {permission: decision.because[permission] for permission, decision in telling.items()},
        {permission: found for permission, found in duties.items() if found},
        {
            permission: decision.basis[permission]
            for permission, decision in telling.items()
            if permission in decision.basis
        },
    )


EVERYBODY = Clause(Reason.SIGNED_IN, (SIGNED_IN,))
BY_ROLE = Clause(Reason.ROLE_ANY, (SIGNED_IN, HELD))
OVER_ALL = Clause(Reason.ROLE_ANY, (SIGNED_IN, HELD_ANY, EXISTS, NOT_SELF))
OVER_ALL_UNLESS_BLOCKED = Clause(
    Reason.ROLE_ANY, (SIGNED_IN, HELD_ANY, EXISTS, NOT_SELF, WHOLE.not_blocked)
)
BY_ROLE_OVER_ANYBODY = Clause(
    Reason.ROLE_ANY, (SIGNED_IN, HELD, EXISTS, NOT_SELF), (CONFIRM, TELL, REVIEW)
)
OVER_SELF = Clause(Reason.OWN_RECORD, (SIGNED_IN, HELD_OWN, EXISTS, SELF))
IN_CARE_UNLESS_BLOCKED = through_care(WHOLE)
BY_BROKEN_GLASS = through_glass()

#: The way to the patient: a name and a ward. The desk has to go on working whatever the rules
#: are; who may read one record finds the way to it.
WAY_TO_PATIENT = (
    OVER_ALL,
    through_care(WAY),
    through_rule(WAY),
    BY_BROKEN_GLASS,
    OVER_SELF,
    as_representative(WAY),
)
#: The way to the records: as above, and rules are for those who reach everybody too.
WAY_TO_RECORDS = (
    Clause(Reason.ROLE_ANY, (SIGNED_IN, HELD_ANY, EXISTS, NOT_SELF, WAY.not_blocked)),
    *WAY_TO_PATIENT[1:],
)
#: What shows who somebody is and where: a block of everything takes it from those who look
#: after the patient, not from the desk.
PLACE = (
    OVER_ALL,
    IN_CARE_UNLESS_BLOCKED,
    through_rule(WHOLE),
    BY_BROKEN_GLASS,
    OVER_SELF,
    as_representative(WHOLE),
)
#: How the patient is moved and looked after, and what they bear badly.
SUPPORT = (OVER_ALL_UNLESS_BLOCKED, *PLACE[1:])
#: What stands in a record: its category counts. A member of staff's stolen session elsewhere
#: opens no sensitive one by itself, whatever the right to it rests on; a patient's opens their
#: own, and so does that of who stands for them: it is theirs to read where and when they want.
CONTENT = (
    Clause(
        Reason.ROLE_ANY,
        (SIGNED_IN, HELD_ANY, EXISTS, NOT_SELF, RECORD.not_blocked, SENSITIVE_MADE_HERE),
        (CONFIRM_WHEN_REMOTE,),
    ),
    through_care(RECORD, SENSITIVE_OPEN, duties=(CONFIRM_WHEN_REMOTE,)),
    through_rule(RECORD, SENSITIVE_OPEN, duties=(CONFIRM_WHEN_REMOTE,)),
    through_glass(SENSITIVE_BROKEN, duties=(CONFIRM_WHEN_REMOTE,)),
    OVER_SELF,
    as_representative(RECORD),
)
AS_AUTHOR = Clause(
    Reason.AUTHOR, (SIGNED_IN, HELD, EXISTS, NOT_SELF, WROTE_IT), (CONFIRM_WHEN_REMOTE,)
)
#: What is added to a record or to how somebody is looked after: a rule that allows gives none.
ADDING = (IN_CARE_UNLESS_BLOCKED, BY_BROKEN_GLASS)
#: Taking it along: those who look after the patient now, and the patient, each record by its own
#: decision; neither glass nor a rule nor having written it leads here.
TAKING_ALONG = (
    through_care(RECORD, SENSITIVE_OPEN, duties=(CONFIRM_WHEN_REMOTE,)),
    OVER_SELF,
    as_representative(RECORD),
)
#: What is the patient's own to do.
OWN = (OVER_SELF, as_representative(WHOLE))

TABLE: Mapping[Permission, tuple[Clause, ...]] = {
    Permission.HOME_VIEW: (EVERYBODY,),
    Permission.ACCOUNT_CHANGE: (EVERYBODY,),
    Permission.PATIENTS_LIST: (BY_ROLE,),
    Permission.PATIENTS_FIND: (BY_ROLE,),
    Permission.PATIENTS_REGISTER: (BY_ROLE,),
    Permission.TEAMS_MANAGE: (BY_ROLE,),
    Permission.DELIVERIES_VIEW: (BY_ROLE,),
    Permission.HELD_DECIDE: (BY_ROLE,),
    Permission.ERASURE_DECIDE: (BY_ROLE,),
    Permission.AUDIT_VIEW: (BY_ROLE,),
    Permission.AUDIT_EXPORT: (BY_ROLE,),
    Permission.REVIEWS_DECIDE: (BY_ROLE,),
    Permission.COMPLAINTS_ANSWER: (BY_ROLE,),
    Permission.PEOPLE_MANAGE: (BY_ROLE,),
    Permission.APPROVALS_DECIDE: (BY_ROLE,),
    Permission.SETTINGS_MANAGE: (BY_ROLE,),
    Permission.PARTNERS_MANAGE: (BY_ROLE,),
    Permission.PATIENT_SEE: WAY_TO_PATIENT,
    Permission.PATIENT_BED: PLACE,
    Permission.PATIENT_DEMOGRAPHICS: PLACE,
    Permission.PATIENT_TRANSPORT: SUPPORT,
    Permission.PATIENT_ALERTS: SUPPORT,
    Permission.PATIENT_VITALS: CONTENT,
    Permission.DEMOGRAPHICS_KEEP: (OVER_ALL,),
    Permission.SUPPORT_KEEP: (OVER_ALL_UNLESS_BLOCKED, *ADDING),
    Permission.CARE_MANAGE: (OVER_ALL,),
    Permission.RECORD_LIST: WAY_TO_RECORDS,
    Permission.RECORD_READ: (*CONTENT, AS_AUTHOR),
    Permission.RECORD_CREATE: (OVER_ALL, *ADDING),
    Permission.RECORD_AMEND: (OVER_ALL_UNLESS_BLOCKED, *ADDING),
    Permission.RECORD_EXPORT: TAKING_ALONG,
    Permission.RESULT_ACKNOWLEDGE: ADDING,
    Permission.GLASS_BREAK: (BY_ROLE_OVER_ANYBODY,),
    Permission.RULES_MANAGE: OWN,
    Permission.ACCESS_LOG_VIEW: OWN,
    Permission.COMPLAINT_MAKE: OWN,
    Permission.DELIVERY_FOLLOW: (OVER_ALL,),
}
#: Permissions about one patient; without a patient in the facts none of them is given.
ABOUT_A_PATIENT = frozenset(
    permission
    for permission, clauses in TABLE.items()
    if any(EXISTS in clause.conditions for clause in clauses)
)


def decide(
    identity: Identity | None,
    facts: AccessFacts,
    now: datetime,
    only: Collection[Permission] = tuple(TABLE),
) -> Decision:
    """Return what ``identity`` may do in the light of ``facts`` at ``now``.

    ``only`` keeps to the permissions that matter; the others are then neither given nor told.
    """
    return decide_in(Situation(Relation(identity, facts, now), facts.record), only)


def decide_in(situation: Situation, only: Collection[Permission]) -> Decision:
    """Return what somebody may do in a situation; several of them can share one relation."""
    answers = {permission: _answer(Question(situation, permission)) for permission in only}
    given = {permission: answer for permission, answer in answers.items() if answer.held}
    return Decision(
        frozenset(given),
        {permission: answer.reasons for permission, answer in answers.items()},
        {permission: answer.duties for permission, answer in given.items() if answer.duties},
        {permission: answer.basis for permission, answer in answers.items() if answer.basis},
    )


@dataclass(frozen=True, slots=True)
class _Answer:
    held: bool
    reasons: tuple[Reason, ...]
    duties: frozenset[Obligation] = frozenset()
    basis: str = ""


def _answer(question: Question) -> _Answer:
    if question.permission in ABOUT_A_PATIENT and question.at.relation.facts.patient is None:
        return _Answer(False, (Reason.NO_SUCH_THING,))
    held: list[Clause] = []
    failed: list[Condition] = []
    for clause in TABLE[question.permission]:
        wanting = _wanting(question, clause)
        if wanting is None:
            held.append(clause)
        else:
            failed.append(wanting)
    return _allowed(question, held) if held else _refused(question, failed)


def _wanting(question: Question, clause: Clause) -> Condition | None:
    """Return the first condition of a clause that does not hold, ``None`` if they all do.

    Who has no role for it is told so at once. All that is about the patient is tried, also after
    one condition has failed: an answer about what is hidden takes as long as one about what is
    missing.
    """
    first = None
    for condition in clause.conditions:
        if not condition.test(question):
            first = first or condition
            if first.of_asker:
                break
    return first


def _refused(question: Question, failed: list[Condition]) -> _Answer:
    """Return the refusal, and the patient's rule on which it rests if one blocks."""
    basis = next((found for condition in failed if (found := condition.basis(question))), "")
    return _Answer(False, _telling(condition.otherwise for condition in failed), basis=basis)


def _allowed(question: Question, held: list[Clause]) -> _Answer:
    """Return the answer that the clauses which hold give together.

    What the mildest of them asks for besides is enough: a second way in costs nothing.
    """
    reasons = (clause.reason(question) or clause.because for clause in held)
    least = min((_duties(question, clause) for clause in held), key=len)
    basis = next((found for clause in held if (found := clause.basis(question))), "")
    return _Answer(True, tuple(dict.fromkeys(reasons)), least, basis)


def _duties(question: Question, clause: Clause) -> frozenset[Obligation]:
    return frozenset(duty.obligation for duty in clause.duties if duty.test(question))


#: Reasons that say only that a way in was not the asker's; others tell more.
_WEAK = (
    Reason.NO_ROLE,
    Reason.NO_RULE_ALLOWS,
    Reason.GLASS_NOT_BROKEN,
    Reason.NOT_AUTHOR,
)


def _telling(failed: Iterable[Reason]) -> tuple[Reason, ...]:
    reasons = tuple(dict.fromkeys(failed))
    return tuple(reason for reason in reasons if reason not in _WEAK) or reasons
