"""Writes of several requests in one transaction: one commit, and one wait for the disk.

Whoever comes first leads: it writes and commits for itself. What comes meanwhile waits, and the
first of those then leads for all of them. So nobody waits for company, and under load as many
events become durable with one commit as there are requests at hand.

Everybody returns after their own writes are durable, and not before. Where a transaction of
several parts fails, each is written once more in one of its own: what is amiss with one part is
told to whoever brought it, and to nobody else.

Whoever waits does so as long as who leads: a database that is gone without a word holds all readers
of its institution in this process until the network gives up (``docs/operations.md``, Standby, says
what to set for that).
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sqlalchemy.orm import Session

Write = Callable[[Session], None]


@dataclass(eq=False, slots=True)
class _Part:
    """What one request writes, and what became of it."""

    writes: Sequence[Write]
    #: Set when the part was seen to, or when whoever brought it is to lead.
    called: threading.Event = field(default_factory=threading.Event)
    leads: bool = False
    is_durable: bool = False


class Together:
    """Writes parts into one database, several of them in one transaction where it comes so.

    For parts that only insert rows of their own: these may stand in any company and order, and
    hold nothing that another transaction waits for.
    """

    def __init__(self, writer: Callable[[], Session]) -> None:
        """Write in sessions that ``writer`` gives."""
        self._writer = writer
        self._lock = threading.Lock()
        self._waiting: list[_Part] = []
        self._is_led = False

    def write(self, writes: Sequence[Write]) -> None:
        """Write, and return when it is durable; raises what the writes or the commit raise."""
        mine = self._joined(writes)
        if not mine.leads:
            mine.called.wait()
        if mine.leads:
            self._lead(mine)
        if not mine.is_durable:
            self._commit([mine])

    def _joined(self, writes: Sequence[Write]) -> _Part:
        mine = _Part(writes)
        with self._lock:
            self._waiting.append(mine)
            mine.leads, self._is_led = not self._is_led, True
        return mine

    def _lead(self, mine: _Part) -> None:
        """Write what waits, mine among it, and call whoever leads next."""
        with self._lock:
            group, self._waiting = self._waiting, []
        try:
            self._commit(group)
        except Exception:
            # Of several parts, each is tried alone by whoever brought it.
            if len(group) == 1:
                raise
        finally:
            self._hand_over()
            for part in group:
                if part is not mine:
                    part.called.set()

    def _hand_over(self) -> None:
        with self._lock:
            self._is_led = bool(self._waiting)
            if self._waiting:
                self._waiting[0].leads = True
                self._waiting[0].called.set()

    def _commit(self, parts: Sequence[_Part]) -> None:
        with self._writer() as session, session.begin():
            for part in parts:
                for write in part.writes:
                    write(session)
        for part in parts:
            part.is_durable = True
