"""Writers of an SQLite database take turns, so that none of them starves.

SQLite lets one transaction write at a time and has the others poll, at longer and longer intervals:
whoever came last is served first, and somebody waits for seconds while each write takes one
millisecond. Here the threads of a process queue before they poll, and the one at the head polls at
short, even intervals, so processes get their turns too. Turns only order the waiting: what keeps
writers apart is SQLite's own lock, as before.
"""

import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Any

POLL = 0.0005
"""Seconds between two looks of the one thread that polls."""

_PRIMARY = 0xFF
"""The low byte of an extended error code is the error itself (SQLite, "Result Codes")."""


class TurnTaking(sqlite3.Connection):
    """A connection that keeps its process's turn from BEGIN until its transaction has ended."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Open the file; whose turn it is, :meth:`share` says."""
        super().__init__(*args, **kwargs)
        self._turn = threading.Lock()
        self._is_mine = False

    def share(self, turn: threading.Lock) -> None:
        """Take turns with all connections that share ``turn``."""
        self._turn = turn

    def begin_writing(self, begin: Callable[[], object]) -> None:
        """Begin a transaction that may write, as soon as it may.

        Where that fails, or the connection's busy timeout is over, ``begin`` executes the same
        statement once more and at once, so that the error has the form that the caller knows.
        """
        (patience_ms,) = self.execute("PRAGMA busy_timeout").fetchone()
        until = time.monotonic() + patience_ms / 1000
        try:
            self._is_mine = self._turn.acquire(timeout=patience_ms / 1000)
            self.execute("PRAGMA busy_timeout = 0")
            while (code := self._try_to_begin()) == sqlite3.SQLITE_BUSY:
                if time.monotonic() >= until:
                    break
                time.sleep(POLL)
            if code != sqlite3.SQLITE_OK:
                begin()
        finally:
            self.execute(f"PRAGMA busy_timeout = {patience_ms}")
            if not self.in_transaction:
                self._leave()

    def _try_to_begin(self) -> int:
        try:
            self.execute("BEGIN IMMEDIATE")
        except sqlite3.DatabaseError as error:
            return error.sqlite_errorcode & _PRIMARY
        return sqlite3.SQLITE_OK

    def _leave(self) -> None:
        if self._is_mine:
            self._is_mine = False
            self._turn.release()

    def commit(self) -> None:
        """Commit, and give the turn away also if that fails: what follows is a rollback."""
        try:
            super().commit()
        finally:
            self._leave()

    def rollback(self) -> None:
        """Roll back, and give the turn away."""
        try:
            super().rollback()
        finally:
            self._leave()

    def close(self) -> None:
        """Close, and give the turn away."""
        try:
            super().close()
        finally:
            self._leave()
