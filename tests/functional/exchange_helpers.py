"""The real exchange between the two institutions of a functional test, over TLS on 127.0.0.1."""

import asyncio
from collections.abc import Callable
from typing import Any

from sqlalchemy import select

from medportal.core.clock import utcnow
from medportal.delivery.models import Outbox
from medportal.delivery.parcel import Parcel, outbox_info
from medportal.keys import TenantKeys
from medportal.pki import partners
from medportal.pki.profiles import Purpose
from medportal.transfer.commands import receiver_service, sender_service
from medportal.transfer.receiver import ReceiverSettings


def exchange(portal: Any, sender: str = "laboratory", receiver: str = "hospital") -> None:
    """Carry everything that waits, as the two services do, and file it as jobs do."""
    asyncio.run(_carry(portal, sender, receiver))
    portal.jobs(receiver).turn(utcnow())


async def _carry(portal: Any, sender: str, receiver: str) -> None:
    stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
    taking, giving = portal.keys(receiver), portal.keys(sender)
    service = receiver_service(
        taking,
        portal.registry.database(receiver).engine,
        ReceiverSettings(receiver, "127.0.0.1:0"),
    )
    tasks = [asyncio.create_task(service.run(stop, lambda _host, number: port.set_result(number)))]
    try:
        _tell_where(giving, taking, await port)
        out = sender_service(giving, portal.registry.database(sender).engine)
        tasks.append(asyncio.create_task(out.run(stop)))
        await _until(lambda: not _waiting(portal, sender, receiver))
    finally:
        stop.set()
        await asyncio.gather(*tasks)


def _tell_where(giving: TenantKeys, taking: TenantKeys, port: int) -> None:
    now = utcnow()
    descriptor = partners.export_descriptor(
        taking.signer(Purpose.EXCHANGE),
        kind=taking.tenant.kind.value,
        names=taking.tenant.names,
        ca=taking.keystore.ca,
        endpoint=f"127.0.0.1:{port}",
        share=taking.keystore.share_public(),
        now=now,
    )
    read = partners.read_descriptor(descriptor, now)
    partners.trust(giving.places.pki, read, now, replace=True)


async def _until(done: Callable[[], bool], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not done():
            await asyncio.sleep(0.05)


def _waiting(portal: Any, sender: str, receiver: str) -> bool:
    with portal.session(sender) as session:
        waiting = select(Outbox.tid).where(Outbox.partner == receiver, Outbox.settled_at.is_(None))
        return session.scalar(waiting.limit(1)) is not None


def parcels_of(portal: Any, path: str, sender: str = "laboratory") -> list[Parcel]:
    """Return the parcels of every version of a record, oldest first, as its outbox holds them."""
    with portal.session(sender) as session:
        rows = session.scalars(
            select(Outbox)
            .where(Outbox.record_id == path.rsplit("/", 1)[1])
            .order_by(Outbox.version)
        ).all()
        keys = portal.keys(sender)
        return [
            Parcel.from_bytes(
                keys.open_outgoing(row.sealed, outbox_info(sender, row.partner, row.tid))
            )
            for row in rows
        ]
