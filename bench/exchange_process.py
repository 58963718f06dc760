"""A sender or a receiver of the exchange as a process of its own, which says what it used.

``python -m bench.exchange_process send|receive STATE PORT NAME=URL ...``: one receiver, or the
senders of one or more laboratories. At SIGTERM it ends in good order and prints one JSON line:
``rss_mib``, the most memory that it ever held, and ``cpu``, seconds of the processor.
"""

import asyncio
import json
import logging
import re
import resource
import signal
import sys
from pathlib import Path

import structlog

from bench.houses import keys_of
from medportal.ops.transfer import RECEIVER_GROUPS, SENDER_GROUPS
from medportal.tenancy.engines import make_engine
from medportal.transfer.commands import receiver_service, sender_service
from medportal.transfer.receiver import ReceiverSettings


def used() -> dict[str, float]:
    """Return what this process has used up to now."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    # The most memory is read from the system: the counter of getrusage begins with what the
    # process that started this one held.
    status = Path("/proc/self/status").read_text()
    most = re.search(r"VmHWM:\s+(\d+) kB", status)
    return {
        "rss_mib": round(int(most[1]) / 1024, 1) if most else 0.0,
        "cpu": round(usage.ru_utime + usage.ru_stime, 3),
    }


async def receive(state: Path, port: int, name: str, url: str, stop: asyncio.Event) -> None:
    # Many laboratories of one machine have one address: the limit on that is not what is measured.
    settings = ReceiverSettings(name, f"127.0.0.1:{port}", most_shaking_of_origin=64)
    service = receiver_service(
        keys_of(state, name, RECEIVER_GROUPS, port), make_engine(url), settings
    )
    await service.run(stop, lambda _host, number: print("listening", number, flush=True))


async def send(state: Path, houses: list[tuple[str, str]], stop: asyncio.Event) -> None:
    services = [
        sender_service(keys_of(state, name, SENDER_GROUPS), make_engine(url))
        for name, url in houses
    ]
    print("sending", flush=True)
    await asyncio.gather(*(service.run(stop) for service in services))


async def main(role: str, state: Path, port: int, houses: list[tuple[str, str]]) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, lambda: print(json.dumps(used()), flush=True))
    if role == "receive":
        await receive(state, port, *houses[0], stop)
    else:
        await send(state, houses, stop)
    print(json.dumps(used()), flush=True)


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    named = [(name, url) for name, _, url in (each.partition("=") for each in sys.argv[4:])]
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), named))
