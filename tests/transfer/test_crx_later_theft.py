"""A recorded session, and later every long-term key of both sides in a thief's hands."""

import gc
from dataclasses import dataclass, field
from typing import Any

import pytest
from crx_attackers import Trio, is_delivered, receiving, run, sending, until
from crx_institutions import House
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import MLKEM768X25519PrivateKey

from medportal.pki.passphrases import load_passphrases
from medportal.transfer import kem, payload, transcript
from medportal.transfer.errors import ProtocolError
from medportal.transfer.framing import FrameBuffer
from medportal.transfer.messages import Message, decode
from medportal.transfer.ports import Channel
from medportal.transfer.tls import TlsStream
from medportal.transfer.transcript import Binding
from medportal.vault import boxes, sealing
from medportal.vault.errors import VaultError


@dataclass
class Recording:
    """Everything that both sides said on one connection: the frames inside TLS, in order.

    That is more than a thief has, who recorded TLS: with the keys of that he would see this.
    """

    messages: list[tuple[Message, bytes]] = field(default_factory=list)
    channel: Channel | None = None

    def of(self, kind: str) -> list[tuple[Any, bytes]]:
        return [pair for pair in self.messages if kind == pair[0].TYPE]

    def binding(self) -> Binding:
        """Return what the session was bound to, as the sender saw it."""
        channel = self.channel
        assert channel is not None
        return Binding(
            "laboratory", "hospital", channel.binding, channel.own_leaf, channel.peer_leaf
        )

    def infos(self) -> list[tuple[bytes, bytes]]:
        """Return every sealed record, and the context under which it opens."""
        (hello,), (challenge,), (proof,) = (
            [raw for _, raw in self.of(kind)] for kind in ("HELLO", "CHALLENGE", "PROOF")
        )
        session = transcript.session_id(self.binding(), hello, challenge, proof)
        return [
            (said.sealed, transcript.record_info(session, self.binding(), said.tid, said.offer))
            for said, _ in self.of("DELIVER")
        ]


def record(monkeypatch: pytest.MonkeyPatch) -> Recording:
    """Listen inside TLS to everything that is sent in this process."""
    recording, buffers = Recording(), dict[int, FrameBuffer]()
    send, handshake = TlsStream.send, TlsStream.handshake

    async def heard(self: TlsStream, data: bytes) -> None:
        frames = buffers.setdefault(id(self), FrameBuffer())
        recording.messages += [(decode(body), body) for body in frames.feed(data)]
        await send(self, data)

    async def joined(self: TlsStream, *given: Any) -> Channel:
        channel = await handshake(self, *given)
        if channel.peer == "hospital":
            recording.channel = channel
        return channel

    monkeypatch.setattr(TlsStream, "send", heard)
    monkeypatch.setattr(TlsStream, "handshake", joined)
    return recording


def long_term_keys(house: House) -> list[sealing.BoxPrivateKey]:
    """Return every key of an institution that could open a seal: of its boxes, and of its share.

    The share is an X25519 key, half of what a seal takes; the thief tries it with the other half
    of each box. What else there is signs.
    """
    phrases = load_passphrases(house.home / "secrets")
    held = [
        boxes.load_private(house.home / "vault", name, phrases[group])
        for name, group in (("outbox", "outbox"), ("inbox", "jobs"))
    ]
    share = house.store.share()
    X25519PrivateKey.from_private_bytes(share)
    mixed = [
        sealing.BoxPrivateKey.from_bytes(key.to_bytes()[: -len(share)] + share) for key in held
    ]
    return held + mixed


def test_keys_stolen_later_open_no_record_of_a_recorded_session(
    trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    hospital, laboratory, _clinic = trio.houses
    recording = record(monkeypatch)
    one_use: list[MLKEM768X25519PrivateKey] = []
    make_pair = sealing.make_pair

    def kept() -> tuple[MLKEM768X25519PrivateKey, bytes]:
        key, public = make_pair()
        one_use.append(key)
        return key, public

    monkeypatch.setattr(sealing, "make_pair", kept)
    laboratory.queue("hospital", count=6)

    async def exchange() -> None:
        async with receiving(hospital, laboratory), sending(laboratory):
            await until(lambda: is_delivered(laboratory))

    run(exchange())
    sealed = recording.infos()
    assert len(sealed) == 6
    stolen = [key for house in (hospital, laboratory) for key in long_term_keys(house)]
    assert len(stolen) == 8
    for body, info in sealed:
        for key in stolen:
            with pytest.raises(VaultError):
                sealing.open_with(key, body, info)
    # The control: a key that lived in the connection only opens its record, so the thief's way
    # of opening is right, and lacks nothing but that key.
    assert len(one_use) == 6
    opened = [open_any(one_use, body, info) for body, info in sealed]
    assert all(payload.unpack(plain)[0].name == "Amanda Júlio" for plain in opened)
    # Nor do two records share one.
    assert len({offer.key for offer, _ in recording.of("OFFER")}) == 6


def open_any(keys: list[MLKEM768X25519PrivateKey], body: bytes, info: bytes) -> bytes:
    for key in keys:
        try:
            return sealing.open_by(key, body, info)
        except VaultError:
            continue
    raise AssertionError("no key of the connection opens it")


def test_no_one_use_key_is_left_in_memory_while_the_connection_goes_on(trio: Trio) -> None:
    hospital, laboratory, _clinic = trio.houses
    laboratory.queue("hospital", count=20)

    def left() -> int:
        gc.collect()
        return sum(isinstance(each, kem.OneUseKey) for each in gc.get_objects())

    async def exchange() -> None:
        async with receiving(hospital, laboratory), sending(laboratory):
            await until(lambda: is_delivered(laboratory))
            # The connection is still there: its last effect is let go of with the next tick.
            await until(lambda: left() == 0)

    run(exchange())


def test_a_one_use_key_opens_nothing_but_its_own_offer() -> None:
    key, other = kem.OneUseKey(), kem.OneUseKey()
    sealed = kem.seal(key.public, b"content", b"its offer")
    assert key.open(sealed, b"its offer") == b"content"
    for wrong, info in ((other, b"its offer"), (key, b"another offer")):
        with pytest.raises(ProtocolError):
            wrong.open(sealed, info)
