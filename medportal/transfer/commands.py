"""The two processes, as the command line starts them.

Each runs until SIGTERM or SIGINT, finishes what is under way and returns. Which keys each is
given is decided in :mod:`medportal.ops.transfer`: the receiver holds none that opens a stored
record, or one that waits to be sent.
"""

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from functools import partial

from sqlalchemy import Engine

from medportal.core.ids import new_id
from medportal.keys import TenantKeys
from medportal.transfer.credentials import PairNames, content_problem, peer_of
from medportal.transfer.desk import Desk
from medportal.transfer.opener import Openers
from medportal.transfer.receiver import ReceiverNeeds, ReceiverService, ReceiverSettings
from medportal.transfer.sender import SenderNeeds, SenderService, SenderSettings
from medportal.transfer.stores import SqlReceiverStore, SqlSenderStore


def sender_service(
    keys: TenantKeys, engine: Engine, settings: SenderSettings | None = None
) -> SenderService:
    """Return the sender of a tenant, ready to run."""
    store = SqlSenderStore(engine, keys, worker_name())
    return SenderService(
        SenderNeeds(
            settings or SenderSettings(keys.tenant.id),
            keys.keystore,
            peer_of(keys.trusted, keys.crl_limits),
            store,
        )
    )


def receiver_service(
    keys: TenantKeys, engine: Engine, settings: ReceiverSettings | None = None
) -> ReceiverService:
    """Return the receiver of a tenant, ready to run on the address of its file."""
    settings = settings or ReceiverSettings(
        keys.tenant.id, keys.tenant.exchange.listen, openers=openers_for(_cores())
    )
    peers, offer_ttl = peer_of(keys.trusted, keys.crl_limits), settings.limits.offer_ttl
    desk = partial(Desk, peers, content_problem, offer_ttl)
    return ReceiverService(
        ReceiverNeeds(
            settings,
            keys.keystore,
            peers,
            PairNames(keys.partner_keys),
            SqlReceiverStore(engine, keys),
            Openers(settings.openers, keys.places.pki, offer_ttl, desk),
        )
    )


def _cores() -> int:
    """Return how many cores this process may use, where the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def openers_for(cores: int) -> int:
    """Return how many openers keep so many cores busy: beyond two, the service itself is it."""
    return max(0, min(2, cores - 1))


def run_sender(keys: TenantKeys, engine: Engine, settings: SenderSettings | None = None) -> None:
    """Drain a tenant's outbox until SIGTERM or SIGINT."""
    asyncio.run(_until_signal(sender_service(keys, engine, settings).run))


def run_receiver(
    keys: TenantKeys,
    engine: Engine,
    settings: ReceiverSettings | None = None,
    listening: Callable[[str, int], None] | None = None,
) -> None:
    """Accept a tenant's records until SIGTERM or SIGINT.

    ``listening`` is called with host and port once it can serve. Raises ``OSError`` if the
    port is taken.
    """
    service = receiver_service(keys, engine, settings)
    asyncio.run(_until_signal(lambda stop: service.run(stop, listening)))


async def _until_signal(run: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # Every new connection looks at the key files, so there is nothing to reload; the signal that
    # service managers send for it must not end the process.
    loop.add_signal_handler(signal.SIGHUP, lambda: None)
    await run(stop)


def worker_name() -> str:
    """Return a name for this process in leases: host, process and a random part."""
    return f"{socket.gethostname()[:24]}:{os.getpid()}:{new_id()[:8]}"
