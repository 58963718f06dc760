"""A process that opens deliveries for a receiver: ``python -m medportal.transfer.opener_process``.

It reads requests from standard input and answers on standard output until its input ends, which
is when the receiver is gone. Its arguments are the directory of the partners' descriptors, and for
how many seconds offers are good. It is given no key of the institution, no password and no
database: what is parsed here was written by others.
"""

import os
import resource
import select
import signal
import sys
from collections import deque
from pathlib import Path

from medportal.pki.layout import load_profiles
from medportal.pki.partners import TrustStore
from medportal.transfer import opener_wire as wire
from medportal.transfer.credentials import content_problem, peer_of
from medportal.transfer.desk import Desk, KeyGone
from medportal.transfer.errors import ReceiverBusy, TransferError

CHUNK = 1 << 18
LOOK_EVERY = 4
"""After how many deliveries new requests are looked for: keys go before what is to be opened."""

FORGET_EVERY = 1.0
"""Seconds of quiet after which old keys are looked for."""


class Process:
    """Reads, works, answers. Partners take turns: a delivery of each, however many wait."""

    def __init__(self, desk: Desk, taking: int, giving: int) -> None:
        """Work with the desk for whoever writes to ``taking`` and reads from ``giving``."""
        self._desk, self._taking, self._giving = desk, taking, giving
        self._frames = wire.frames()
        self._partners: dict[int, str] = {}
        self._waiting: dict[str, deque[wire.Open]] = {}
        self._ended = False

    def run(self) -> None:
        """Say that we are there, and work until the input ends."""
        self._say(wire.encode_reply(wire.Made(0, ())))
        while not self._ended:
            self._take(FORGET_EVERY if not self._waiting else 0.0)
            self._desk.forget_old()
            self._say(self._some())

    def _take(self, patience: float) -> None:
        """Take in what has come; keys are made at once, deliveries wait for their turn."""
        while select.select([self._taking], [], [], patience)[0]:
            patience = 0.0
            data = os.read(self._taking, CHUNK)
            if not data:
                self._ended = True
                return
            for body in self._frames.feed(data):
                self._one(wire.decode_request(body))

    def _one(self, request: wire.Request) -> None:
        match request:
            case wire.Begin(client, intro):
                self._partners[client] = intro.binding.sender
                self._desk.begin(client, intro)
            case wire.End(client):
                self._desk.end(client)
                self._drop(client)
            case wire.Make(number, client, count):
                self._say(self._make(number, client, count))
            case wire.Open(_, client):
                partner = self._partners.get(client, "")
                self._waiting.setdefault(partner, deque()).append(request)

    def _some(self) -> bytes:
        replies = b""
        for _ in range(LOOK_EVERY):
            if self._waiting:
                replies += self._open(self._next())
        return replies

    def _next(self) -> wire.Open:
        """Take a delivery of the partner whose turn it is; the partner stands last then."""
        partner, deliveries = next(iter(self._waiting.items()))
        request = deliveries.popleft()
        del self._waiting[partner]
        if deliveries:
            self._waiting[partner] = deliveries
        return request

    def _drop(self, client: int) -> None:
        """Give back what waits of a connection that is gone."""
        partner = self._partners.pop(client, "")
        waiting = self._waiting.pop(partner, deque())
        kept = deque(each for each in waiting if each.client != client)
        if kept:
            self._waiting[partner] = kept
        for each in waiting:
            if each.client == client:
                self._say(wire.encode_reply(wire.Failed(each.request, None)))

    def _make(self, number: int, client: int, count: int) -> bytes:
        try:
            return wire.encode_reply(wire.Made(number, tuple(self._desk.make(client, count))))
        except KeyGone:
            return wire.encode_reply(wire.Failed(number, None))

    def _open(self, request: wire.Open) -> bytes:
        number = request.request
        try:
            contents = self._desk.open(request.client, request.key, request.sealed)
            return wire.encode_reply(wire.Read(number, contents))
        except KeyGone:
            failed = wire.Failed(number, None)
        except ReceiverBusy as error:
            failed = wire.Failed(number, None, type(error).__name__)
        except TransferError as error:
            failed = wire.Failed(number, error.code)
        except Exception as error:
            # What is wrong here is no fault of the partner's: the record is asked for anew.
            failed = wire.Failed(number, None, type(error).__name__)
        return wire.encode_reply(failed)

    def _say(self, reply: bytes) -> None:
        left = memoryview(reply)
        while left:
            left = left[os.write(self._giving, left) :]


def main(directory: str, offer_ttl: str) -> None:
    """Work until the receiver is gone."""
    # The receiver's service manager tells all of its processes to stop; this one is needed for as
    # long as the receiver finishes what was delivered.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    giving = os.dup(1)
    # What anything prints goes to the log, not between the replies.
    os.dup2(2, 1)
    if resource.getrlimit(resource.RLIMIT_CORE) != (0, 0):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    peers = peer_of(TrustStore(Path(directory)), load_profiles().crl_limits)
    try:
        Process(Desk(peers, content_problem, float(offer_ttl)), 0, giving).run()
    except BrokenPipeError:
        return  # The receiver is gone.
    except Exception as error:
        # The kind only: what a traceback quotes may be of a patient.
        sys.exit(f"the opener failed: {type(error).__name__}")


if __name__ == "__main__":
    main(*sys.argv[1:])
