"""Records travel while certificates, revocation lists and the authority itself are replaced."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from crx_institutions import enrol, found

from medportal.core.clock import utcnow
from medportal.pki import ca as authority
from medportal.pki import rollover
from medportal.pki.layout import Layout
from medportal.pki.passphrases import load_passphrases
from medportal.pki.profiles import Purpose
from medportal.transfer.commands import receiver_service, sender_service
from medportal.transfer.receiver import ReceiverSettings
from medportal.transfer.sender import SenderSettings

GROUPS = {"channel": "exchange", "exchange": "exchange", "receipt": "exchange", "record": "portal"}


@pytest.fixture
def houses(tmp_path):
    hospital, laboratory = found(tmp_path, "hospital"), found(tmp_path, "laboratory")
    enrol(hospital, laboratory)
    hospital.register()
    yield hospital, laboratory
    for house in (hospital, laboratory):
        house.engine.dispose()


def renew(house, purpose):
    secrets = load_passphrases(house.home / "secrets")
    authority.issue(
        house.pki,
        Purpose(purpose),
        ca_passphrase=secrets["ca"],
        group_passphrase=secrets[GROUPS[purpose]],
        now=utcnow(),
    )


def revoke_all_but_the_current(house):
    """Withdraw every certificate that was replaced, which also makes new lists."""
    secrets, crl = load_passphrases(house.home / "secrets"), authority.read_crl(house.pki)
    current = {info.serial for info in authority.inventory(house.pki)}
    for leaf in authority.issued(house.pki):
        known = crl.get_revoked_certificate_by_serial_number(leaf.serial_number)
        is_record = Purpose.RECORD.value in leaf.subject.rfc4514_string()
        if leaf.serial_number not in current and known is None and not is_record:
            authority.revoke(
                house.pki, leaf.serial_number, ca_passphrase=secrets["ca"], now=utcnow()
            )


def roll(house):
    secrets = load_passphrases(house.home / "secrets")
    rollover.roll(house.pki, ca_passphrase=secrets["ca"], now=utcnow())
    for purpose in GROUPS:
        renew(house, purpose)


async def until(done):
    """Wait until something is so; how long is no part of any claim."""
    async with asyncio.timeout(300):
        while not done():
            await asyncio.sleep(0.05)


@asynccontextmanager
async def running(hospital, laboratory, longest=1.0):
    """Run both services; connections are short, so that new ones are made all the time."""
    stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
    receiver = receiver_service(
        hospital.keys, hospital.engine, ReceiverSettings(hospital.id, "127.0.0.1:0")
    )
    settings = SenderSettings(laboratory.id, longest_connection=longest, first_wait=0.05)
    sender = sender_service(laboratory.keys, laboratory.engine, settings)
    tasks = [asyncio.create_task(receiver.run(stop, lambda _, number: port.set_result(number)))]
    laboratory.trust(hospital, f"127.0.0.1:{await port}")
    tasks.append(asyncio.create_task(sender.run(stop)))
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*tasks)


def delivered(house):
    rows = house.outbox().values()
    return sum(row.state == "delivered" for row in rows)


def test_no_record_is_lost_while_everything_is_renewed(houses):
    hospital, laboratory = houses
    tids: list[str] = []

    def send():
        tids.extend(laboratory.queue("hospital", count=15))

    async def run():
        async with running(hospital, laboratory):
            for purpose in GROUPS:
                send()
                for house in houses:
                    renew(house, purpose)
                await until(lambda: delivered(laboratory) == len(tids))
            for change in (revoke_all_but_the_current, roll, revoke_all_but_the_current):
                send()
                for house in houses:
                    change(house)
                send()
                await until(lambda: delivered(laboratory) == len(tids))

    asyncio.run(run())
    rows = hospital.inbox()
    assert sorted(row.tid for row in rows) == sorted(tids)
    assert {row.reason for row in laboratory.outbox().values()} == {"registered"}
    # Each learnt of the other's next authority, and trusts the one that people compared.
    for one, other in (houses, houses[::-1]):
        partner = one.keys.trusted.get(other.id)
        assert partner.link.public_key() == other.store.ca.public_key()
        assert partner.ca.public_key() != other.store.ca.public_key()


def test_a_record_signed_under_the_next_authority_passes_over_an_older_connection(houses):
    hospital, laboratory = houses

    async def run():
        async with running(hospital, laboratory, longest=600):
            laboratory.queue("hospital")
            await until(lambda: delivered(laboratory) == 1)
            roll(laboratory)
            laboratory.queue("hospital", count=3)
            await until(lambda: all(row.settled_at for row in laboratory.outbox().values()))

    asyncio.run(run())
    # Of that authority the hospital has heard in no handshake yet, nor of its list.
    assert hospital.keys.trusted.get(laboratory.id).link is None
    assert {row.reason for row in laboratory.outbox().values()} == {"registered"}


def test_both_services_run_without_the_authoritys_key(houses):
    hospital, laboratory = houses
    for house in houses:
        Layout(house.pki).ca_key.unlink()
        (house.home / "secrets" / "ca.passphrase").unlink()

    async def run():
        async with running(hospital, laboratory):
            laboratory.queue("hospital", count=5)
            await until(lambda: delivered(laboratory) == 5)

    asyncio.run(run())
    assert len(hospital.inbox()) == 5
