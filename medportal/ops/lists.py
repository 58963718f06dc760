"""Revocation lists reach processes whose host has a copy of the keys.

A thread beside sender and receiver looks at the database now and then; each new connection reads
the files, so a list that was taken up is in the next handshake.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
from sqlalchemy.exc import SQLAlchemyError

from medportal.core.clock import Clock, utcnow
from medportal.delivery import lists
from medportal.pki.errors import PkiError
from medportal.tenancy.registry import Database

log = structlog.get_logger()
#: One short query; a withdrawal should reach partners soon.
EVERY_SECONDS = 60.0
#: A look under way is short; whoever stops waits for it so long.
STOP_SECONDS = 10.0


@contextmanager
def keeping_lists(
    database: Database,
    directory: Path,
    clock: Clock = utcnow,
    every_seconds: float = EVERY_SECONDS,
) -> Iterator[None]:
    """Take up posted lists at once and then every so often, while the body runs."""
    stop = threading.Event()

    def keep() -> None:
        while not stop.is_set():
            look(database, directory, clock)
            stop.wait(every_seconds)

    thread = threading.Thread(target=keep, name="revocation-lists", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(STOP_SECONDS)


def look(database: Database, directory: Path, clock: Clock = utcnow) -> list[int]:
    """Take up what is posted and newer; return the numbers of the lists.

    What is wrong is logged and tried again at the next look: the list that is here goes on, and
    partners say when it becomes old.
    """
    try:
        with database.reader() as session:
            taken = lists.take_up(session, directory, clock())
    except (PkiError, SQLAlchemyError, OSError) as error:
        log.warning("revocation list not taken up", why=type(error).__name__)
        return []
    for number in taken:
        log.info("revocation list taken up", number=number)
    return taken
