"""A patient's rules: which of them counts for one person and one thing (PURE).

The more specific rule wins: first by whom it names (a person before a department, a role, an
institution), then by what it is about (one record before a category, everything). Between two
that are as specific, the one that blocks wins. A rule counts from its beginning until its end,
the end itself outside.

Two properties hold, and are tested: one more rule that blocks never gives anything, and one
more that allows never takes anything.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Effect(StrEnum):
    """What a rule does."""

    BLOCK = "block"
    ALLOW = "allow"


class Whom(StrEnum):
    """Whom a rule names."""

    PERSON = "person"
    DEPARTMENT = "department"
    ROLE = "role"
    INSTITUTION = "institution"


class What(StrEnum):
    """What a rule is about."""

    EVERYTHING = "everything"
    CATEGORY = "category"
    RECORD = "record"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of one patient.

    ``whom_id`` is the id of a person, the name of a department (a ward), the id of a role or
    of an institution; ``what_id`` a category or the id of a record, empty for everything.
    ``until`` is ``None`` for a rule without an end.
    """

    id: str
    effect: Effect
    whom: Whom
    whom_id: str
    what: What
    what_id: str
    since: datetime
    until: datetime | None

    def in_force(self, now: datetime) -> bool:
        """Tell whether the rule counts at ``now``."""
        return self.since <= now and (self.until is None or now < self.until)


@dataclass(frozen=True, slots=True)
class Subject:
    """Who wants to look, in the terms that rules use.

    A rule that blocks any of somebody's ``roles`` blocks them, also while the role itself gives
    them nothing. One that allows a role counts for what that role may do, and for nothing that
    the person may in another one: it has to be among the ``lifted``.
    """

    person_id: str
    institution: str
    roles: frozenset[str] = frozenset()
    departments: frozenset[str] = frozenset()
    lifted: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Thing:
    """What is looked at: one record and its category."""

    record_id: str
    category: str


#: From the least specific to the most.
WHOM_ORDER = (Whom.INSTITUTION, Whom.ROLE, Whom.DEPARTMENT, Whom.PERSON)
WHAT_ORDER = (What.EVERYTHING, What.CATEGORY, What.RECORD)
_WHOM_RANK = {whom: rank for rank, whom in enumerate(WHOM_ORDER)}
_WHAT_RANK = {what: rank for rank, what in enumerate(WHAT_ORDER)}


def winning(
    rules: Iterable[Rule], subject: Subject, thing: Thing | None, now: datetime
) -> Rule | None:
    """Return the rule that decides, or ``None`` if none is about this person and thing.

    Without a ``thing`` the question is about the patient as a whole: only rules about
    everything count.
    """
    return strongest(counting(rules, subject, now), thing)


def counting(rules: Iterable[Rule], subject: Subject, now: datetime) -> tuple[Rule, ...]:
    """Return the rules in force that name somebody."""
    return tuple(rule for rule in rules if rule.in_force(now) and names(rule, subject))


def strongest(rules: Iterable[Rule], thing: Thing | None) -> Rule | None:
    """Return which of the rules that count decides about a thing."""
    return max((rule for rule in rules if _is_about(rule, thing)), key=_rank, default=None)


def opening(rules: Iterable[Rule], subject: Subject, now: datetime) -> Rule | None:
    """Return a rule that opens some part of the patient's record to this person, if one does.

    Whoever may read one record has to find the way to it, also past a rule that blocks
    everything else.
    """
    return opening_of(counting(rules, subject, now))


def opening_of(rules: Iterable[Rule]) -> Rule | None:
    """Return which of the rules that count opens a part, the strongest of them."""
    given = tuple(rules)
    parts = {_part(rule) for rule in given if rule.effect is Effect.ALLOW}
    opened = {part for part in parts if _decides(strongest(given, part), Effect.ALLOW)}
    open_ones = (r for r in given if r.effect is Effect.ALLOW and _part(r) in opened)
    return max(open_ones, key=_rank, default=None)


def opens_sensitive(rules: Iterable[Rule], subject: Subject, thing: Thing, now: datetime) -> bool:
    """Tell whether the rules open a thing of a sensitive category.

    To allow "everything" is not enough for that: a rule has to name the category or the record,
    and none that blocks may stand over it.
    """
    return sensitive_is_open(counting(rules, subject, now), thing)


def sensitive_is_open(rules: Iterable[Rule], thing: Thing) -> bool:
    """Tell whether the rules that count open a thing of a sensitive category."""
    given = tuple(rules)
    exact = (rule for rule in given if (rule.effect, rule.what) != (Effect.ALLOW, What.EVERYTHING))
    return all(_decides(strongest(some, thing), Effect.ALLOW) for some in (given, exact))


def names(rule: Rule, subject: Subject) -> bool:
    """Tell whether a rule names somebody, themselves or by what they belong to."""
    match rule.whom:
        case Whom.PERSON:
            return rule.whom_id == subject.person_id
        case Whom.DEPARTMENT:
            return rule.whom_id in subject.departments
        case Whom.ROLE:
            counting = subject.roles if rule.effect is Effect.BLOCK else subject.lifted
            return rule.whom_id in counting
        case Whom.INSTITUTION:
            return rule.whom_id == subject.institution


def _is_about(rule: Rule, thing: Thing | None) -> bool:
    match rule.what:
        case What.EVERYTHING:
            return True
        case What.CATEGORY:
            return thing is not None and rule.what_id == thing.category
        case What.RECORD:
            return thing is not None and rule.what_id == thing.record_id


def _part(rule: Rule) -> Thing | None:
    """Return what a rule is about, as a thing; which category a record has is not known here."""
    match rule.what:
        case What.EVERYTHING:
            return None
        case What.CATEGORY:
            return Thing("", rule.what_id)
        case What.RECORD:
            return Thing(rule.what_id, "")


def _decides(rule: Rule | None, effect: Effect) -> bool:
    return rule is not None and rule.effect is effect


def _rank(rule: Rule) -> tuple[int, int, bool, str]:
    # The id makes the choice between two equal rules the same every time.
    return (
        _WHOM_RANK[rule.whom],
        _WHAT_RANK[rule.what],
        rule.effect is Effect.BLOCK,
        rule.id,
    )
