"""The patient's rules: which one decides."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medportal.access.rules import (
    Effect,
    Rule,
    Subject,
    Thing,
    What,
    Whom,
    names,
    opening,
    opens_sensitive,
    winning,
)

NOW = datetime(2024, 5, 6, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
ME, RECORD = "a" * 32, "d" * 32
SUBJECT = Subject(
    ME,
    "hospital",
    frozenset({"doctor", "volunteer"}),
    frozenset({"Cardiology"}),
    frozenset({"doctor"}),
)
THING = Thing(RECORD, "genetics")
ALLOW, BLOCK = Effect.ALLOW, Effect.BLOCK
#: From the most specific to the least, as the access model orders them.
WHOM_ORDER = [Whom.PERSON, Whom.DEPARTMENT, Whom.ROLE, Whom.INSTITUTION]
WHAT_ORDER = [What.RECORD, What.CATEGORY, What.EVERYTHING]
MINE = {
    Whom.PERSON: ME,
    Whom.DEPARTMENT: "Cardiology",
    Whom.ROLE: "doctor",
    Whom.INSTITUTION: "hospital",
}
ABOUT = {What.RECORD: RECORD, What.CATEGORY: "genetics", What.EVERYTHING: ""}


def rule(effect, whom=Whom.PERSON, what=What.EVERYTHING, *, id="r", **changes):
    values = {
        "whom_id": MINE[whom],
        "what_id": ABOUT[what],
        "since": NOW - HOUR,
        "until": None,
        **changes,
    }
    return Rule(id=id, effect=effect, whom=whom, what=what, **values)


PAIRS = list(itertools.product(WHOM_ORDER, WHAT_ORDER))


@pytest.mark.parametrize(("whom", "what"), PAIRS)
@pytest.mark.parametrize(("other_whom", "other_what"), PAIRS)
def test_the_more_specific_rule_wins_and_a_block_wins_a_tie(whom, what, other_whom, other_what):
    """Whom counts first, then what; the order in which rules were made does not."""
    place = (WHOM_ORDER.index(whom), WHAT_ORDER.index(what))
    other_place = (WHOM_ORDER.index(other_whom), WHAT_ORDER.index(other_what))
    for ids in (("1", "2"), ("2", "1")):
        allow = rule(ALLOW, whom, what, id=ids[0])
        block = rule(BLOCK, other_whom, other_what, id=ids[1])
        wanted = allow if place < other_place else block
        assert winning([allow, block], SUBJECT, THING, NOW) is wanted
        assert winning([block, allow], SUBJECT, THING, NOW) is wanted


@pytest.mark.parametrize("whom", list(Whom))
@pytest.mark.parametrize("effect", list(Effect))
def test_a_rule_about_somebody_else_says_nothing(whom, effect):
    for other in ("b" * 32, "Maternity", "nurse", "laboratory", ""):
        foreign = rule(effect, whom, whom_id=other)
        assert not names(foreign, SUBJECT)
        assert winning([foreign], SUBJECT, THING, NOW) is None
        assert opening([foreign], SUBJECT, NOW) is None


@pytest.mark.parametrize("what", [What.RECORD, What.CATEGORY])
@pytest.mark.parametrize("effect", list(Effect))
def test_a_rule_about_something_else_says_nothing(what, effect):
    other = rule(effect, what=what, what_id="something else")
    assert winning([other], SUBJECT, THING, NOW) is None
    # And none about a part says anything about the whole.
    assert winning([rule(effect, what=what)], SUBJECT, None, NOW) is None


def test_a_role_is_blocked_whatever_it_may_and_allowed_only_where_it_counts():
    assert names(rule(BLOCK, Whom.ROLE, whom_id="volunteer"), SUBJECT)
    assert not names(rule(ALLOW, Whom.ROLE, whom_id="volunteer"), SUBJECT)
    assert names(rule(ALLOW, Whom.ROLE, whom_id="doctor"), SUBJECT)


@pytest.mark.parametrize(
    ("since", "until", "counts"),
    [
        (NOW - HOUR, None, True),
        (NOW, None, True),
        (NOW, NOW, False),
        (NOW - HOUR, NOW, False),
        (NOW - HOUR, NOW + HOUR, True),
        (NOW + HOUR, None, False),
    ],
)
def test_a_rule_counts_from_its_beginning_until_its_end(since, until, counts):
    found = winning([rule(BLOCK, since=since, until=until)], SUBJECT, THING, NOW)
    assert (found is not None) is counts
    assert (opening([rule(ALLOW, since=since, until=until)], SUBJECT, NOW) is not None) is counts


def test_whoever_may_see_a_part_finds_the_way_to_it():
    shut, part = rule(BLOCK, id="1"), rule(ALLOW, what=What.RECORD, id="2")
    assert opening([shut, part], SUBJECT, NOW) is part
    assert winning([shut, part], SUBJECT, None, NOW) is shut
    category = rule(ALLOW, what=What.CATEGORY, id="3")
    assert opening([shut, category], SUBJECT, NOW) is category


def test_a_part_that_is_blocked_more_specifically_is_no_way_in():
    part = rule(ALLOW, Whom.ROLE, What.RECORD, id="1")
    assert opening([part, rule(BLOCK, id="2")], SUBJECT, NOW) is None
    same = rule(BLOCK, Whom.DEPARTMENT, What.RECORD, id="2")
    assert opening([part, same], SUBJECT, NOW) is None
    assert opening([part, rule(BLOCK, Whom.INSTITUTION, id="2")], SUBJECT, NOW) is part
    assert opening([], SUBJECT, NOW) is None


@pytest.mark.parametrize(
    ("rules", "opened"),
    [
        ([], False),
        ([rule(ALLOW)], False),
        ([rule(ALLOW, what=What.CATEGORY)], True),
        ([rule(ALLOW, Whom.INSTITUTION, What.RECORD)], True),
        # Somebody allowed everything loses nothing that their role was allowed.
        ([rule(ALLOW), rule(ALLOW, Whom.ROLE, What.CATEGORY, id="2")], True),
        ([rule(ALLOW), rule(BLOCK, Whom.ROLE, What.CATEGORY, id="2")], False),
        ([rule(BLOCK), rule(ALLOW, Whom.ROLE, What.CATEGORY, id="2")], False),
        ([rule(BLOCK), rule(ALLOW, what=What.CATEGORY, id="2")], True),
        ([rule(ALLOW, what=What.CATEGORY), rule(BLOCK, what=What.RECORD, id="2")], False),
    ],
)
def test_what_opens_a_sensitive_category(rules, opened):
    assert opens_sensitive(rules, SUBJECT, THING, NOW) is opened


RULES = st.lists(
    st.builds(
        lambda id, effect, whom, what: rule(effect, whom, what, id=id),
        st.uuids().map(lambda u: u.hex),
        st.sampled_from(Effect),
        st.sampled_from(Whom),
        st.sampled_from(What),
    ),
    max_size=6,
)


def _narrowed(rules):
    """Return what is left when one keeps to the most specific, step by step."""
    for key, order in (("whom", WHOM_ORDER), ("what", WHAT_ORDER)):
        best = min((order.index(getattr(r, key)) for r in rules), default=None)
        rules = [r for r in rules if order.index(getattr(r, key)) == best]
    return rules


@given(RULES)
def test_precedence_by_narrowing_down_comes_to_the_same(rules):
    found = winning(rules, SUBJECT, THING, NOW)
    left = _narrowed(rules)
    if not left:
        assert found is None
        return
    assert found in left
    blocked = any(r.effect is BLOCK for r in left)
    assert (found.effect is BLOCK) is blocked


@given(RULES)
def test_a_way_in_leads_somewhere(rules):
    """Whoever finds a way in is allowed the part to which it leads, or everything."""
    found = opening(rules, SUBJECT, NOW)
    allowed = [r for r in rules if r.effect is ALLOW]
    if found is None:
        whole = winning(rules, SUBJECT, None, NOW)
        assert whole is None or whole.effect is BLOCK
    else:
        assert found in allowed
