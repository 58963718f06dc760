"""The plan of a run: repeated by its seed, and with every kind of fault in it."""

import pytest

from faults import plan
from faults.cast import HOSPITAL, LABORATORY, Cast, Player, Role, Way, laboratories, ways
from faults.wire import Moment

DISKS = [(LABORATORY, "state"), (HOSPITAL, "database")]
KINDS = {
    *(plan.Kill, plan.Strike, plan.Freeze, plan.CutCable, plan.Lose),
    *(plan.Slow, plan.Fill, plan.PowerCut, plan.Restart),
}


def player(role: Role, house: str, number: str = "") -> Player:
    return Player(f"{role}{number}-{house}", role, house)


def cast(count: int = 1, *, both: bool = False, senders: int = 1, clocks: bool = False) -> Cast:
    """Return so many laboratories, each with so many senders, and the hospital."""
    there = ways(count, both=both)
    labs = laboratories(count)
    players = [
        player(Role.DATABASE, HOSPITAL),
        *(player(Role.SENDER, lab) for lab in labs),
        *(player(Role.SENDER, lab, str(n)) for lab in labs for n in range(2, senders + 1)),
        *(player(Role.RECEIVER, lab) for lab in labs if both),
        *(player(Role.JOBS, lab) for lab in labs),
        *(player(Role.SENDER, HOSPITAL) for _ in range(both)),
        *(player(role, HOSPITAL) for role in (Role.RECEIVER, Role.JOBS)),
    ]
    houses = [*labs, HOSPITAL]
    return Cast(houses, there, players, DISKS, houses if clocks else ())


CASTS = {
    "one": cast(),
    "three senders": cast(senders=3),
    "three laboratories": cast(3),
    "both ways": cast(both=True),
    "two laboratories, both ways": cast(2, both=True),
    "clocks": cast(clocks=True),
}


def killed(steps: list[plan.Step]) -> set[str]:
    return {step.victim for step in steps if isinstance(step, plan.Kill)}


def struck(steps: list[plan.Step]) -> set[str]:
    return {step.victim for step in steps if isinstance(step, plan.Strike)}


def test_whoever_takes_part_sends_receives_or_does_both():
    assert [str(way) for way in ways(2, both=True)] == [
        *("laboratory to hospital", "laboratory-2 to hospital"),
        *("hospital to laboratory", "hospital to laboratory-2"),
    ]
    assert ways(1, both=False) == [Way(LABORATORY, HOSPITAL)]


@pytest.mark.parametrize("rounds", [0, 1, 3])
@pytest.mark.parametrize("who", CASTS)
def test_a_seed_gives_the_same_plan_again_and_another_one_another(who, rounds):
    made = [plan.make(seed, rounds, CASTS[who]) for seed in (5, 5, 6)]
    assert made[0] == made[1] != made[2]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("who", CASTS)
def test_every_round_has_every_kind_of_fault_and_hits_everybody(who, seed):
    everybody = CASTS[who]
    steps = plan.make(seed, 1, everybody)
    assert {type(step) for step in steps} == KINDS | (
        {plan.WrongClock} if everybody.clocks else set()
    )
    wrong = [step.house for step in steps if isinstance(step, plan.WrongClock)]
    assert sorted(wrong) == sorted(everybody.clocks)
    assert killed(steps) == {each.name for each in everybody.players}
    exchanging = everybody.of(Role.SENDER, Role.RECEIVER, Role.DATABASE)
    assert struck(steps) == {"", *(each.name for each in exchanging)}
    assert {(s.house, s.disk) for s in steps if isinstance(s, plan.Fill)} == set(DISKS)
    assert len(plan.make(seed, 3, everybody)) == 3 * len(steps)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("who", CASTS)
def test_a_brief_plan_kills_inside_an_exchange_too(who, seed):
    everybody = CASTS[who]
    steps = plan.make(seed, 0, everybody)
    exchanging = {each.name for each in everybody.of(Role.SENDER, Role.RECEIVER)}
    assert struck(steps) == exchanging | {""}
    assert killed(steps) == exchanging | {"jobs-hospital", "database-hospital"}
    assert {plan.CutCable, plan.Lose, plan.Fill, plan.PowerCut} < {type(step) for step in steps}


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("who", CASTS)
def test_a_strike_always_does_something(who, seed):
    """It waits where its victim has a part, and a frame passed on whole to two who live is none."""
    everybody = CASTS[who]
    houses = {each.name: each for each in everybody.players}
    for step in plan.make(seed, 5, everybody):
        if isinstance(step, plan.Strike):
            assert step.victim or step.moment is not Moment.AFTER
            assert step.way in everybody.ways_of(houses.get(step.victim))


def test_clocks_are_ahead_by_less_than_healing_may_take():
    """What is due an hour ahead is late by an hour when the clock is right again."""
    found = [
        step.ahead
        for seed in range(50)
        for step in plan.make(seed, 1, CASTS["clocks"])
        if isinstance(step, plan.WrongClock)
    ]
    assert 60 <= max(found) <= 240 and min(found) < -3_600
    assert any(-240 <= ahead <= -60 for ahead in found)


def test_a_strike_waits_on_the_way_of_its_victim():
    """A frame of another laboratory's would find a victim that has no part in it."""
    both = CASTS["two laboratories, both ways"]
    there, back = Way("laboratory-2", HOSPITAL), Way(HOSPITAL, "laboratory-2")
    assert both.ways_of(player(Role.SENDER, "laboratory-2")) == [there]
    assert both.ways_of(player(Role.RECEIVER, "laboratory-2")) == [back]
    assert set(both.ways_of(player(Role.DATABASE, "laboratory-2"))) == {there, back}
    assert set(both.ways_of(player(Role.DATABASE, HOSPITAL))) == set(both.ways)
    assert both.ways_of(None) == both.ways
    everywhere = {
        step.way
        for seed in range(20)
        for step in plan.make(seed, 1, both)
        if isinstance(step, plan.Strike) and not step.victim
    }
    assert everywhere == set(both.ways)
