"""The decision, over every combination of what it looks at, against the access model.

The answers wanted are written down a second time, in the words of the model and by other means
than the table's: what each assignment, rule and broken glass comes to stands in small tables
below, by hand.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import FrozenInstanceError, dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medportal.access.decisions import ABOUT_A_PATIENT, TABLE, Decision, decide
from medportal.access.question import (
    AccessFacts,
    AssignmentFacts,
    GlassFacts,
    PatientFacts,
    RecordFacts,
    Term,
)
from medportal.access.rules import Effect, Rule, What, Whom
from medportal.core.categories import Category, is_sensitive
from medportal.core.identity import Identity
from medportal.core.obligations import Obligation
from medportal.core.permissions import Permission, Reach
from medportal.core.reasons import Reason

NOW = datetime(2024, 5, 6, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
TICK = timedelta(microseconds=1)
ME, SOMEBODY = "a" * 32, "b" * 32
PATIENT, RECORD = "c" * 32, "d" * 32
#: What says something about health; what a refusal has to keep to itself.
CLINICAL = frozenset(
    {
        Permission.RECORD_LIST,
        Permission.RECORD_READ,
        Permission.RECORD_CREATE,
        Permission.RECORD_EXPORT,
        Permission.PATIENT_ALERTS,
        Permission.PATIENT_VITALS,
    }
)
#: What the product below asks: one permission of every kind of clauses about a patient.
ASKED = (
    Permission.PATIENT_SEE,
    Permission.PATIENT_BED,
    Permission.PATIENT_ALERTS,
    Permission.RECORD_LIST,
    Permission.RECORD_READ,
    Permission.RECORD_CREATE,
    Permission.RECORD_EXPORT,
    Permission.RULES_MANAGE,
    Permission.GLASS_BREAK,
)
ALWAYS = frozenset({Permission.HOME_VIEW, Permission.ACCOUNT_CHANGE})
OVER_OTHERS = frozenset({Reach.ANY, Reach.ASSIGNED})
REACHES = [frozenset(chosen) for n in range(4) for chosen in itertools.combinations(list(Reach), n)]


def asker(**more: object) -> Identity:
    return replace(Identity(ME, "hospital", frozenset({"doctor"}), "s", NOW), **more)


def rule(
    effect: Effect,
    whom: Whom = Whom.PERSON,
    what: What = What.EVERYTHING,
    *,
    id: str = "r",
    since: datetime = NOW - HOUR,
    until: datetime | None = None,
) -> Rule:
    """Return a rule that names the asker and is about the record of the product."""
    whoms = {
        Whom.PERSON: ME,
        Whom.DEPARTMENT: "Cardiology",
        Whom.ROLE: "doctor",
        Whom.INSTITUTION: "hospital",
    }
    whats = {What.EVERYTHING: "", What.CATEGORY: "genetics", What.RECORD: RECORD}
    return Rule(id, effect, whom, whoms[whom], what, whats[what], since, until)


ALLOW, BLOCK = Effect.ALLOW, Effect.BLOCK
#: Assignments by name: the facts, whether one looks after the patient, and whether that goes
#: for sensitive categories.
CARES: dict[str, tuple[tuple[AssignmentFacts, ...], bool, bool]] = {
    "none": ((), False, False),
    "just over": ((AssignmentFacts(True, NOW - HOUR, NOW),), False, False),
    "not begun": ((AssignmentFacts(True, NOW + TICK, None),), False, False),
    "team": ((AssignmentFacts(False, NOW - HOUR, NOW + TICK, "as1"),), True, False),
    "treating": ((AssignmentFacts(True, NOW, None, "as2"),), True, True),
    "team, sensitive too": (
        (AssignmentFacts(False, NOW - HOUR, None, "as3", opens_sensitive=True),),
        True,
        True,
    ),
    "team of a ward": (
        (AssignmentFacts(True, NOW - HOUR, None, "as4", team="Cardiology"),),
        True,
        False,
    ),
}


@dataclass(frozen=True)
class Ruled:
    """What rules come to: for the record, for the way to it, for the whole; and by name alone."""

    rules: tuple[Rule, ...]
    record: Effect | None = None
    way: Effect | None = None
    whole: Effect | None = None
    names_record: bool = False
    record_by_name: Effect | None = None
    whole_by_name: Effect | None = None


#: Rules by name. The record of the product is of the category genetics in half of the cases,
#: and of laboratory in the other; rules about a category are about genetics.
RULES = {
    "none": Ruled(()),
    "over and to come": Ruled(
        (
            rule(ALLOW, id="r1", until=NOW),
            rule(BLOCK, id="r2", since=NOW + TICK),
        )
    ),
    "allows me everything": Ruled(
        (rule(ALLOW),), ALLOW, ALLOW, ALLOW, record_by_name=ALLOW, whole_by_name=ALLOW
    ),
    "blocks everybody here": Ruled((rule(BLOCK, Whom.INSTITUTION),), BLOCK, BLOCK, BLOCK),
    "blocks me": Ruled(
        (rule(BLOCK), rule(ALLOW, Whom.ROLE, What.RECORD, id="r2")),
        BLOCK,
        BLOCK,
        BLOCK,
        record_by_name=BLOCK,
        whole_by_name=BLOCK,
    ),
    "blocks the record": Ruled(
        (rule(BLOCK, Whom.DEPARTMENT, What.RECORD), rule(ALLOW, Whom.INSTITUTION, id="r2")),
        BLOCK,
        ALLOW,
        ALLOW,
    ),
    "allows doctors the record": Ruled(
        (rule(ALLOW, Whom.ROLE, What.RECORD),), ALLOW, ALLOW, None, names_record=True
    ),
    "blocks me but for the record": Ruled(
        (rule(BLOCK), rule(ALLOW, Whom.PERSON, What.RECORD, id="r2")),
        ALLOW,
        ALLOW,
        BLOCK,
        names_record=True,
        record_by_name=ALLOW,
        whole_by_name=BLOCK,
    ),
}
#: Glass by name: the facts, whether it is open, and whether for sensitive categories.
GLASSES: dict[str, tuple[tuple[GlassFacts, ...], bool, bool]] = {
    "whole": ((), False, False),
    "time over": ((GlassFacts("g1", NOW - HOUR, NOW, sensitive=True),), False, False),
    "broken": ((GlassFacts("g2", NOW, NOW + HOUR),), True, False),
    "broken twice": (
        (GlassFacts("g3", NOW, NOW + HOUR), GlassFacts("g4", NOW, NOW + TICK, sensitive=True)),
        True,
        True,
    ),
}
RELATIONS = {
    "stranger": (False, ()),
    "self": (True, ()),
    "stands for": (False, (Term(NOW - HOUR, None),)),
    "stood for": (False, (Term(NOW - HOUR, NOW), Term(NOW + TICK, None))),
}
RECORDS = {
    "none": None,
    "missing": RecordFacts(RECORD, False, SOMEBODY, Category.LABORATORY),
    "ordinary": RecordFacts(RECORD, True, SOMEBODY, Category.LABORATORY),
    "sensitive": RecordFacts(RECORD, True, None, Category.GENETICS, "laboratory"),
    "sensitive, made here": RecordFacts(RECORD, True, SOMEBODY, Category.GENETICS, "hospital"),
    "own ordinary": RecordFacts(RECORD, True, ME, Category.LABORATORY),
    "own sensitive": RecordFacts(RECORD, True, ME, Category.GENETICS),
}


@dataclass(frozen=True, slots=True)
class Case:
    """One combination, in the words of the access model."""

    reaches: frozenset[Reach]
    relation: str
    care: str
    rules: str
    glass: str
    record: str
    patient_exists: bool

    def facts(self) -> AccessFacts:
        is_self, represents = RELATIONS[self.relation]
        return AccessFacts(
            held=dict.fromkeys(Permission, self.reaches),
            patient=PatientFacts(
                PATIENT,
                self.patient_exists,
                is_self,
                CARES[self.care][0],
                represents,
                RULES[self.rules].rules,
                GLASSES[self.glass][0],
            ),
            record=RECORDS[self.record],
            departments=frozenset({"Cardiology"}),
            by_role=dict.fromkeys(
                Permission, frozenset({"doctor"} if self.reaches & OVER_OTHERS else ())
            ),
            treats=True,
        )

    @property
    def exists(self) -> bool:
        return self.patient_exists and self.record != "missing"

    @property
    def is_self(self) -> bool:
        return self.relation == "self"

    @property
    def stands(self) -> bool:
        return self.relation == "stands for" and Reach.OWN in self.reaches

    @property
    def in_care(self) -> bool:
        return CARES[self.care][1] and Reach.ASSIGNED in self.reaches

    @property
    def glass_open(self) -> bool:
        return GLASSES[self.glass][1] and Reach.ASSIGNED in self.reaches

    @property
    def is_sensitive(self) -> bool:
        return "sensitive" in self.record

    @property
    def is_author(self) -> bool:
        return self.record.startswith("own") and bool(self.reaches & OVER_OTHERS)

    @property
    def ruled(self) -> Ruled:
        """What the rules come to, where this person and this record are asked about."""
        found = RULES[self.rules]
        return found if self.record != "none" else replace(found, record=found.way)

    def through(self, decisive: Effect | None) -> bool:
        """Whether a member of staff gets there by reach, assignment, rule or broken glass."""
        return (
            (Reach.ANY in self.reaches and decisive is not BLOCK)
            or (self.in_care and decisive is not BLOCK)
            or (Reach.ASSIGNED in self.reaches and decisive is ALLOW)
            or self.glass_open
        )


def cases() -> Iterator[Case]:
    for parts in itertools.product(
        REACHES, RELATIONS, CARES, RULES, GLASSES, RECORDS, (True, False)
    ):
        yield Case(*parts)


def own(case: Case, by_name: Effect | None) -> bool | None:
    """Whether it is one's own to see; ``None`` where somebody else's record is asked about."""
    if not case.exists:
        return False
    if case.is_self:
        return Reach.OWN in case.reaches
    return True if case.stands and by_name is not BLOCK else None


def may_read(case: Case) -> bool:
    """Reading a record, as the access model says it."""
    ruled, opened = case.ruled, CARES[case.care][2] or case.ruled.names_record
    mine = own(case, ruled.record_by_name)
    if mine is not None:
        return mine
    if case.is_author:
        return True
    if not case.is_sensitive:
        return case.through(ruled.record)
    return (
        (
            Reach.ANY in case.reaches
            and ruled.record is not BLOCK
            and (case.record == "sensitive, made here" or ruled.names_record)
        )
        or (case.in_care and ruled.record is not BLOCK and opened)
        or (Reach.ASSIGNED in case.reaches and ruled.record is ALLOW and opened)
        or (case.glass_open and GLASSES[case.glass][2])
    )


def may_list(case: Case) -> bool:
    """The list of records: whoever may read any of them, and what is filtered is not there."""
    way_by_name = case.ruled.whole_by_name if not case.ruled.names_record else ALLOW
    mine = own(case, way_by_name)
    return case.through(case.ruled.way) if mine is None else mine


def may_see(case: Case) -> bool:
    """Name and ward: as the list, and the desk whatever the rules are."""
    desk = case.exists and not case.is_self and Reach.ANY in case.reaches
    return desk or may_list(case)


def may_know_alerts(case: Case) -> bool:
    """Diet and allergies belong to no category: rules about everything count."""
    mine = own(case, case.ruled.whole_by_name)
    return case.through(case.ruled.whole) if mine is None else mine


def may_know_bed(case: Case) -> bool:
    desk = case.exists and not case.is_self and Reach.ANY in case.reaches
    return desk or may_know_alerts(case)


def may_add(case: Case) -> bool:
    """A new record: no rule gives that, and none takes it from who reaches everybody."""
    return (
        case.exists
        and not case.is_self
        and (
            Reach.ANY in case.reaches
            or (case.in_care and case.ruled.whole is not BLOCK)
            or case.glass_open
        )
    )


def may_take_along(case: Case) -> bool:
    """Taking a record along: the patient's side, and who looks after them, as far as that goes."""
    ruled, opened = case.ruled, CARES[case.care][2] or case.ruled.names_record
    mine = own(case, ruled.record_by_name)
    if mine is not None:
        return mine
    return case.in_care and ruled.record is not BLOCK and (opened or not case.is_sensitive)


def may_rule(case: Case) -> bool:
    return own(case, case.ruled.whole_by_name) or False


def may_break(case: Case) -> bool:
    return case.exists and not case.is_self and bool(case.reaches & OVER_OTHERS)


WANTED: dict[Permission, Callable[[Case], bool]] = {
    Permission.PATIENT_SEE: may_see,
    Permission.PATIENT_BED: may_know_bed,
    Permission.PATIENT_ALERTS: may_know_alerts,
    Permission.RECORD_LIST: may_list,
    Permission.RECORD_READ: may_read,
    Permission.RECORD_CREATE: may_add,
    Permission.RECORD_EXPORT: may_take_along,
    Permission.RULES_MANAGE: may_rule,
    Permission.GLASS_BREAK: may_break,
}

# -- invariants of the access model ----------------------------------------------------------------

Invariant = Callable[[Case, Decision], bool]


def nothing_in_force_is_no_clinical_read(case: Case, decision: Decision) -> bool:
    allowed = ALLOW in (case.ruled.record, case.ruled.way, case.ruled.whole)
    way = (
        case.in_care
        or case.glass_open
        or case.is_self
        or case.stands
        or (allowed and Reach.ASSIGNED in case.reaches)
        or case.is_author
        or Reach.ANY in case.reaches
    )
    return way or not decision.permissions & CLINICAL


def whoever_holds_nothing_gets_nothing(case: Case, decision: Decision) -> bool:
    return bool(case.reaches) or not decision.permissions


def what_is_missing_is_given_to_nobody(case: Case, decision: Decision) -> bool:
    return case.exists or not decision.permissions


def ones_own_record_is_seen_as_a_patient_or_not_at_all(case: Case, decision: Decision) -> bool:
    if not case.is_self:
        return True
    as_patient = set(ASKED) - {Permission.RECORD_CREATE, Permission.GLASS_BREAK}
    wanted = as_patient if case.exists and Reach.OWN in case.reaches else set()
    return decision.permissions == wanted and all(
        decision.because[p] == (Reason.OWN_RECORD,) for p in wanted
    )


def a_reach_over_oneself_gives_nothing_about_strangers(case: Case, decision: Decision) -> bool:
    concerned = case.reaches == {Reach.OWN} and not case.is_self and not case.stands
    return not concerned or not decision.permissions


def nobody_but_the_patient_makes_rules(case: Case, decision: Decision) -> bool:
    return (
        case.is_self
        or case.relation == "stands for"
        or not decision.allows(Permission.RULES_MANAGE)
    )


def a_sensitive_record_takes_the_second_step(case: Case, decision: Decision) -> bool:
    """Where nothing but the glass leads there, the first step does not open it."""
    only_glass = (
        case.is_sensitive
        and case.glass == "broken"
        and case.relation in ("stranger", "stood for")
        and case.care in ("none", "just over", "not begun")
        and case.rules in ("none", "blocks me", "blocks everybody here")
        and not case.is_author
        and Reach.ANY not in case.reaches
    )
    return not only_glass or not decision.allows(Permission.RECORD_READ)


def a_block_stops_who_looks_after_the_patient(case: Case, decision: Decision) -> bool:
    """All but authors, those who broke the glass, and the patient's own side."""
    stopped = (
        case.ruled.record is BLOCK
        and not case.glass_open
        and not case.is_author
        and not case.is_self
        and not case.stands
    )
    return not stopped or not decision.allows(Permission.RECORD_READ)


def what_is_taken_along_can_be_read_by_care_alone(case: Case, decision: Decision) -> bool:
    """Neither glass nor a rule nor having written it gives that, and none of them widens it."""
    if not decision.allows(Permission.RECORD_EXPORT):
        return True
    return decision.allows(Permission.RECORD_READ) and (case.is_self or case.stands or case.in_care)


def no_rule_stands_against_the_glass(case: Case, decision: Decision) -> bool:
    concerned = case.glass_open and case.exists and not case.is_self and not case.is_sensitive
    return not concerned or decision.allows(Permission.RECORD_READ)


ALLOWING = {
    Reason.ROLE_ANY,
    Reason.ASSIGNED_CARE,
    Reason.TREATING,
    Reason.WARD_TEAM,
    Reason.OWN_RECORD,
    Reason.REPRESENTATIVE,
    Reason.PATIENT_ALLOWS,
    Reason.BROKEN_GLASS,
    Reason.AUTHOR,
}


def every_answer_has_reasons_of_its_own_kind(case: Case, decision: Decision) -> bool:
    return all(
        reasons
        and len(set(reasons)) == len(reasons)
        and (ALLOWING.issuperset if decision.allows(permission) else ALLOWING.isdisjoint)(reasons)
        for permission, reasons in decision.because.items()
    ) and set(decision.because) == set(ASKED)


def an_answer_rests_on_what_is_in_force(case: Case, decision: Decision) -> bool:
    in_force = {
        "as1", "as2", "as3", "as4", "r", "r2", "g2", "g4",
    }  # fmt: skip
    blocked = {p for p, why in decision.because.items() if Reason.PATIENT_BLOCKS in why}
    return (
        in_force.issuperset(decision.basis.values())
        and blocked <= set(decision.basis) <= blocked | decision.permissions
    )


def breaking_the_glass_is_told_reviewed_and_takes_a_fresh_proof(
    case: Case, decision: Decision
) -> bool:
    owed = decision.obligations.get(Permission.GLASS_BREAK, frozenset())
    return owed == (set(Obligation) if decision.allows(Permission.GLASS_BREAK) else set())


def staff_elsewhere_confirm_before_sensitive_records(case: Case, decision: Decision) -> bool:
    """The asker of the product is remote, and never proved anything since they signed in."""
    if not decision.allows(Permission.RECORD_READ):
        return Permission.RECORD_READ not in decision.obligations
    mine = case.is_self or own(case, case.ruled.record_by_name)
    wanted = case.is_sensitive and not mine
    return decision.demands(Permission.RECORD_READ, Obligation.CONFIRM_FIRST) == wanted


INVARIANTS: tuple[Invariant, ...] = (
    nothing_in_force_is_no_clinical_read,
    whoever_holds_nothing_gets_nothing,
    what_is_missing_is_given_to_nobody,
    ones_own_record_is_seen_as_a_patient_or_not_at_all,
    a_reach_over_oneself_gives_nothing_about_strangers,
    nobody_but_the_patient_makes_rules,
    a_sensitive_record_takes_the_second_step,
    a_block_stops_who_looks_after_the_patient,
    what_is_taken_along_can_be_read_by_care_alone,
    no_rule_stands_against_the_glass,
    every_answer_has_reasons_of_its_own_kind,
    an_answer_rests_on_what_is_in_force,
    breaking_the_glass_is_told_reviewed_and_takes_a_fresh_proof,
    staff_elsewhere_confirm_before_sensitive_records,
)


@cache
def broken() -> tuple[int, dict[str, list[Case]]]:
    """Decide every case once; return how many there were, and the first that break what."""
    found: dict[str, list[Case]] = {}
    count, me = 0, asker()

    def wrong(name: str, case: Case) -> None:
        if len(examples := found.setdefault(name, [])) < 5:
            examples.append(case)

    for count, case in enumerate(cases(), 1):  # noqa: B007  (counted on purpose)
        decision = decide(me, case.facts(), NOW, ASKED)
        for permission, wanted in WANTED.items():
            if decision.allows(permission) != wanted(case):
                wrong(permission, case)
        for invariant in INVARIANTS:
            if not invariant(case, decision):
                wrong(invariant.__name__, case)
    return count, found


def test_the_product_is_whole() -> None:
    assert broken()[0] == 8 * 4 * 7 * 8 * 4 * 7 * 2
    assert set(WANTED) == set(ASKED)


@pytest.mark.parametrize("permission", ASKED)
def test_the_answer_is_exactly_what_the_access_model_says(permission: Permission) -> None:
    assert not broken()[1].get(permission)


@pytest.mark.parametrize("invariant", INVARIANTS, ids=lambda i: i.__name__)
def test_an_invariant_of_the_access_model(invariant: Invariant) -> None:
    assert not broken()[1].get(invariant.__name__)


@pytest.mark.parametrize("category", [*Category, "", "a category of tomorrow"])
def test_which_categories_start_closed(category: str) -> None:
    """Four are sensitive, and so is what is not mapped."""
    sensitive = category not in ("vital-signs", "laboratory", "clinical-note")
    assert is_sensitive(category) is sensitive
    base = Case(
        frozenset({Reach.ASSIGNED}), "stranger", "team", "none", "whole", "ordinary", True
    ).facts()
    facts = replace(base, record=RecordFacts(RECORD, True, SOMEBODY, category))
    got = decide(asker(), facts, NOW)
    for permission in (Permission.RECORD_READ, Permission.PATIENT_VITALS):
        assert got.allows(permission) is not sensitive
    assert got.allows(Permission.RECORD_LIST)


# -- one at a time ---------------------------------------------------------------------------------

USUAL = Case(frozenset({Reach.ASSIGNED}), "stranger", "treating", "none", "whole", "ordinary", True)


@pytest.mark.parametrize(
    ("change", "reasons"),
    [
        ({"reaches": frozenset()}, (Reason.NO_ROLE,)),
        ({"care": "none"}, (Reason.NOT_ASSIGNED,)),
        ({"care": "just over"}, (Reason.NOT_ASSIGNED,)),
        ({"relation": "self"}, (Reason.OWN_RECORD_ONLY_AS_PATIENT,)),
        ({"care": "team", "record": "sensitive"}, (Reason.SENSITIVE,)),
        ({"rules": "blocks me"}, (Reason.PATIENT_BLOCKS,)),
        ({"rules": "blocks everybody here"}, (Reason.PATIENT_BLOCKS,)),
        ({"record": "missing"}, (Reason.NO_SUCH_THING,)),
        ({"patient_exists": False}, (Reason.NO_SUCH_THING,)),
    ],
)
def test_the_reasons_of_a_denied_reading(
    change: dict[str, object], reasons: tuple[Reason, ...]
) -> None:
    """They are told to the patient: none is given that is not the case."""
    decision = decide(asker(), replace(USUAL, **change).facts(), NOW)
    assert not decision.allows(Permission.RECORD_READ)
    assert decision.because[Permission.RECORD_READ] == reasons


@pytest.mark.parametrize(
    ("change", "reasons", "basis"),
    [
        ({}, (Reason.TREATING,), "as2"),
        ({"care": "team"}, (Reason.ASSIGNED_CARE,), "as1"),
        ({"care": "team of a ward"}, (Reason.WARD_TEAM,), "as4"),
        (
            {"care": "none", "rules": "allows me everything"},
            (Reason.PATIENT_ALLOWS,),
            "r",
        ),
        (
            {"care": "none", "rules": "blocks me but for the record"},
            (Reason.PATIENT_ALLOWS,),
            "r2",
        ),
        ({"care": "none", "glass": "broken"}, (Reason.BROKEN_GLASS,), "g2"),
        (
            {"care": "none", "glass": "broken twice", "record": "sensitive"},
            (Reason.BROKEN_GLASS,),
            "g4",
        ),
        (
            {"glass": "broken", "record": "own ordinary"},
            (Reason.TREATING, Reason.BROKEN_GLASS, Reason.AUTHOR),
            "as2",
        ),
        ({"reaches": frozenset({Reach.OWN}), "relation": "self"}, (Reason.OWN_RECORD,), None),
        (
            {"reaches": frozenset({Reach.OWN}), "relation": "stands for"},
            (Reason.REPRESENTATIVE,),
            None,
        ),
    ],
)
def test_the_reasons_of_an_allowed_reading_and_what_it_rests_on(
    change: dict[str, object], reasons: tuple[Reason, ...], basis: str | None
) -> None:
    decision = decide(asker(), replace(USUAL, **change).facts(), NOW)
    assert decision.because[Permission.RECORD_READ] == reasons
    assert decision.basis.get(Permission.RECORD_READ) == basis


@pytest.mark.parametrize(
    ("change", "basis"),
    [
        ({"rules": "blocks me"}, "r"),
        ({"rules": "blocks the record"}, "r"),
        ({"rules": "blocks me", "relation": "stands for", "reaches": frozenset({Reach.OWN})}, "r"),
        ({"care": "none"}, None),
        ({"rules": "blocks me", "reaches": frozenset()}, None),
        ({"rules": "blocks me", "patient_exists": False}, None),
    ],
)
def test_a_refusal_rests_on_the_rule_that_blocks(
    change: dict[str, object], basis: str | None
) -> None:
    """Where nothing else is wanting first, and never on a rule that was not what refused."""
    decision = decide(asker(), replace(USUAL, **change).facts(), NOW)
    assert not decision.allows(Permission.RECORD_READ)
    assert decision.basis.get(Permission.RECORD_READ) == basis


def test_a_glass_lasts_no_longer_than_the_role_in_which_it_was_broken() -> None:
    facts = replace(USUAL, care="none", glass="broken twice").facts()
    assert decide(asker(), facts, NOW).allows(Permission.RECORD_READ)
    lost = {**facts.held, Permission.GLASS_BREAK: frozenset({Reach.OWN})}
    for held in (lost, {p: r for p, r in lost.items() if p != Permission.GLASS_BREAK}):
        got = decide(asker(), replace(facts, held=held), NOW)
        assert not got.permissions & CLINICAL
        assert got.because[Permission.RECORD_READ] == (Reason.NOT_ASSIGNED,)


def test_the_treating_assignment_of_somebody_who_may_not_treat_opens_nothing_sensitive() -> None:
    facts = replace(USUAL, record="sensitive").facts()
    assert decide(asker(), facts, NOW).allows(Permission.RECORD_READ)
    got = decide(asker(), replace(facts, treats=False), NOW)
    assert not got.allows(Permission.RECORD_READ)
    assert got.allows(Permission.RECORD_LIST)


@pytest.mark.parametrize("on_site", [True, False])
@pytest.mark.parametrize("age", [timedelta(), 10 * timedelta(minutes=1) - TICK, HOUR, None])
def test_when_a_proof_of_identity_is_asked_for(on_site: bool, age: timedelta | None) -> None:
    fresh = age is not None and age < timedelta(minutes=10)
    who = asker(on_site=on_site, confirmed_at=None if age is None else NOW - age)
    got = decide(who, replace(USUAL, record="sensitive").facts(), NOW)
    first = Obligation.CONFIRM_FIRST
    assert got.demands(Permission.GLASS_BREAK, first) is not fresh
    assert got.demands(Permission.RECORD_READ, first) is not (fresh or on_site)
    assert not got.demands(Permission.RECORD_LIST, first)


@pytest.mark.parametrize("reach", list(Reach))
def test_each_permission_is_given_by_its_own_grant_alone(reach: Reach) -> None:
    for permission in Permission:
        facts = replace(
            replace(USUAL, relation="self" if reach is Reach.OWN else "stranger").facts(),
            held={permission: frozenset({reach})},
        )
        got = decide(asker(), facts, NOW).permissions
        assert got <= {permission} | ALWAYS


def test_nobody_who_is_not_signed_in_gets_anything() -> None:
    for case in itertools.islice(cases(), 0, None, 997):
        decision = decide(None, case.facts(), NOW)
        assert not decision.permissions
        for permission in TABLE:
            assert decision.because[permission] == (Reason.NOT_SIGNED_IN,)


def test_without_a_patient_nothing_about_patients_is_given() -> None:
    held = dict.fromkeys(Permission, frozenset(Reach))
    decision = decide(asker(), AccessFacts(held), NOW)
    assert not decision.permissions & ABOUT_A_PATIENT
    assert decision.permissions == set(Permission) - ABOUT_A_PATIENT
    assert all(decision.because[p] == (Reason.NO_SUCH_THING,) for p in ABOUT_A_PATIENT)


def test_every_permission_stands_in_the_table() -> None:
    assert set(TABLE) == set(Permission)
    assert all(TABLE.values())
    about = {p for p in Permission if p.startswith("patient:")} | {Permission.DELIVERY_FOLLOW}
    assert about == ABOUT_A_PATIENT


def test_facts_and_decisions_are_frozen() -> None:
    decision = decide(asker(), AccessFacts({}), NOW)
    with pytest.raises(FrozenInstanceError):
        decision.permissions = frozenset(Permission)  # type: ignore[misc]


# -- properties ------------------------------------------------------------------------------------

MOMENTS = st.datetimes(
    datetime(2000, 1, 1),
    datetime(2050, 1, 1),
    timezones=st.just(UTC),  # noqa: DTZ001
)
ENDS = st.none() | MOMENTS
CATEGORIES = st.sampled_from([*Category, "", "a category of tomorrow"]).map(str)
ASSIGNMENTS = st.lists(
    st.builds(
        AssignmentFacts,
        st.booleans(),
        MOMENTS,
        ENDS,
        st.just("as"),
        st.booleans(),
        st.sampled_from(["", "Cardiology"]),
    ),
    max_size=3,
).map(tuple)
WHOMS = st.sampled_from(
    [
        (Whom.PERSON, ME),
        (Whom.PERSON, SOMEBODY),
        (Whom.DEPARTMENT, "Cardiology"),
        (Whom.ROLE, "doctor"),
        (Whom.ROLE, "volunteer"),
        (Whom.INSTITUTION, "hospital"),
        (Whom.INSTITUTION, "laboratory"),
    ]
)
WHATS = (
    st.just((What.EVERYTHING, ""))
    | CATEGORIES.map(lambda c: (What.CATEGORY, c))
    | st.sampled_from([(What.RECORD, RECORD), (What.RECORD, "e" * 32)])
)


def _rules(moments: st.SearchStrategy[datetime]) -> st.SearchStrategy[Rule]:
    return st.builds(
        lambda id, effect, whom, what, since, until: Rule(id, effect, *whom, *what, since, until),
        st.uuids().map(lambda u: u.hex),
        st.sampled_from(Effect),
        WHOMS,
        WHATS,
        moments,
        st.none() | moments,
    )


RULE = _rules(MOMENTS)
#: In force at NOW, so that most of them matter.
CURRENT = RULE.map(lambda r: replace(r, since=NOW - HOUR, until=None))
GLASS = st.builds(GlassFacts, st.just("g"), MOMENTS, MOMENTS, st.booleans())
TERMS = st.lists(st.builds(Term, MOMENTS, ENDS), max_size=2).map(tuple)
PATIENTS = st.builds(
    PatientFacts,
    st.just(PATIENT),
    st.booleans(),
    st.booleans(),
    ASSIGNMENTS,
    TERMS,
    st.lists(RULE | CURRENT, max_size=5).map(tuple),
    st.lists(GLASS, max_size=2).map(tuple),
)
RECORD_FACTS = st.none() | st.builds(
    RecordFacts,
    st.just(RECORD),
    st.booleans(),
    st.sampled_from([ME, SOMEBODY, None]),
    CATEGORIES,
)
ROLES = frozenset({"doctor", "volunteer"})
HELD = st.dictionaries(st.sampled_from(Permission), st.frozensets(st.sampled_from(Reach)))
FACTS = st.builds(
    AccessFacts,
    HELD,
    st.none() | PATIENTS,
    RECORD_FACTS,
    st.frozensets(st.just("Cardiology")),
    st.just(timedelta(minutes=10)),
    st.dictionaries(st.sampled_from(Permission), st.frozensets(st.sampled_from(sorted(ROLES)))),
    st.booleans(),
)
#: Somebody who holds everything over assigned patients, so that relations decide.
KEEN = st.builds(
    replace,
    FACTS,
    held=st.just(dict.fromkeys(Permission, frozenset({Reach.ASSIGNED}))),
    patient=PATIENTS,
)
WHO = asker(roles=ROLES)


def permissions(facts: AccessFacts, now: datetime = NOW) -> frozenset[Permission]:
    return decide(WHO, facts, now).permissions


def with_patient(facts: AccessFacts, **more: object) -> AccessFacts:
    assert facts.patient is not None
    return replace(facts, patient=replace(facts.patient, **more))


@given(FACTS | KEEN, MOMENTS)
def test_an_end_ends_access_at_once(facts: AccessFacts, now: datetime) -> None:
    """At the end of all that was in force, one has what one would have without any of it."""
    if facts.patient is None:
        return
    patient = facts.patient

    def ended(things: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(replace(t, until=min(t.until or now, now)) for t in things)

    over = with_patient(
        facts,
        assignments=ended(patient.assignments),
        represents=ended(patient.represents),
        rules=ended(patient.rules),
        glass=ended(patient.glass),
    )
    never = with_patient(facts, assignments=(), represents=(), rules=(), glass=())
    assert permissions(over, now) == permissions(never, now)


@given(MOMENTS, st.timedeltas(TICK, timedelta(days=400)))
def test_everything_is_in_force_from_its_begin_up_to_its_end(
    since: datetime, length: timedelta
) -> None:
    end = since + length
    for one in (
        AssignmentFacts(True, since, end),
        Term(since, end),
        rule(ALLOW, since=since, until=end),
        GlassFacts("g", since, end),
    ):
        assert not one.in_force(since - TICK)
        assert one.in_force(since)
        assert one.in_force(end - TICK)
        assert not one.in_force(end)
    for open_one in (AssignmentFacts(True, since, None), Term(since), rule(ALLOW, since=since)):
        assert open_one.in_force(since + timedelta(days=10_000))


@given(FACTS | KEEN, CURRENT)
def test_one_more_rule_that_blocks_never_gives(facts: AccessFacts, more: Rule) -> None:
    if facts.patient is None:
        return
    blocked = with_patient(facts, rules=(*facts.patient.rules, replace(more, effect=BLOCK)))
    assert permissions(blocked) <= permissions(facts)


@given(FACTS | KEEN, CURRENT)
def test_one_more_rule_that_allows_never_takes(facts: AccessFacts, more: Rule) -> None:
    if facts.patient is None:
        return
    allowed = with_patient(facts, rules=(*facts.patient.rules, replace(more, effect=ALLOW)))
    assert permissions(allowed) >= permissions(facts)


@given(FACTS | KEEN, st.randoms(use_true_random=False))
def test_the_order_of_the_facts_does_not_matter(facts: AccessFacts, dice: Random) -> None:
    if facts.patient is None:
        return
    mixed = list(facts.patient.rules)
    dice.shuffle(mixed)
    shuffled = with_patient(facts, rules=tuple(mixed), assignments=facts.patient.assignments[::-1])
    assert permissions(shuffled) == permissions(facts)


@given(KEEN)
def test_no_rule_lifts_above_what_the_treating_doctors_assignment_gives(
    facts: AccessFacts,
) -> None:
    """A patient's rule is no way past the ceiling of the role."""
    assert facts.patient is not None
    only_rules = with_patient(facts, assignments=(), glass=())
    treating = (AssignmentFacts(True, NOW - HOUR, None, opens_sensitive=True),)
    in_care = with_patient(facts, assignments=treating, glass=(), rules=())
    assert permissions(only_rules) <= permissions(in_care)


@given(KEEN)
def test_rules_give_reading_alone(facts: AccessFacts) -> None:
    assert facts.patient is not None
    changing = {
        Permission.RECORD_CREATE,
        Permission.SUPPORT_KEEP,
        Permission.DEMOGRAPHICS_KEEP,
        Permission.CARE_MANAGE,
        Permission.RULES_MANAGE,
    }
    only_rules = with_patient(facts, assignments=(), glass=())
    assert not permissions(only_rules) & changing


@given(FACTS | KEEN, MOMENTS)
def test_holding_less_never_gives_more(facts: AccessFacts, now: datetime) -> None:
    whole = permissions(facts, now)
    for permission, reaches in facts.held.items():
        for reach in reaches:
            less = replace(facts, held={**facts.held, permission: reaches - {reach}})
            assert permissions(less, now) <= whole


@given(FACTS, MOMENTS)
def test_nothing_is_given_that_no_role_holds(facts: AccessFacts, now: datetime) -> None:
    for permission in permissions(facts, now) - ALWAYS:
        assert facts.held.get(permission)


@given(FACTS | KEEN, MOMENTS)
def test_a_decision_depends_on_its_arguments_alone(facts: AccessFacts, now: datetime) -> None:
    once = decide(WHO, facts, now)
    assert once == decide(WHO, facts, now)
    assert decide(None, facts, now).permissions == frozenset()
    few = decide(WHO, facts, now, ASKED)
    assert few.permissions == once.permissions & set(ASKED)
    assert few.because == {p: once.because[p] for p in ASKED}
