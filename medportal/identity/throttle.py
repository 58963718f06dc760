"""Growing delays after failed tries to get in.

Counted are failures, three ways:

* of one account from one network, in the last hour: four are free, then each waits twice as
  long as the one before, up to five minutes;
* of one network over all accounts, in each ten minutes of the clock: 300 first failures, of an
  account that had none from this network in the last hour, and 150 further ones. A whole
  institution may sit behind one address: the first is more than a hospital of some thousands
  fails at the change of shifts, and whoever has not failed is not kept waiting by those who try
  on and on. A program behind that address can use both up, with 300 numbers. Then those wait
  whose browser is not known, ten minutes at the longest: no failure of anybody's makes it
  longer, and the next ten minutes begin with the whole budget, for everybody;
* of one account over all networks, in the last hour. More than fifty are nobody's bad memory: a
  program is guessing from many addresses. From then on, until it stops, a network has one
  try at that account and then waits five minutes. The person is told by mail.

So K networks get at most 1,224 + 289 K tries at one account in a day: fifty-one an hour that do
not look like an attack, and one each five minutes. Networks are what a guesser pays for: an
IPv6 customer's /64 is one, and while an account is attacked a /48, which some get for nothing.
Over all accounts one network gets at most 2,700 failures in an hour.

Strangers lock nobody out: whoever comes from a network that did not fail is let try at once,
and a browser in which the person has signed in before is counted by itself, for the account and
not for the network, so that not even a colleague or a program behind the same address can keep
somebody waiting (as OWASP describes under "device cookies").

The last hour is the hour of the clock and, of the one before, the part that is not yet an hour
ago, as if its failures had been spread evenly. Each key has two rows, of the odd and the even
hour, written by one statement each and deleted when they no longer count, so that strangers
cannot fill the table. Hashes keep it from naming anybody at a glance; they are no secret from
somebody who tries every number and address. (The addresses of sessions stand beside.)
"""

import hashlib
import ipaddress
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import case, delete, or_, select, update
from sqlalchemy.orm import Session

from medportal.db.dialect import insert_or
from medportal.identity.models import SignInThrottle

FREE_TRIES_PAIR = 4
#: First failures of accounts from one network in ten minutes, and further ones of the same.
FIRST_FAILURES = 300
FURTHER_FAILURES = 150
#: More failures of an account in an hour than anybody makes who forgot a password.
MANY = 50
LONGEST_SECONDS = 300
#: How often a person is told of failures, at most.
TELL_AGAIN_AFTER = timedelta(days=1)
_HOUR = timedelta(hours=1)
_TEN_MINUTES = timedelta(minutes=10)
_SLOTS = (b"even", b"odd")
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Keys:
    """What a try is counted under, hashed, so that the table names nobody.

    ``wide`` takes the place of ``pair`` while the account is attacked. It is the same for a
    browser that is known to be the account's owner's: what strangers do is not its affair.
    """

    pair: bytes
    wide: bytes
    address: bytes
    account: bytes
    is_known: bool = False

    @property
    def first(self) -> bytes:
        """Under which the network's first failures of accounts are counted."""
        return _hash("first", self.address.hex())

    @property
    def further(self) -> bytes:
        """Under which the network's further failures of accounts are counted."""
        return _hash("further", self.address.hex())


@dataclass(frozen=True, slots=True)
class _Counted:
    """The failures of the last hour under one key, and when the last one was."""

    failures: int = 0
    last_at: datetime = _BEGINNING


def keys(
    kind: str, account: str, address: str, *, browser: str | None = None, anywhere: bool = False
) -> Keys:
    """Return the keys of a try.

    ``kind`` says what is tried ("sign-in", "code", "second-factor" ...), ``account`` whose:
    a number as typed, or a person's id. An ``address`` that is none is taken as it stands.
    ``browser`` is the id of one that has proved before to be the account's owner's. With
    ``anywhere`` tries from all other places are counted together, as if from one network.
    """
    network, wide = (_network(address, prefix) for prefix in (64, 48))
    where = ("pair", network, wide)
    if anywhere:
        where = ("anywhere", "", "")
    if browser:
        where = ("browser", browser, browser)
    return Keys(
        pair=_hash(where[0], kind, account, where[1]),
        wide=_hash(where[0], kind, account, where[2]),
        address=_hash("address", kind, network),
        account=_hash("account", kind, account),
        is_known=browser is not None,
    )


def seconds_to_wait(session: Session, of: Keys, now: datetime) -> int:
    """Return how many seconds have to pass before the next try; 0 for none."""
    counted = _counted(session, (of.pair, of.wide, of.account), now)
    pair, wide = counted[of.pair], counted[of.wide]
    own = _left(pair, _delay(pair, FREE_TRIES_PAIR, LONGEST_SECONDS), now)
    if of.is_known:
        return own
    waits = [own, _until_budget(session, of, now, is_first=pair.failures == 0)]
    if counted[of.account].failures > MANY and wide.failures:
        waits.append(_left(wide, LONGEST_SECONDS, now))
    return max(waits)


def take_turn(session: Session, of: Keys, now: datetime) -> int:
    """Return what :func:`seconds_to_wait` does, once all who try the same before us are through.

    A try is checked before the slow comparison of passwords, so many at one moment would all
    pass. Whoever is about to answer calls this in the transaction that writes: of tries that
    come together, each is then looked at after the failures of those before it.
    """
    # To write a row as it is locks it. (SQLite has one writer at a time in any case.)
    _add(session, of.pair, now, 0)
    return seconds_to_wait(session, of, now)


def note_failure(session: Session, of: Keys, now: datetime, *, tell_after: int = MANY) -> int:
    """Count a failed try, in one statement for each key, so that none is lost in a crowd.

    Returns how many there were of the account in the last hour if its owner should be told
    of them now, which is for more than ``tell_after`` and once a day at most; otherwise 0.
    """
    # In this order for everybody, so that no two wait for rows of each other.
    for key in dict.fromkeys((of.pair, of.wide)):
        _add(session, key, now, 1)
    if not of.is_known:
        is_first = _counted(session, (of.pair,), now)[of.pair].failures == 1
        _add(session, of.first if is_first else of.further, now, 1, _TEN_MINUTES)
    _add(session, of.account, now, 1)
    failures = _counted(session, (of.account,), now)[of.account].failures
    return failures if failures > tell_after and _claim_telling(session, of, now) else 0


def forget(session: Session, of: Keys) -> None:
    """Forget the failures of an account from a network, after a success.

    Those of the network and of the account stay: a guesser's own success does not wash away
    what they did to others, and the owner's not what a guesser does elsewhere.
    """
    rows = [key for of_pair in {of.pair, of.wide} for key in _rows(of_pair)]
    session.execute(delete(SignInThrottle).where(SignInThrottle.key.in_(rows)))


def forget_part(session: Session, of: Keys, part: Keys) -> None:
    """Forget those failures under ``of`` that were counted under ``part`` too, and ``part``."""
    for whole, counted in zip(_rows(of.pair), _rows(part.pair), strict=True):
        found = session.execute(
            select(SignInThrottle.failures, SignInThrottle.last_failure_at).where(
                SignInThrottle.key == counted
            )
        ).one_or_none()
        if found is None:
            continue
        begun = _begun(found.last_failure_at, _HOUR)
        left = SignInThrottle.failures - found.failures
        session.execute(
            update(SignInThrottle)
            .where(
                SignInThrottle.key == whole,
                # The row may have begun anew since, without them.
                SignInThrottle.last_failure_at >= begun,
                SignInThrottle.last_failure_at < begun + _HOUR,
            )
            .values(failures=case((left > 0, left), else_=0))
        )
    forget(session, part)


def forget_old(session: Session, now: datetime) -> None:
    """Delete counters that no longer count."""
    last = SignInThrottle.last_failure_at
    no_longer_counts = (SignInThrottle.failures > 0) & (last < now - 2 * _HOUR)
    session.execute(
        delete(SignInThrottle).where(or_(no_longer_counts, last < now - TELL_AGAIN_AFTER))
    )


def _network(address: str, prefix: int) -> str:
    """Return whose address this is: an IPv6 customer has a whole network to choose from."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    return str(ipaddress.ip_network((parsed.packed, prefix), strict=False))


def _until_budget(session: Session, of: Keys, now: datetime, *, is_first: bool) -> int:
    """Return how many seconds are left of ten minutes in which a network used its budget up."""
    key, most = (of.first, FIRST_FAILURES) if is_first else (of.further, FURTHER_FAILURES)
    begun = _begun(now, _TEN_MINUTES)
    used = session.scalar(
        select(SignInThrottle.failures).where(
            SignInThrottle.key == _rows(key)[_slot(now, _TEN_MINUTES)],
            SignInThrottle.last_failure_at >= begun,
        )
    )
    left = (begun + _TEN_MINUTES - now).total_seconds()
    return math.ceil(left) if used is not None and used >= most else 0


def _add(
    session: Session, key: bytes, now: datetime, count: int, period: timedelta = _HOUR
) -> None:
    """Add to the row of this hour, which begins anew where it is still that of two hours ago."""
    row = _rows(key)[_slot(now, period)]
    # A row that is only locked must not look like a failure of now.
    last_at = now if count else _BEGINNING
    insert = insert_or(session, SignInThrottle).values(
        key=row, failures=count, last_failure_at=last_at
    )
    is_old = SignInThrottle.last_failure_at < _begun(now, period)
    changed: dict[str, Any] = {
        "failures": case((is_old, count), else_=SignInThrottle.failures + count)
    }
    if count:
        changed["last_failure_at"] = now
    session.execute(insert.on_conflict_do_update(index_elements=[SignInThrottle.key], set_=changed))


def _counted(session: Session, of: tuple[bytes, ...], now: datetime) -> Mapping[bytes, _Counted]:
    """Return the failures of the last hour under each key."""
    rows = session.execute(
        select(SignInThrottle.key, SignInThrottle.failures, SignInThrottle.last_failure_at).where(
            SignInThrottle.key.in_([row for key in of for row in _rows(key)])
        )
    )
    found = {row.key: _Counted(row.failures, row.last_failure_at) for row in rows}
    this, before = _slot(now, _HOUR), 1 - _slot(now, _HOUR)
    return {
        key: _last_hour(
            found.get(_rows(key)[this], _Counted()), found.get(_rows(key)[before], _Counted()), now
        )
        for key in of
    }


def _last_hour(this: _Counted, before: _Counted, now: datetime) -> _Counted:
    begun = _begun(now, _HOUR)
    failures = this.failures if this.last_at >= begun else 0
    if begun - _HOUR <= before.last_at < begun:
        # Of ten failures in the hour before, five still count at half past.
        failures += math.ceil(before.failures * (begun + _HOUR - now) / _HOUR)
    return _Counted(failures, max(this.last_at, before.last_at))


def _delay(counted: _Counted, free: int, longest: int) -> int:
    over = counted.failures - free
    return min(longest, 2 ** min(over, 16)) if over > 0 else 0


def _left(counted: _Counted, delay: int, now: datetime) -> int:
    left = (counted.last_at + timedelta(seconds=delay) - now).total_seconds()
    return max(0, math.ceil(left)) if delay else 0


def _claim_telling(session: Session, of: Keys, now: datetime) -> bool:
    """Tell whether nobody told the account's owner of late; from now on, somebody did."""
    insert = insert_or(session, SignInThrottle).values(
        key=_hash("told", of.account.hex()), failures=0, last_failure_at=now
    )
    claimed = session.execute(
        insert.on_conflict_do_update(
            index_elements=[SignInThrottle.key],
            set_={"last_failure_at": now},
            where=SignInThrottle.last_failure_at < now - TELL_AGAIN_AFTER,
        ).returning(SignInThrottle.key)
    )
    return claimed.one_or_none() is not None


def _rows(key: bytes) -> tuple[bytes, bytes]:
    even, odd = (hashlib.sha256(slot + key).digest() for slot in _SLOTS)
    return even, odd


def _slot(now: datetime, period: timedelta) -> int:
    return (now - _BEGINNING) // period % 2


def _begun(now: datetime, period: timedelta) -> datetime:
    return _BEGINNING + (now - _BEGINNING) // period * period


def _hash(*parts: str) -> bytes:
    text = "\0".join(("medportal throttle", *parts))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
