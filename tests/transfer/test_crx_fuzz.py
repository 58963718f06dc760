"""The state machines and the decoder, fuzzed: the same inputs in every run, a bounded number.

``python -m bench.fuzz --seconds N`` runs the same for longer with other seeds, and says how many
inputs it tried.
"""

import random

import pytest
from crx_fuzzing import Adversary, corpus, decode_one, mutated
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from medportal.transfer.errors import Code
from medportal.transfer.messages import CLASSES

BOUNDED = settings(
    max_examples=60,
    stateful_step_count=40,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def test_the_machines_hold_under_an_adversary_on_the_wire():
    steps: list[int] = []

    class Counted(Adversary):
        count = staticmethod(steps.append)

    run_state_machine_as_test(Counted, settings=BOUNDED)
    assert len(steps) >= BOUNDED.max_examples and sum(steps) > 1_000


@pytest.mark.parametrize("seed", range(4))
def test_the_decoder_names_whatever_is_no_message(seed: int):
    chosen, found = random.Random(seed), set()
    bodies = corpus()
    for _ in range(5_000):
        data = mutated(chosen.choice(bodies), chosen.choice(bodies), chosen.randrange)
        found.add(decode_one(data))
    assert found <= {*CLASSES, *Code}
    assert {Code.MALFORMED, Code.UNKNOWN_MESSAGE} <= found
