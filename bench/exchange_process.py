"""A sender or a receiver of the exchange as a process of its own, which says what it used.

``python -m bench.exchange_process send|receive STATE PORT NAME=URL ...``: one receiver, or the
senders of one or more laboratories. At SIGTERM it ends in good order and prints one JSON line:
``rss_mib``, the most memory that it ever held, and ``cpu``, seconds of the processor.
"""

import asyncio
import json
import logging
import os
import re
import resource
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import structlog

from bench.houses import keys_of
from medportal.ops.transfer import RECEIVER_GROUPS, SENDER_GROUPS
from medportal.tenancy.engines import make_engine
from medportal.transfer.commands import receiver_service, sender_service
from medportal.transfer.opener import Child
from medportal.transfer.receiver import ReceiverService, ReceiverSettings

OPENERS = int(os.environ.get("MEDPORTAL_OPENERS", "1"))
"""How many processes open what is delivered: one, on the two cores of these figures."""


def used(children: Sequence[Child] = ()) -> dict[str, float]:
    """Return what this process, and the openers of a receiver, have used up to now."""
    # The most memory is read from the system: the counter of getrusage begins with what the
    # process that started this one held.
    status = Path("/proc/self/status").read_text()
    most = re.search(r"VmHWM:\s+(\d+) kB", status)
    # Of openers that have ended the system has added up the time already.
    times = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    seconds = sum(each.ru_utime + each.ru_stime for each in times)
    return {
        "rss_mib": round(int(most[1]) / 1024, 1) if most else 0.0,
        "cpu": round(seconds + sum(of_process(child.pid) for child in children if child.pid), 3),
    }


def of_process(pid: int) -> float:
    """Return seconds of the processor that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def receiver(state: Path, port: int, name: str, url: str) -> ReceiverService:
    # Many laboratories of one machine have one address: the limit on that is not what is measured.
    settings = ReceiverSettings(
        name, f"127.0.0.1:{port}", most_shaking_of_origin=64, openers=OPENERS
    )
    keys = keys_of(state, name, RECEIVER_GROUPS, port)
    return receiver_service(keys, make_engine(url), settings)


async def send(state: Path, houses: list[tuple[str, str]], stop: asyncio.Event) -> None:
    services = [
        sender_service(keys_of(state, name, SENDER_GROUPS), make_engine(url))
        for name, url in houses
    ]
    print("sending", flush=True)
    await asyncio.gather(*(service.run(stop) for service in services))


async def main(role: str, state: Path, port: int, houses: list[tuple[str, str]]) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    service = receiver(state, port, *houses[0]) if role == "receive" else None
    children = service.needs.openers.children if service else []
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, lambda: print(json.dumps(used(children)), flush=True))
    if service:
        await service.run(stop, lambda _host, number: print("listening", number, flush=True))
    else:
        await send(state, houses, stop)
    print(json.dumps(used(children)), flush=True)


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    named = [(name, url) for name, _, url in (each.partition("=") for each in sys.argv[4:])]
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), named))
