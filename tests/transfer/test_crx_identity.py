"""Somebody who is not who they say: on real sockets, against both services.

Each attacker runs one of our own services with one thing that is wrong, because a stranger would
speak the protocol as well as we do.
"""

import asyncio
import ssl
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from crx_attackers import (
    DELIVERED,
    Between,
    Trio,
    asked,
    codes,
    connected,
    copy_of,
    direct,
    disguised,
    edge_credentials,
    events,
    expire,
    impostor_of,
    is_delivered,
    receiving,
    reissue,
    revoke,
    run,
    sending,
    signing_with_another_key,
    standing_between,
    states,
    until,
    without_its_key,
)
from crx_institutions import House
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from OpenSSL import SSL

from medportal.audit.events import Action
from medportal.core.clock import utcnow
from medportal.pki import partners
from medportal.pki.profiles import Purpose
from medportal.transfer import tls
from medportal.transfer.errors import ChannelError, Code

SOON = timedelta(days=2)

# How a key without its other half is handed to OpenSSL; nothing else takes one.
pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL PKey:DeprecationWarning")

Attacker = Callable[[House, House, House, Path], House]
"""Makes an attacker from whom it poses as, whom it attacks, a third partner and a directory."""


def no_key(genuine: House, victim: House, third: House, state: Path) -> House:
    return disguised(genuine, without_its_key(genuine.store.credentials(Purpose.CHANNEL)))


def no_exchange_key(genuine: House, victim: House, third: House, state: Path) -> House:
    signer = genuine.store.signer(Purpose.EXCHANGE)
    return disguised(genuine, exchange=signing_with_another_key(signer))


def expired(purpose: Purpose) -> Attacker:
    def make(genuine: House, victim: House, third: House, state: Path) -> House:
        made = copy_of(genuine, state)
        expire(made, purpose)
        return made

    return make


def not_yet_valid(purpose: Purpose) -> Attacker:
    def make(genuine: House, victim: House, third: House, state: Path) -> House:
        made = copy_of(genuine, state)
        reissue(made, purpose, SOON)
        return made

    return make


def revoked(purpose: Purpose) -> Attacker:
    def make(genuine: House, victim: House, third: House, state: Path) -> House:
        made = copy_of(genuine, state)
        revoke(made, purpose)
        return made

    return make


def hiding_its_revocation(purpose: Purpose) -> Attacker:
    """It shows the list from before; the victim has seen the newer one meanwhile."""

    def make(genuine: House, victim: House, third: House, state: Path) -> House:
        made = copy_of(genuine, state)
        revoke(made, purpose)
        partners.remember_crl(victim.pki, genuine.id, made.store.crl_der, utcnow())
        return copy_of(genuine, state / "before")

    return make


def of_a_third(purpose: Purpose) -> Attacker:
    def make(genuine: House, victim: House, third: House, state: Path) -> House:
        if purpose is Purpose.CHANNEL:
            return disguised(genuine, third.store.credentials(purpose))
        return disguised(genuine, exchange=third.store.signer(purpose))

    return make


def of_another_authority(purpose: Purpose) -> Attacker:
    def make(genuine: House, victim: House, third: House, state: Path) -> House:
        impostor = impostor_of(genuine, victim, state)
        if purpose is Purpose.CHANNEL:
            return disguised(genuine, impostor.store.credentials(purpose))
        return disguised(genuine, exchange=impostor.store.signer(purpose))

    return make


def of_another_purpose(genuine: House, victim: House, third: House, state: Path) -> House:
    return disguised(genuine, edge_credentials(copy_of(genuine, state)))


def signing_with_its_receipt_key(genuine: House, victim: House, third: House, state: Path) -> House:
    return disguised(genuine, exchange=genuine.store.signer(Purpose.RECEIPT))


CHANNEL, EXCHANGE = Purpose.CHANNEL, Purpose.EXCHANGE
CERTIFICATE = {str(Code.CERTIFICATE)}

ATTACKERS = {
    "right certificate, not its key": (no_key, {str(Code.TLS)}),
    "channel revoked": (revoked(CHANNEL), CERTIFICATE),
    "channel revoked, older list shown": (hiding_its_revocation(CHANNEL), CERTIFICATE),
    "channel expired": (expired(CHANNEL), CERTIFICATE),
    "channel not yet valid": (not_yet_valid(CHANNEL), CERTIFICATE),
    "channel of a third partner": (
        of_a_third(CHANNEL),
        {str(Code.INSTITUTION), str(Code.UNKNOWN_PARTNER)},
    ),
    "channel of another authority": (of_another_authority(CHANNEL), CERTIFICATE),
    "channel of another purpose": (of_another_purpose, CERTIFICATE),
    "right exchange certificate, not its key": (no_exchange_key, {str(Code.SIGNATURE)}),
    "exchange revoked": (revoked(EXCHANGE), CERTIFICATE),
    "exchange revoked, older list shown": (hiding_its_revocation(EXCHANGE), CERTIFICATE),
    "exchange expired": (expired(EXCHANGE), CERTIFICATE),
    "exchange not yet valid": (not_yet_valid(EXCHANGE), CERTIFICATE),
    "exchange of a third partner": (of_a_third(EXCHANGE), CERTIFICATE),
    "exchange of another authority": (of_another_authority(EXCHANGE), CERTIFICATE),
    "exchange of another purpose": (signing_with_its_receipt_key, CERTIFICATE),
}

each_attacker = pytest.mark.parametrize(
    ("make", "expected"), ATTACKERS.values(), ids=ATTACKERS.keys()
)


@each_attacker
def test_a_client_that_is_not_the_laboratory_registers_nothing(
    trio: Trio, logbook: list[Any], tmp_path: Path, make: Attacker, expected: set[str]
) -> None:
    hospital, laboratory, clinic = trio.houses
    attacker = make(laboratory, hospital, clinic, tmp_path)
    (tid,) = attacker.queue("hospital")
    expected = expected - {str(Code.UNKNOWN_PARTNER)}

    async def attack() -> None:
        async with receiving(hospital, attacker, laboratory, clinic) as port:
            async with sending(attacker):
                await until(lambda: states(attacker) == {("retrying", "channel-refused")})
            assert codes(logbook, "connection refused", "partner left") == expected
            assert asked(hospital) == [] and hospital.inbox() == []
            await good_partner(clinic, hospital, port)

    run(attack())
    assert tid not in {row.tid for row in hospital.inbox()}


async def good_partner(partner: House, hospital: House, port: int) -> None:
    """Let an honest partner send a record to the receiver that was attacked."""
    direct(partner, hospital, port)
    partner.queue("hospital")
    async with sending(partner):
        await until(lambda: is_delivered(partner))
    assert [row.sender for row in hospital.inbox()] == [partner.id]


@each_attacker
def test_a_server_that_is_not_the_hospital_is_told_nothing(
    trio: Trio, logbook: list[Any], tmp_path: Path, make: Attacker, expected: set[str]
) -> None:
    hospital, laboratory, clinic = trio.houses
    attacker = make(hospital, laboratory, clinic, tmp_path)
    (tid,) = laboratory.queue("hospital")
    expected = expected - {str(Code.INSTITUTION)}

    async def attack() -> None:
        async with receiving(attacker) as port, sending(laboratory):
            direct(laboratory, hospital, port)
            await until(lambda: codes(logbook, "link down") >= expected)
            assert asked(attacker) == [] and attacker.inbox() == []
            # The same sender serves its other partner meanwhile.
            (other,) = laboratory.queue("clinic")
            async with receiving(clinic, laboratory):
                await until(lambda: laboratory.outbox()[other].state == "delivered")

    # Where nobody listens, until the port is known.
    direct(laboratory, hospital, 9)
    run(attack())
    assert codes(logbook, "link down") <= {*expected, "unreachable", ""}
    row = laboratory.outbox()[tid]
    assert (row.state, row.reason) == ("retrying", "channel-refused")
    assert len(clinic.inbox()) == 1


def test_a_partner_revoked_here_is_refused_before_anything_is_looked_up(
    trio: Trio, logbook: list[Any]
) -> None:
    hospital, laboratory, clinic = trio.houses
    laboratory.queue("hospital")
    partners.revoke_partner(hospital.pki, "laboratory", utcnow(), "test")

    async def attack() -> None:
        async with receiving(hospital, laboratory) as port:
            async with sending(laboratory):
                await until(lambda: states(laboratory) == {("retrying", "channel-refused")})
            assert asked(hospital) == []
            await good_partner(clinic, hospital, port)

    run(attack())
    assert codes(logbook, "connection refused") == {Code.UNKNOWN_PARTNER}
    assert events(hospital, Action.PEER_REFUSED)


def test_a_third_trusted_partner_cannot_stand_between(trio: Trio, logbook: list[Any]) -> None:
    """The clinic is trusted by both, and holds its own keys only."""
    hospital, laboratory, clinic = trio.houses
    laboratory.queue("hospital")
    own = clinic.store.credentials(Purpose.CHANNEL)

    async def attack() -> None:
        async with receiving(hospital) as port:
            between = Between(port, own, own, clinic, clinic)
            async with standing_between(between) as middle, sending(laboratory):
                direct(laboratory, hospital, middle)
                await until(lambda: bool(between.failed))
                await until(lambda: states(laboratory) == {("retrying", "channel-refused")})
                assert between.seen == []
                direct(laboratory, hospital, port)
                await until(lambda: is_delivered(laboratory))

    direct(laboratory, hospital, 9)
    run(attack())
    assert len(hospital.inbox()) == 1


def test_whoever_stole_both_channel_keys_still_cannot_stand_between(
    trio: Trio, logbook: list[Any]
) -> None:
    """Two TLS connections have two channel bindings, and both handshake signatures cover one."""
    hospital, laboratory, _clinic = trio.houses
    laboratory.queue("hospital")
    stolen = [house.store.credentials(Purpose.CHANNEL) for house in (hospital, laboratory)]

    async def attack() -> None:
        async with receiving(hospital) as port:
            between = Between(port, *stolen, laboratory, hospital)
            async with standing_between(between) as middle, sending(laboratory):
                direct(laboratory, hospital, middle)
                await until(lambda: states(laboratory) == {("retrying", "channel-refused")})
                await until(lambda: "ERROR" in between.seen)
                assert "PROOF" not in between.seen and "QUERY" not in between.seen
                direct(laboratory, hospital, port)
                await until(lambda: is_delivered(laboratory))

    direct(laboratory, hospital, 9)
    run(attack())
    assert Code.SIGNATURE in codes(logbook, "link down")
    assert len(asked(hospital)) == len(hospital.inbox()) == 1


# Something weaker than agreed: version, group, suite.


def weaker(house: House, tmp_path: Path, weak: str, server: bool) -> ssl.SSLContext:
    """Return the standard library's TLS with genuine keys, and one thing that is too weak."""
    held = house.store.credentials(Purpose.CHANNEL)
    pem = tmp_path / f"{house.id}-{weak}.pem"
    key = held.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pem.write_bytes(key + held.certificate.public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    if not server:
        context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    version = ssl.TLSVersion.TLSv1_2 if weak == "TLS 1.2" else ssl.TLSVersion.TLSv1_3
    context.minimum_version = context.maximum_version = version
    if weak == "P-256":
        context.set_ecdh_curve("prime256v1")
    context.load_cert_chain(pem)
    return context


# That library's OpenSSL may be older than the hybrid group; then X25519 is what it agrees on.
WEAKER = {"TLS 1.2": {Code.TLS}, "P-256": {Code.GROUP}, "X25519": {Code.GROUP}}


def _x25519_alone(context: ssl.SSLContext, weak: str) -> None:
    if weak == "X25519":
        context.set_ecdh_curve("X25519")


@pytest.mark.parametrize(("weak", "expected"), WEAKER.items())
def test_a_client_that_offers_something_weaker_is_refused(
    trio: Trio, logbook: list[Any], tmp_path: Path, weak: str, expected: set[Code]
) -> None:
    hospital, laboratory, clinic = trio.houses
    context = weaker(laboratory, tmp_path, weak, server=False)
    _x25519_alone(context, weak)

    async def attack() -> bytes:
        async with receiving(hospital) as port:
            said = await whatever_is_said(port, context)
            await good_partner(clinic, hospital, port)
        return said

    assert run(attack()) == b""
    assert codes(logbook, "connection refused") == expected


async def whatever_is_said(port: int, context: ssl.SSLContext) -> bytes:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    except OSError:
        return b""
    try:
        return await reader.read()
    except OSError:
        return b""
    finally:
        writer.transport.abort()


@pytest.mark.parametrize(("weak", "expected"), WEAKER.items())
def test_a_server_that_agrees_to_something_weaker_is_told_nothing(
    trio: Trio, logbook: list[Any], tmp_path: Path, weak: str, expected: set[Code]
) -> None:
    hospital, laboratory, _clinic = trio.houses
    context = weaker(hospital, tmp_path, weak, server=True)
    _x25519_alone(context, weak)
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            heard.append(await reader.read())
        except OSError:
            heard.append(b"")
        finally:
            writer.transport.abort()

    async def attack() -> None:
        server = await asyncio.start_server(listen, "127.0.0.1", 0, ssl=context)
        direct(laboratory, hospital, server.sockets[0].getsockname()[1])
        laboratory.queue("hospital")
        async with sending(laboratory):
            await until(lambda: states(laboratory) == {("retrying", "channel-refused")})
            async with receiving(hospital, laboratory):
                await until(lambda: is_delivered(laboratory))
        server.close()

    run(attack())
    assert b"".join(heard) == b""
    # A server that cannot go on may just hang up.
    assert codes(logbook, "link down") <= {*expected, Code.TRUNCATED, ""}


def test_a_weaker_cipher_suite_is_refused(
    trio: Trio, logbook: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hybrid group and TLS 1.3, but AES-128: the receiver has no such suite."""
    hospital, laboratory, clinic = trio.houses
    whole = tls.make_context

    def weak_at_the_client(credentials: Any) -> SSL.Context:
        context = whole(credentials)
        if credentials.chain_der == laboratory.store.credentials(Purpose.CHANNEL).chain_der:
            context.set_tls13_ciphersuites(b"TLS_AES_128_GCM_SHA256")
        return context

    async def attack() -> None:
        async with receiving(hospital) as port:
            monkeypatch.setattr(tls, "make_context", weak_at_the_client)
            with pytest.raises(ChannelError) as error:
                await connected(laboratory, port)
            assert error.value.code is Code.TLS
            await good_partner(clinic, hospital, port)

    run(attack())
    assert codes(logbook, "connection refused") == {Code.TLS}


def test_who_agrees_on_nothing_weaker_gets_through(trio: Trio) -> None:
    """The control for everything above: without the flaw the same way is open."""
    hospital, laboratory, _clinic = trio.houses
    laboratory.queue("hospital")

    async def no_attack() -> None:
        async with receiving(hospital, laboratory), sending(laboratory):
            await until(lambda: states(laboratory) == DELIVERED)

    run(no_attack())
    assert len(hospital.inbox()) == 1
