"""The decision, over every combination of what it looks at."""

import itertools
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime, timedelta
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medportal.access.decisions import (
    ABOUT_A_PATIENT,
    TABLE,
    AccessFacts,
    AssignmentFacts,
    Decision,
    PatientFacts,
    RecordFacts,
    decide,
)
from medportal.core.categories import Category, is_sensitive
from medportal.core.identity import Identity
from medportal.core.permissions import Permission, Reach
from medportal.core.reasons import Reason

NOW = datetime(2024, 5, 6, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
TICK = timedelta(microseconds=1)
ME, SOMEBODY = "a" * 32, "b" * 32
PATIENT, RECORD = "c" * 32, "d" * 32
CLINICAL = frozenset({Permission.RECORD_LIST, Permission.RECORD_READ, Permission.RECORD_CREATE})
REACHES = [frozenset(chosen) for n in range(4) for chosen in itertools.combinations(list(Reach), n)]
NONE: tuple[AssignmentFacts, ...] = ()


def asker(person_id: str = ME) -> Identity:
    return Identity(person_id, "hospital", frozenset({"doctor"}), "s", NOW)


def assignment(when: str, treating: bool) -> tuple[AssignmentFacts, ...]:
    """Return assignments that are "none", "past", "now", "open" or "future"."""
    times = {
        "none": (),
        "past": ((NOW - 2 * HOUR, NOW - HOUR),),
        "just over": ((NOW - HOUR, NOW),),
        "now": ((NOW - HOUR, NOW + HOUR),),
        "open": ((NOW - HOUR, None),),
        "begins": ((NOW, None),),
        "future": ((NOW + HOUR, NOW + 2 * HOUR),),
        "past and future": ((NOW - 2 * HOUR, NOW - HOUR), (NOW + HOUR, None)),
    }[when]
    return tuple(AssignmentFacts(treating, since, until) for since, until in times)


WHENS = ("none", "past", "just over", "now", "open", "begins", "future", "past and future")
IN_FORCE = frozenset({"now", "open", "begins"})


class Case:
    """One combination, in the words of the access model."""

    def __init__(self, *parts: object) -> None:
        (
            self.reaches,
            self.is_self,
            self.when,
            self.treating,
            self.category,
            self.patient_exists,
            self.record_exists,
            self.is_author,
        ) = parts
        self.in_care = self.when in IN_FORCE

    def __repr__(self) -> str:
        return repr(vars(self))

    @property
    def exists(self) -> bool:
        return bool(self.patient_exists and self.record_exists is not False)

    @property
    def is_ordinary(self) -> bool:
        return self.category is None or not is_sensitive(str(self.category))

    def facts(self) -> AccessFacts:
        record = None
        if self.record_exists is not None:
            author = ME if self.is_author else SOMEBODY
            record = RecordFacts(RECORD, bool(self.record_exists), author, str(self.category))
        return AccessFacts(
            held=dict.fromkeys(Permission, self.reaches),
            patient=PatientFacts(
                PATIENT,
                bool(self.patient_exists),
                bool(self.is_self),
                assignment(str(self.when), bool(self.treating)),
            ),
            record=record,
        )


def records() -> Iterator[tuple[object, object, object]]:
    """Give (category, exists, by the asker) of every record, and of none."""
    yield (None, None, False)
    for category in (*Category, "", "a category of tomorrow"):
        for exists in (True, False):
            for is_author in (True, False):
                yield (category, exists, is_author)


@cache
def answered() -> list[tuple[Case, Decision]]:
    """Return every combination with its decision."""
    cases = [
        Case(reaches, is_self, when, treating, category, patient_exists, record_exists, is_author)
        for reaches, is_self, when, treating, patient_exists, (
            category,
            record_exists,
            is_author,
        ) in itertools.product(
            REACHES, (True, False), WHENS, (True, False), (True, False), list(records())
        )
    ]
    return [(case, decide(asker(), case.facts(), NOW)) for case in cases]


def test_the_product_is_whole() -> None:
    assert len(answered()) == 8 * 2 * 8 * 2 * 2 * (1 + 9 * 4)


def test_no_assignment_no_ownership_and_no_reach_over_all_is_no_clinical_read() -> None:
    for case, decision in answered():
        if case.in_care or case.is_self or case.is_author or Reach.ANY in case.reaches:
            continue
        assert not decision.permissions & CLINICAL, case


def test_an_author_reads_what_they_wrote_and_nothing_follows_from_it() -> None:
    for case, decision in answered():
        if case.in_care or case.is_self or Reach.ANY in case.reaches or not case.is_author:
            continue
        staff = Reach.ASSIGNED in case.reaches
        assert decision.allows(Permission.RECORD_READ) == (staff and case.exists), case
        assert not decision.allows(Permission.RECORD_LIST), case
        assert not decision.allows(Permission.RECORD_CREATE), case


def test_whoever_holds_nothing_gets_nothing() -> None:
    for case, decision in answered():
        if not case.reaches:
            assert decision.permissions == {Permission.HOME_VIEW, Permission.ACCOUNT_CHANGE}, case


def test_what_does_not_exist_is_given_to_nobody_and_looks_hidden() -> None:
    for case, decision in answered():
        if not case.exists:
            assert not decision.permissions & ABOUT_A_PATIENT, case


def test_ones_own_record_is_seen_as_a_patient_or_not_at_all() -> None:
    for case, decision in answered():
        if not case.is_self:
            continue
        about = decision.permissions & ABOUT_A_PATIENT
        if Reach.OWN not in case.reaches or not case.exists:
            assert not about, case
            continue
        # As a patient one sees and reads everything about oneself, and changes nothing.
        assert about == {
            Permission.PATIENT_SEE,
            Permission.PATIENT_BED,
            Permission.PATIENT_DEMOGRAPHICS,
            Permission.RECORD_LIST,
            Permission.RECORD_READ,
        }, case
        assert all(decision.because[p] == (Reason.OWN_RECORD,) for p in about)


def test_a_reach_over_oneself_gives_nothing_about_others() -> None:
    for case, decision in answered():
        if case.reaches == {Reach.OWN} and not case.is_self:
            assert not decision.permissions & ABOUT_A_PATIENT, case


def test_sensitive_content_is_for_the_treating_the_author_the_patient_and_reach_over_all() -> None:
    for case, decision in answered():
        if case.is_ordinary or case.is_self or case.is_author or Reach.ANY in case.reaches:
            continue
        treated = case.in_care and case.treating
        wanted = bool(treated and case.exists and Reach.ASSIGNED in case.reaches)
        assert decision.allows(Permission.RECORD_READ) == wanted, case


def test_reading_is_exactly_what_the_access_model_says() -> None:
    """The whole answer for reading, written down a second time and by other means."""
    for case, decision in answered():
        allowed = case.exists and (
            (case.is_self and Reach.OWN in case.reaches)
            or (
                not case.is_self
                and (
                    Reach.ANY in case.reaches
                    or (
                        Reach.ASSIGNED in case.reaches
                        and (
                            case.is_author or (case.in_care and (case.is_ordinary or case.treating))
                        )
                    )
                )
            )
        )
        assert decision.allows(Permission.RECORD_READ) == bool(allowed), case


def test_every_answer_has_reasons_of_its_own_kind() -> None:
    allowing = {
        Reason.ROLE_ANY,
        Reason.ASSIGNED_CARE,
        Reason.OWN_RECORD,
        Reason.AUTHOR,
        Reason.SIGNED_IN,
    }
    for case, decision in answered():
        assert set(decision.because) == set(Permission)
        for permission, reasons in decision.because.items():
            assert reasons, (case, permission)
            assert len(set(reasons)) == len(reasons)
            given_ones = set(reasons) & allowing
            if decision.allows(permission):
                assert given_ones == set(reasons), (case, permission)
            else:
                assert not given_ones, (case, permission)


@pytest.mark.parametrize("reach", list(Reach))
def test_each_permission_is_given_by_its_own_grant_alone(reach: Reach) -> None:
    for permission in Permission:
        facts = AccessFacts(
            {permission: frozenset({reach})},
            PatientFacts(PATIENT, True, reach is Reach.OWN, assignment("now", True)),
            RecordFacts(RECORD, True, SOMEBODY, Category.LABORATORY),
        )
        got = decide(asker(), facts, NOW).permissions
        assert got <= {permission, Permission.HOME_VIEW, Permission.ACCOUNT_CHANGE}


def test_nobody_who_is_not_signed_in_gets_anything() -> None:
    for case, _ in answered()[::37]:
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
    assert CLINICAL <= ABOUT_A_PATIENT


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ({"reaches": frozenset()}, Reason.NO_ROLE),
        ({"when": "none"}, Reason.NOT_ASSIGNED),
        ({"when": "just over"}, Reason.NOT_ASSIGNED),
        ({"is_self": True}, Reason.OWN_RECORD_ONLY_AS_PATIENT),
        ({"category": Category.GENETICS, "treating": False}, Reason.SENSITIVE),
        ({"record_exists": False}, Reason.NO_SUCH_THING),
        ({"patient_exists": False}, Reason.NO_SUCH_THING),
    ],
)
def test_the_reason_of_a_denied_reading(case: dict[str, object], reason: Reason) -> None:
    usual = {
        "reaches": frozenset({Reach.ASSIGNED}),
        "is_self": False,
        "when": "now",
        "treating": True,
        "category": Category.LABORATORY,
        "patient_exists": True,
        "record_exists": True,
        "is_author": False,
    }
    allowed = decide(asker(), Case(*usual.values()).facts(), NOW)
    assert allowed.because[Permission.RECORD_READ] == (Reason.ASSIGNED_CARE,)
    denied = decide(asker(), Case(*(usual | case).values()).facts(), NOW)
    assert not denied.allows(Permission.RECORD_READ)
    assert reason in denied.because[Permission.RECORD_READ]


# -- properties ------------------------------------------------------------------------------------

MOMENTS = st.datetimes(
    datetime(2000, 1, 1),
    datetime(2050, 1, 1),
    timezones=st.just(UTC),  # noqa: DTZ001
)
ASSIGNMENTS = st.lists(
    st.builds(AssignmentFacts, st.booleans(), MOMENTS, st.none() | MOMENTS), max_size=4
).map(tuple)
PATIENTS = st.builds(PatientFacts, st.just(PATIENT), st.booleans(), st.booleans(), ASSIGNMENTS)
RECORDS = st.none() | st.builds(
    RecordFacts,
    st.just(RECORD),
    st.booleans(),
    st.sampled_from([ME, SOMEBODY, None]),
    st.sampled_from([str(c) for c in Category]) | st.text(max_size=20),
)
HELD = st.dictionaries(st.sampled_from(Permission), st.frozensets(st.sampled_from(Reach)))
FACTS = st.builds(AccessFacts, HELD, st.none() | PATIENTS, RECORDS)


@given(FACTS, MOMENTS)
def test_an_end_ends_access_at_once(facts: AccessFacts, now: datetime) -> None:
    """After the last assignment's end, staff have what they would without any."""
    if facts.patient is None:
        return
    ended = tuple(replace(a, until=min(a.until or now, now)) for a in facts.patient.assignments)
    over = replace(facts, patient=replace(facts.patient, assignments=ended))
    never = replace(facts, patient=replace(facts.patient, assignments=NONE))
    assert decide(asker(), over, now).permissions == decide(asker(), never, now).permissions


@given(MOMENTS, st.timedeltas(TICK, timedelta(days=400)), st.booleans())
def test_an_assignment_is_in_force_from_its_begin_up_to_its_end(
    since: datetime, length: timedelta, treating: bool
) -> None:
    one = AssignmentFacts(treating, since, since + length)
    assert not one.in_force(since - TICK)
    assert one.in_force(since)
    assert one.in_force(since + length - TICK)
    assert not one.in_force(since + length)
    assert replace(one, until=None).in_force(since + timedelta(days=10_000))


@given(FACTS, MOMENTS)
def test_holding_less_never_gives_more(facts: AccessFacts, now: datetime) -> None:
    whole = decide(asker(), facts, now).permissions
    for permission, reaches in facts.held.items():
        for reach in reaches:
            less = replace(facts, held={**facts.held, permission: reaches - {reach}})
            assert decide(asker(), less, now).permissions <= whole


@given(FACTS, MOMENTS)
def test_nothing_is_given_that_no_role_holds(facts: AccessFacts, now: datetime) -> None:
    given_ones = decide(asker(), facts, now).permissions
    for permission in given_ones - {Permission.HOME_VIEW, Permission.ACCOUNT_CHANGE}:
        assert facts.held.get(permission)


@given(FACTS, MOMENTS)
def test_a_decision_depends_on_its_arguments_alone(facts: AccessFacts, now: datetime) -> None:
    assert decide(asker(), facts, now) == decide(asker(), facts, now)
    assert decide(None, facts, now).permissions == frozenset()


def test_facts_and_decisions_are_frozen() -> None:
    decision = decide(asker(), AccessFacts({}), NOW)
    with pytest.raises(FrozenInstanceError):
        decision.permissions = frozenset(Permission)  # type: ignore[misc]
