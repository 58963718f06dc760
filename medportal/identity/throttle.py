"""Growing delays after failed sign-ins.

Counted are failures of one number from one address, and of one address over all numbers.
There is no counter of the number alone: with it a stranger could lock a person out.
"""

import hashlib
import ipaddress
import math
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import case, delete, select
from sqlalchemy.orm import Session

from medportal.db.dialect import insert_or
from medportal.identity.models import SignInThrottle

FREE_TRIES_PAIR = 4
FREE_TRIES_ADDRESS = 30
LONGEST_SECONDS = 300
#: A whole institution may share one address: its colleagues wait a little, never for long.
LONGEST_ADDRESS_SECONDS = 5
FORGET_AFTER = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Keys:
    """What a try is counted under, hashed, so that the table names nobody."""

    pair: bytes
    address: bytes


def keys(number: str, address: str) -> Keys:
    """Return the keys of a try."""
    network = _network(address)
    return Keys(_hash("pair", number, network), _hash("address", network))


def _network(address: str) -> str:
    """Return whose address this is: an IPv6 customer has a whole /64 to choose from."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return str(parsed)
    return str(ipaddress.ip_network((parsed, 64), strict=False))


def seconds_to_wait(session: Session, of: Keys, now: datetime) -> int:
    """Return how many seconds have to pass before the next try; 0 for none."""
    rows = session.scalars(
        select(SignInThrottle).where(SignInThrottle.key.in_([of.pair, of.address]))
    )
    return max((_wait(row, of, now) for row in rows), default=0)


def note_failure(session: Session, of: Keys, now: datetime) -> None:
    """Count a failed try, in one statement for each key, so that none is lost in a crowd."""
    for key in (of.pair, of.address):
        insert = insert_or(session, SignInThrottle).values(key=key, failures=1, last_failure_at=now)
        is_old = SignInThrottle.last_failure_at < now - FORGET_AFTER
        session.execute(
            insert.on_conflict_do_update(
                index_elements=[SignInThrottle.key],
                set_={
                    "failures": case((is_old, 1), else_=SignInThrottle.failures + 1),
                    "last_failure_at": now,
                },
            )
        )


def forget(session: Session, of: Keys) -> None:
    """Forget the failures of a number from an address, after a success."""
    session.execute(delete(SignInThrottle).where(SignInThrottle.key == of.pair))


def forget_old(session: Session, now: datetime) -> None:
    """Delete counters that no longer count."""
    session.execute(
        delete(SignInThrottle).where(SignInThrottle.last_failure_at < now - FORGET_AFTER)
    )


def _wait(row: SignInThrottle, of: Keys, now: datetime) -> int:
    is_pair = row.key == of.pair
    free = FREE_TRIES_PAIR if is_pair else FREE_TRIES_ADDRESS
    if row.failures <= free or row.last_failure_at < now - FORGET_AFTER:
        return 0
    longest = LONGEST_SECONDS if is_pair else LONGEST_ADDRESS_SECONDS
    delay = min(longest, 2 ** min(row.failures - free, 16))
    left = (row.last_failure_at + timedelta(seconds=delay) - now).total_seconds()
    return max(0, math.ceil(left))


def _hash(*parts: str) -> bytes:
    text = "\0".join(("medportal throttle", *parts))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
