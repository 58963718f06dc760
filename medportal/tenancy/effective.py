"""An institution as its file and its admins have it, kept up to date in this process.

Every request asks for it, so it is kept in memory and looked after every two seconds, by
whoever comes first, with one query on a primary key. A database that does not answer changes
nothing: what was known last counts, and before anything is known the file, which the admins'
changes only make stricter. Pages that need the database say themselves what is wrong with it.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import structlog
from sqlalchemy.orm import Session

from medportal.tenancy import store
from medportal.tenancy.errors import TenantBehind
from medportal.tenancy.overlay import Overlaid, UnreadableChanges, Why, apply, load
from medportal.tenancy.tenant import Tenant
from medportal.web.colour import contrast
from medportal.web.errors import kinds, places

log = structlog.get_logger()
REFRESH_SECONDS = 2.0
#: How long a request waits for another one's look where it must not go on with what it knows.
PATIENCE_SECONDS = 2.0
Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class _Known:
    """What was found at the last look; ``mark`` is number and time of its version."""

    overlaid: Overlaid
    mark: tuple[int, datetime] | None = None
    #: When to look again; a look was never taken if this is 0.
    until: float = 0.0

    @property
    def version(self) -> int:
        return self.mark[0] if self.mark else store.NONE


class EffectiveTenant:
    """One institution, as its file and the newest version of its settings have it."""

    def __init__(
        self, file: Tenant, reader: Callable[[], Session], clock: Clock = time.monotonic
    ) -> None:
        """Prepare; nothing is read before it is asked for. ``reader`` opens a session."""
        self._file = file
        self._reader = reader
        self._clock = clock
        self._looking = threading.Lock()
        self._known = _Known(Overlaid(file))
        #: A version that is known to be there: an older one is not good enough.
        self._least = store.NONE

    def current(self) -> Tenant:
        """Return the institution as it is now, or was two seconds ago. Raises nothing."""
        known = self._known
        if self._is_good(known):
            return known.overlaid.tenant
        # Only one looks. Others go on with what is known, unless that is nothing, or older
        # than what this process saved itself.
        must_wait = not known.until or known.version < self._least
        if self._looking.acquire(timeout=PATIENCE_SECONDS if must_wait else 0):
            try:
                if not self._is_good(self._known):
                    self._known = self._look()
            finally:
                self._looking.release()
        return self._known.overlaid.tenant

    def saved(self, version: int) -> None:
        """Note that this process has saved a version: from now on it counts."""
        self._least = max(self._least, version)

    def _is_good(self, known: _Known) -> bool:
        return self._clock() < known.until and known.version >= self._least

    def _look(self) -> _Known:
        least, known = self._least, self._known
        try:
            with self._reader() as session:
                found = self._read(session, known)
        except TenantBehind:
            # The log says so already wherever the database is needed.
            found = known
        except Exception as error:  # Whatever it is, pages that need no database go on.
            log.warning(
                "settings-unread", tenant=self._file.id, kinds=kinds(error), places=places(error)
            )
            found = known
        if found.version < least == self._least:
            # The database does not answer, or was restored: nothing is gained by asking at each
            # request.
            self._least = found.version
        return _Known(found.overlaid, found.mark, self._clock() + REFRESH_SECONDS)

    def _read(self, session: Session, known: _Known) -> _Known:
        """Return what the database has; the row itself is read only if it is another one."""
        mark = store.newest_mark(session)
        if mark == known.mark and known.until:
            return known
        row = store.newest(session)
        if row is None:
            return _Known(Overlaid(self._file))
        overlaid = overlaid_of(self._file, row.changes, row.logo)
        if overlaid.left_out:
            log.warning(
                "settings-left-out",
                tenant=self._file.id,
                version=row.version,
                keys=sorted(overlaid.left_out),
            )
        return _Known(overlaid, (row.version, row.at))


def overlaid_of(file: Tenant, changes: str, logo: bytes | None) -> Overlaid:
    """Return a tenant's file with a stored version; one that cannot be read leaves the file."""
    try:
        return apply(file, load(changes), logo, contrast)
    except UnreadableChanges:
        return Overlaid(file, {"changes": Why.MALFORMED})
