"""The conditions that the decision table is made of, each with a name in plain words (PURE).

A condition is a question with yes or no; ``otherwise`` is the reason to give when the answer
is no. A :class:`Clause` holds if all its conditions do.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from medportal.access.question import OVER_OTHERS, GlassFacts, Question, Ruling, is_that
from medportal.access.rules import Effect, Rule
from medportal.core.obligations import Obligation
from medportal.core.permissions import Reach
from medportal.core.reasons import Reason


@dataclass(frozen=True, slots=True)
class Condition:
    """A named predicate, and the reason to give when it fails.

    ``of_asker``: it is about who asks alone, and the same whatever is asked about. ``basis``
    gives the id of what a refusal rests on: the patient's rule.
    """

    name: str
    test: Callable[[Question], bool] = field(repr=False)
    otherwise: Reason
    of_asker: bool = False
    basis: Callable[[Question], str | None] = field(default=lambda _question: None, repr=False)


@dataclass(frozen=True, slots=True)
class Duty:
    """What goes with a permission, and when, in plain words."""

    obligation: Obligation
    when: str
    test: Callable[[Question], bool] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Clause:
    """Conditions that must all hold, and the reason to give when they do.

    ``basis`` gives the id of what the answer rests on: an assignment, a rule, a broken glass.
    ``reason`` may be more exact than ``because``.
    """

    because: Reason
    conditions: tuple[Condition, ...]
    duties: tuple[Duty, ...] = ()
    basis: Callable[[Question], str | None] = field(default=lambda _question: None, repr=False)
    reason: Callable[[Question], Reason | None] = field(default=lambda _question: None, repr=False)


def _glass_for_sensitive(glass: GlassFacts | None) -> bool:
    return glass is not None and glass.sensitive


SIGNED_IN = Condition(
    "is signed in",
    lambda q: q.at.relation.identity is not None,
    otherwise=Reason.NOT_SIGNED_IN,
    of_asker=True,
)
HELD = Condition(
    "has a role of staff with this permission",
    lambda q: any(q.holds(reach) for reach in OVER_OTHERS),
    otherwise=Reason.NO_ROLE,
    of_asker=True,
)
HELD_ANY = Condition(
    "has a role with this permission over everybody",
    lambda q: q.holds(Reach.ANY),
    otherwise=Reason.NO_ROLE,
    of_asker=True,
)
HELD_ASSIGNED = Condition(
    "has a role with this permission over assigned patients",
    lambda q: q.holds(Reach.ASSIGNED),
    otherwise=Reason.NO_ROLE,
    of_asker=True,
)
HELD_OWN = Condition(
    "has a role with this permission over oneself",
    lambda q: q.holds(Reach.OWN),
    otherwise=Reason.NO_ROLE,
    of_asker=True,
)
EXISTS = Condition("the thing exists", lambda q: q.at.exists, otherwise=Reason.NO_SUCH_THING)
NOT_SELF = Condition(
    "the patient is somebody else",
    lambda q: not q.at.relation.is_self,
    otherwise=Reason.OWN_RECORD_ONLY_AS_PATIENT,
)
SELF = Condition(
    "the patient is oneself", lambda q: q.at.relation.is_self, otherwise=Reason.NOT_OWN
)
REPRESENTS = Condition(
    "represents the patient now",
    lambda q: q.at.relation.represents and not q.at.relation.is_self,
    otherwise=Reason.NOT_OWN,
)
IN_CARE = Condition(
    "is assigned to the patient now, or is in the team of a ward that is",
    lambda q: bool(q.at.relation.assignments),
    otherwise=Reason.NOT_ASSIGNED,
)
GLASS_BROKEN = Condition(
    "broke the glass, the time for it runs, and one still has a role that may",
    lambda q: q.at.relation.glass is not None,
    otherwise=Reason.GLASS_NOT_BROKEN,
)
SENSITIVE_OPEN = Condition(
    "the category is not sensitive; or one is the treating doctor, the assignment says that it "
    "goes for sensitive categories too, or the patient's rule names the category or the record",
    lambda q: (
        not q.at.is_sensitive
        or q.at.relation.assignment_opens_sensitive
        or q.ruling.opens_sensitive
    ),
    otherwise=Reason.SENSITIVE,
)
SENSITIVE_MADE_HERE = Condition(
    "the category is not sensitive, or the record was made at this institution, or the patient's "
    "rule names the category or the record",
    lambda q: not q.at.is_sensitive or q.at.was_made_here or q.ruling.opens_sensitive,
    otherwise=Reason.SENSITIVE,
)
SENSITIVE_BROKEN = Condition(
    "the category is not sensitive, or the second step for sensitive categories was taken",
    lambda q: not q.at.is_sensitive or _glass_for_sensitive(q.at.relation.glass),
    otherwise=Reason.SENSITIVE,
)
WROTE_IT = Condition("wrote the record", lambda q: q.at.wrote_it, otherwise=Reason.NOT_AUTHOR)


@dataclass(frozen=True, slots=True)
class Scope:
    """Which of the patient's rules count for a permission, and the conditions made of them."""

    decides: Callable[[Ruling], Rule | None]
    not_blocked: Condition
    allowed: Condition
    #: For representatives, whom only rules concern that name them in person.
    not_blocked_by_name: Condition


def _scope(decides: Callable[[Ruling], Rule | None], blocks: str, allows: str) -> Scope:
    def is_blocked(ruling: Ruling) -> bool:
        return is_that(decides(ruling), Effect.BLOCK)

    def rule_id(ruling: Ruling) -> str | None:
        rule = decides(ruling)
        return rule.id if rule else None

    return Scope(
        decides,
        Condition(
            f"no rule of the patient blocks {blocks}",
            lambda q: not is_blocked(q.ruling),
            otherwise=Reason.PATIENT_BLOCKS,
            basis=lambda q: rule_id(q.ruling),
        ),
        Condition(
            f"a rule of the patient allows {allows}, and if it names a role, then one with this "
            "permission",
            lambda q: is_that(decides(q.ruling), Effect.ALLOW),
            otherwise=Reason.NO_RULE_ALLOWS,
        ),
        Condition(
            f"no rule of the patient that names one in person blocks {blocks}",
            lambda q: not is_blocked(q.at.ruling_by_name),
            otherwise=Reason.PATIENT_BLOCKS,
            basis=lambda q: rule_id(q.at.ruling_by_name),
        ),
    )


#: The way to the patient's page and to the list of what one may read there.
WAY = _scope(lambda r: r.way, "everything, unless another opens a part", "any part of the record")
#: What belongs to no category: only rules about everything count.
WHOLE = _scope(lambda r: r.whole, "everything", "everything")
#: What stands in one record.
RECORD = _scope(
    lambda r: r.record,
    "the record, its category or everything",
    "the record, its category or everything",
)

CONFIRM_WHEN_REMOTE = Duty(
    Obligation.CONFIRM_FIRST,
    "the category is sensitive, one is not on site, and the last proof of identity is not fresh",
    lambda q: q.at.is_sensitive and q.at.relation.is_remote and not q.at.relation.is_fresh,
)
CONFIRM = Duty(
    Obligation.CONFIRM_FIRST,
    "the last proof of identity is not fresh",
    lambda q: not q.at.relation.is_fresh,
)
TELL = Duty(Obligation.TELL_PATIENT, "always", lambda _q: True)
REVIEW = Duty(Obligation.REVIEW, "always", lambda _q: True)


def _assignment_id(question: Question) -> str | None:
    found = question.at.relation.assignments
    return (found[0].id or None) if found else None


def _assignment_reason(question: Question) -> Reason | None:
    found = question.at.relation.assignments
    if not found:
        return None
    if found[0].team:
        return Reason.WARD_TEAM
    return Reason.TREATING if found[0].treating else None


def _glass_id(question: Question) -> str | None:
    return question.at.relation.glass.id if question.at.relation.glass else None


def through_care(scope: Scope, *more: Condition, duties: tuple[Duty, ...] = ()) -> Clause:
    """Return the clause of those who look after the patient."""
    return Clause(
        Reason.ASSIGNED_CARE,
        (SIGNED_IN, HELD_ASSIGNED, EXISTS, NOT_SELF, IN_CARE, scope.not_blocked, *more),
        duties,
        _assignment_id,
        _assignment_reason,
    )


def through_rule(scope: Scope, *more: Condition, duties: tuple[Duty, ...] = ()) -> Clause:
    """Return the clause of those whom the patient allows; their role is the ceiling."""

    def rule_id(question: Question) -> str | None:
        rule = scope.decides(question.ruling)
        return rule.id if rule else None

    return Clause(
        Reason.PATIENT_ALLOWS,
        (SIGNED_IN, HELD_ASSIGNED, EXISTS, NOT_SELF, scope.allowed, *more),
        duties,
        rule_id,
    )


def through_glass(*more: Condition, duties: tuple[Duty, ...] = ()) -> Clause:
    """Return the clause of those who broke the glass; no rule stands against it."""
    return Clause(
        Reason.BROKEN_GLASS,
        (SIGNED_IN, HELD_ASSIGNED, EXISTS, NOT_SELF, GLASS_BROKEN, *more),
        duties,
        _glass_id,
    )


def as_representative(scope: Scope) -> Clause:
    """Return the clause of those who stand for the patient."""
    return Clause(
        Reason.REPRESENTATIVE,
        (SIGNED_IN, HELD_OWN, EXISTS, REPRESENTS, scope.not_blocked_by_name),
    )
