"""Ports for servers of tests that are told a number before they listen.

A port that was free when somebody looked can be taken before it is bound: by another test that asks
for any port, or by the near end of anybody's connection. The kernel takes both from its range of
ephemeral ports (from 32768 up, ip(7)). So these lie below that range, each worker of a run has a
stretch of its own, and none is given twice by a process.
"""

import os
import random
import socket
from collections.abc import Iterator

FIRST, END = 20_000, 32_768
#: Workers that may take the place of one that crashed, in stretches of their own.
SPARE = 5


def stretch(worker: str, workers: int) -> range:
    """Return the ports of a worker (``gw0`` and so on) of so many."""
    width = (END - FIRST) // (workers + SPARE)
    begin = FIRST + int(worker.removeprefix("gw")) % (workers + SPARE) * width
    return range(begin, begin + width)


def _untried() -> Iterator[int]:
    mine = stretch(
        os.environ.get("PYTEST_XDIST_WORKER", "gw0"),
        int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")),
    )
    # Another run on this machine goes through the same stretch in another order.
    yield from random.Random(os.getpid()).sample(mine, len(mine))


_UNTRIED = _untried()


def free_port() -> int:
    """Return a port of the loopback that nobody listens on, and that no test of this run gets."""
    for port in _UNTRIED:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("every port of this worker was given away")


def free_ports(count: int) -> list[int]:
    """Return so many of them."""
    return [free_port() for _ in range(count)]
