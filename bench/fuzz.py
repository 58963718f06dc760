"""Fuzzing of CRX/1 for as long as one likes: ``python -m bench.fuzz --seconds 600 [--seed 7]``.

Half of the time goes to the state machines of both sides, driven against each other by hypothesis
with an adversary on the wire, half to the decoder of messages, with mutations of messages of every
type. ``--atheris`` gives the decoder's half to atheris instead, guided by coverage, in a process
of its own; atheris is no dependency of the project: ``pip install atheris`` where it is wanted.

One JSON line says how many inputs were tried, and by how much the memory of the process grew. The
first input that breaks an invariant, or raises anything but a named error, ends it with a
traceback; hypothesis shows the shortest way there, and ``--seed`` brings it back.
"""

import argparse
import importlib.util
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "transfer"))

from crx_fuzzing import Adversary, corpus, decode_one, mutated  # noqa: E402
from hypothesis import HealthCheck, seed, settings  # noqa: E402
from hypothesis.stateful import run_state_machine_as_test  # noqa: E402

EXAMPLES, STEPS, BATCH = 5, 60, 2_000
LONGEST = 1 << 16


def machines(seconds: float, first: int) -> dict[str, Any]:
    """Drive the machines with a new seed for every round until the time is over."""
    steps: list[int] = []

    class Counted(Adversary):
        count = staticmethod(steps.append)

    plan = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    end, rounds = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        run_state_machine_as_test(seed(first + rounds)(Counted), settings=plan)
        rounds += 1
    return {"seeds": [first, first + rounds - 1], "runs": len(steps), "events": sum(steps)}


def decoder(seconds: float, first: int) -> dict[str, Any]:
    """Mutate messages of every type until the time is over; keep some of what was decoded."""
    chosen, bodies = random.Random(first), corpus()
    end, inputs, found = time.monotonic() + seconds, 0, dict[str, int]()
    while time.monotonic() < end:
        for _ in range(BATCH):
            data = mutated(chosen.choice(bodies), chosen.choice(bodies), chosen.randrange)[:LONGEST]
            kind = decode_one(data)
            found[kind] = found.get(kind, 0) + 1
            if kind.isupper() and chosen.random() < 0.01:
                bodies[chosen.randrange(len(bodies))] = data
        inputs += BATCH
        if inputs % (20 * BATCH) == 0:
            bodies = corpus()
    return {"inputs": inputs, "decoded": sum(n for k, n in found.items() if k.isupper())}


def guided(seconds: float, first: int) -> dict[str, Any]:
    """Let atheris search with coverage, in a process of its own; it starts from the corpus."""
    if importlib.util.find_spec("atheris") is None:
        return {"not_run": "atheris is not installed"}
    with tempfile.TemporaryDirectory() as directory:
        for number, body in enumerate(corpus()):
            Path(directory, str(number)).write_bytes(body)
        done = subprocess.run(
            [
                *(sys.executable, "-m", "bench.fuzz_atheris", directory),
                *(f"-max_total_time={round(seconds)}", f"-seed={first + 1}"),
                *(f"-max_len={LONGEST}", "-print_final_stats=1", f"-artifact_prefix={directory}/"),
            ],
            cwd=Path(__file__).parents[1],
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    if done.returncode:
        raise SystemExit(done.stderr)
    stats = dict(
        line.removeprefix("stat::").split(":", 1)
        for line in done.stderr.splitlines()
        if line.startswith("stat::")
    )
    return {
        "inputs": int(stats["number_of_executed_units"]),
        "kept": int(stats["new_units_added"]),
        "peak_megabytes": int(stats["peak_rss_mb"]),
    }


def megabytes() -> float:
    """Return the most memory that this process has held."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--atheris", action="store_true")
    given = parser.parse_args(arguments)
    half = given.seconds / 2
    warm = decoder(0.5, given.seed) and machines(0.5, given.seed)
    before = megabytes()
    result = {
        "bench": "fuzz",
        "seconds": given.seconds,
        "machines": machines(half, given.seed + warm["runs"]),
        "decoder": (guided if given.atheris else decoder)(half, given.seed),
        "megabytes": [before, megabytes()],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
