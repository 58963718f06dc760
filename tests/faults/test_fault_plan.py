"""The plan of a run: repeated by its seed, and with every kind of fault in it."""

import pytest

from faults import plan
from faults.wire import Moment

VICTIMS = ["database-hospital", "sender", "receiver", "jobs-hospital", "jobs-laboratory"]
DISKS = [("laboratory", "state"), ("hospital", "database")]
KINDS = {
    *(plan.Kill, plan.Strike, plan.Freeze, plan.CutCable, plan.Lose),
    *(plan.Slow, plan.Fill, plan.PowerCut, plan.Restart),
}


@pytest.mark.parametrize("rounds", [0, 1, 3])
def test_a_seed_gives_the_same_plan_again_and_another_one_another(rounds):
    made = [plan.make(seed, rounds, VICTIMS, DISKS) for seed in (5, 5, 6)]
    assert made[0] == made[1] != made[2]


@pytest.mark.parametrize("seed", range(20))
def test_every_round_has_every_kind_of_fault_and_hits_everybody(seed):
    steps = plan.make(seed, 1, VICTIMS, DISKS)
    assert {type(step) for step in steps} == KINDS
    assert {step.victim for step in steps if isinstance(step, plan.Kill)} == set(VICTIMS)
    struck = {step.victim for step in steps if isinstance(step, plan.Strike)}
    assert struck == {"sender", "receiver", "database-hospital", ""}
    assert {(s.house, s.disk) for s in steps if isinstance(s, plan.Fill)} == set(DISKS)
    assert len(plan.make(seed, 3, VICTIMS, DISKS)) == 3 * len(steps)


@pytest.mark.parametrize("seed", range(20))
def test_of_several_senders_each_is_killed_and_struck(seed):
    senders = ["sender", "sender-2", "sender-3"]
    steps = plan.make(seed, 1, [*senders, *VICTIMS[2:]], DISKS)
    for kind in (plan.Kill, plan.Strike):
        assert set(senders) < {step.victim for step in steps if isinstance(step, kind)}


@pytest.mark.parametrize("seed", range(20))
def test_a_brief_plan_kills_inside_an_exchange_too(seed):
    steps = plan.make(seed, 0, VICTIMS, DISKS)
    struck = {step.victim for step in steps if isinstance(step, plan.Strike)}
    assert struck == {"sender", "receiver", ""}
    killed = {step.victim for step in steps if isinstance(step, plan.Kill)}
    assert killed == {"sender", "receiver", "jobs-hospital", "database-hospital"}
    assert {plan.CutCable, plan.Lose, plan.Fill, plan.PowerCut} < {type(step) for step in steps}


@pytest.mark.parametrize("seed", range(20))
def test_a_strike_always_does_something(seed):
    """A frame that is passed on whole to two who live is no fault."""
    for step in plan.make(seed, 5, VICTIMS, DISKS):
        if isinstance(step, plan.Strike):
            assert step.victim or step.moment is not Moment.AFTER
