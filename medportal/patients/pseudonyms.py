"""Names for patients that only two institutions share (PURE).

A pseudonym is an HMAC-SHA-256 under a key of one pair of institutions over identifier scheme
and number (``transfer-protocol.md``, A record). It keeps numbers out of logs, indexes and the
hands of anyone outside the pair. A partner who holds the key could try every number: no more is
claimed.
"""

import hmac
import re
import unicodedata
from dataclasses import dataclass, field
from datetime import date
from hashlib import sha256

from medportal.core import canonical
from medportal.core.errors import MedportalError
from medportal.identity.names import folded

PSEUDONYM_BYTES = 32
_SCHEME = re.compile(r"[a-z][a-z0-9-]{1,30}")
_NUMBER = re.compile(r"[0-9A-Z]{4,32}")
_LEFT_OUT = re.compile(r"[\s./\-\u2010-\u2015]+")


class MalformedIdentifier(MedportalError):
    """An empty or malformed number, scheme or name, which must never be indexed or looked up."""


@dataclass(frozen=True, slots=True)
class PartnerKey:
    """The pseudonym key shared with one partner; two ids may be live at once."""

    partner: str
    key_id: str
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Demographics:
    """What a patient is found and compared by. ``identifiers`` are (scheme, number) pairs."""

    patient_id: str
    identifiers: tuple[tuple[str, str], ...] = field(repr=False)
    name: str = field(repr=False)
    birth_date: date = field(repr=False)


def check_scheme(scheme: str) -> str:
    """Return ``scheme``. Raises ``MalformedIdentifier`` unless it is a short lower-case slug."""
    if not _SCHEME.fullmatch(scheme):
        raise MalformedIdentifier("not an identifier scheme")
    return scheme


def normal_number(number: str) -> str:
    """Return the one form in which a number of any scheme is hashed.

    Full-width and other compatibility forms become plain, letters upper case; spaces, dots,
    slashes and hyphens that people type for legibility go; leading zeros stay. Whether a number
    is one of its scheme was checked when it was registered.

    Raises ``MalformedIdentifier`` unless 4 to 32 letters and digits remain, not all of them 0:
    results filed under an empty or placeholder number are how records reach the wrong person.
    """
    kept = _LEFT_OUT.sub("", unicodedata.normalize("NFKC", number)).upper()
    if not _NUMBER.fullmatch(kept) or not kept.strip("0"):
        raise MalformedIdentifier("not an identifier number")
    return kept


def pseudonym(key: bytes, scheme: str, number: str) -> bytes:
    """Return the 32-byte pseudonym of a number. Raises ``MalformedIdentifier``."""
    parts = ["medportal pseudonym 1", check_scheme(scheme), normal_number(number)]
    return _mac(key, parts)


def demographic_tag(key: bytes, name: str, birth_date: date) -> bytes:
    """Return 32 bytes that are equal for two equal people, without holding name or date.

    Raises ``MalformedIdentifier`` for a name without a letter.
    """
    return _mac(key, ["medportal demographics 1", normal_name(name), birth_date.isoformat()])


def same_tag(one: bytes, other: bytes) -> bool:
    """Compare two tags in constant time."""
    return hmac.compare_digest(one, other)


def normal_name(name: str) -> str:
    """Return a name as it is compared: no case, no accents, no punctuation, single spaces.

    "D'Ávila-Reis, JOSÉ" and "d avila reis  jose" are the same name; "Ana" and "Ana Maria" are not.

    Raises ``MalformedIdentifier`` if no letter remains.
    """
    words = folded(name)
    if not any(character.isalpha() for character in words):
        raise MalformedIdentifier("not a name")
    return words


def _mac(key: bytes, parts: list[str]) -> bytes:
    if len(key) < 32:
        raise ValueError("a pseudonym key has at least 32 bytes")
    return hmac.new(key, canonical.encode(parts), sha256).digest()
