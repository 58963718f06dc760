"""Where one-use keys are made, and what is sealed to them is opened and read.

A desk has no database, no key of the institution and no connection: it is given what a partner
sent, and says what is in it. So it can work in a process of its own
(:mod:`medportal.transfer.opener_process`), or in a thread of the receiver's.
"""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from medportal.core.clock import utcnow
from medportal.transfer import kem, payload
from medportal.transfer.errors import Code, ProtocolError, TransferError, Untrusted
from medportal.transfer.payload import ContentCheck, Contents, Introduction
from medportal.transfer.ports import Peer, VerifyKey

KEPT_LONGER = 5.0
"""For how many seconds a key is kept after its offer ran out, which began a little later."""

PeerOf = Callable[[str], Peer | None]


@dataclass(slots=True)
class Client:
    """A connection that a desk works for, and its keys by number."""

    intro: Introduction
    partner: tuple[Peer, VerifyKey] | TransferError = field(repr=False)
    keys: dict[int, tuple[float, kem.OneUseKey]] = field(default_factory=dict, repr=False)


class Desk:
    """Makes keys and opens what is sealed to them, for connections that were introduced.

    What it is asked about a connection that it does not know, or with a key that it has not (any
    more), raises ``KeyGone``. Connections may begin and end while another thread makes keys or
    opens; those two are for one thread at a time.
    """

    def __init__(self, peer_of: PeerOf, check_content: ContentCheck, offer_ttl: float) -> None:
        """Prepare for the partners that ``peer_of`` gives, and offers good for so many seconds."""
        self._peer_of, self._check_content = peer_of, check_content
        self._kept = offer_ttl + KEPT_LONGER
        self._clients: dict[int, Client] = {}
        # No number of an earlier process, whose keys are gone, is that of a key made here.
        self._made = secrets.randbits(60)

    def begin(self, client: int, intro: Introduction) -> None:
        """Take up a connection, whose sender is verified as the handshake did."""
        self._clients[client] = Client(intro, self._partner(intro))

    def end(self, client: int) -> None:
        """Forget a connection and all of its keys."""
        self._clients.pop(client, None)

    def make(self, client: int, count: int) -> list[tuple[int, bytes]]:
        """Make keys for a connection; return the number and the public half of each."""
        keys = self._client(client).keys
        made: list[tuple[int, bytes]] = []
        for _ in range(count):
            key = kem.OneUseKey()
            self._made += 1
            keys[self._made] = (time.monotonic(), key)
            made.append((self._made, key.public))
        return made

    def open(self, client: int, key: int, delivered: payload.Sealed) -> Contents:
        """Open and read a delivery; its key is forgotten, however it ends.

        Raises as :func:`medportal.transfer.payload.open_delivery` does, and ``KeyGone``.
        """
        found = self._client(client)
        held = found.keys.pop(key, None)
        if held is None:
            raise KeyGone
        if isinstance(found.partner, TransferError):
            raise found.partner
        peer, sender_key = found.partner
        return payload.open_delivery(
            delivered, held[1], found.intro, sender_key, peer, self._check_content, utcnow()
        )

    def forget_old(self) -> None:
        """Forget keys whose offers have run out."""
        until = time.monotonic() - self._kept
        for client in list(self._clients.values()):
            # Keys are in the order in which they were made.
            while client.keys and (first := next(iter(client.keys.items())))[1][0] < until:
                del client.keys[first[0]]

    def _client(self, client: int) -> Client:
        found = self._clients.get(client)
        if found is None:
            raise KeyGone
        return found

    def _partner(self, intro: Introduction) -> tuple[Peer, VerifyKey] | TransferError:
        peer = self._peer_of(intro.binding.sender)
        if peer is None:
            return ProtocolError(Code.REVOKED_PARTNER)
        try:
            return peer, peer.exchange(intro.chain, intro.crl, intro.at)
        except Untrusted:
            # The handshake found it good, and things have moved on since, as when this desk begins
            # anew under an old connection. Nobody is to blame: a new handshake will tell.
            return ProtocolError(Code.TIMEOUT)


class KeyGone(TransferError):
    """The one-use key is not there any more, as after an opener's end: the record is asked anew."""

    def __init__(self) -> None:
        super().__init__(Code.INTERNAL, "no such one-use key")
