"""Purposes of keys, and the profile of each (PURE).

Two kinds of fact. What a purpose *means* to whoever verifies (its object identifier, algorithm
and TLS uses) is protocol: both sides must agree, so it stands in code, and in
``pki/profiles.toml`` for people to read: a file that says otherwise is refused. What an institution
may decide for itself (lifetimes, which process holds which key, limits for revocation lists) is
data in that file alone, parsed here and read by :func:`medportal.pki.layout.load_profiles`.

Purposes are certified as extended key usages under an arc of our own, ``2.25.<UUID>`` (ITU-T
X.667: a UUID as an integer needs no registration authority): arc.1.n, n as in ``_MEANINGS``.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from cryptography.x509 import ObjectIdentifier
from cryptography.x509.oid import ExtendedKeyUsageOID

from medportal.core.errors import ConfigurationError

ARC = "2.25.294262200604888171206903006699685785092"
INSTITUTION_URN = "urn:medportal:institution:"
_SLUG = re.compile(r"[a-z][a-z0-9-]{1,30}")

# Chromium and Safari refuse web certificates that are valid for more than 398 days.
LONGEST_WEB_LIFETIME = timedelta(days=397)


class Purpose(StrEnum):
    """What one key is for. A key has exactly one purpose."""

    WEB = "web"
    EDGE = "edge"
    CHANNEL = "channel"
    EXCHANGE = "exchange"
    RECORD = "record"
    RECEIPT = "receipt"
    HEAD = "head"
    HEAD_PQ = "head-pq"


class Algorithm(StrEnum):
    """Signature algorithms, by the names that stand in signed statements."""

    P256 = "ECDSA-P256"
    ED25519 = "Ed25519"
    ML_DSA_65 = "ML-DSA-65"


class Group(StrEnum):
    """Keys that the same processes hold, encrypted under one passphrase.

    ``PAIR`` is the share of the pseudonym keys, ``OUTBOX`` the key that opens what waits to be
    sent: groups of their own, because those who need them need different others.
    """

    CA = "ca"
    PORTAL = "portal"
    PAIR = "pair"
    EXCHANGE = "exchange"
    OUTBOX = "outbox"
    JOBS = "jobs"
    EDGE = "edge"


CERTIFIED = (Group.PORTAL, Group.EXCHANGE, Group.JOBS, Group.EDGE)
"""The groups that a certified key can be of."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a purpose means to whoever verifies a certificate."""

    number: int
    algorithm: Algorithm
    tls_uses: tuple[ObjectIdentifier, ...] = ()

    @property
    def oid(self) -> ObjectIdentifier:
        """The extended key usage that stands for the purpose."""
        return ObjectIdentifier(f"{ARC}.1.{self.number}")

    @property
    def uses(self) -> frozenset[ObjectIdentifier]:
        """All extended key usages that a certificate of this purpose has, no more, no fewer."""
        return frozenset((*self.tls_uses, self.oid))


_SERVER = ExtendedKeyUsageOID.SERVER_AUTH
_CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH

# Browsers refuse Ed25519, so what speaks TLS is P-256; what signs for us is Ed25519. Numbers are
# never reused for another meaning.
_MEANINGS: Mapping[Purpose, Meaning] = MappingProxyType(
    {
        Purpose.WEB: Meaning(1, Algorithm.P256, (_SERVER,)),
        Purpose.EDGE: Meaning(2, Algorithm.P256, (_CLIENT,)),
        Purpose.CHANNEL: Meaning(3, Algorithm.P256, (_SERVER, _CLIENT)),
        Purpose.EXCHANGE: Meaning(4, Algorithm.ED25519),
        Purpose.RECORD: Meaning(5, Algorithm.ED25519),
        Purpose.RECEIPT: Meaning(6, Algorithm.ED25519),
        Purpose.HEAD: Meaning(7, Algorithm.ED25519),
        Purpose.HEAD_PQ: Meaning(8, Algorithm.ML_DSA_65),
    }
)


def meaning(purpose: Purpose) -> Meaning:
    """Return what ``purpose`` means to whoever verifies."""
    return _MEANINGS[purpose]


def speaks_tls(purpose: Purpose) -> bool:
    """Tell whether a key of this purpose authenticates TLS connections (and signs nothing else)."""
    return bool(meaning(purpose).tls_uses)


_USES = {
    ExtendedKeyUsageOID.SERVER_AUTH: "serverAuth",
    ExtendedKeyUsageOID.CLIENT_AUTH: "clientAuth",
}
_PROTOCOL = ("key", "key_usage", "extended_key_usage", "alternative_names")
_CHOICES = ("group", "lifetime_days", "renew_before_days")


def protocol_of(purpose: Purpose) -> dict[str, str | list[str]]:
    """Return what stands in the data file about a purpose and is the same for everybody.

    It stands there for people, and so that a file from another version of the protocol is refused
    rather than half understood.
    """
    what = meaning(purpose)
    uses = [_USES[use] for use in what.tls_uses]
    names = ["dns", "institution"] if purpose is Purpose.WEB else ["institution"]
    return {
        "key": str(what.algorithm),
        "key_usage": ["digitalSignature"],
        "extended_key_usage": [*uses, what.oid.dotted_string.removeprefix(ARC)],
        "alternative_names": names,
    }


def tomlish(value: str | list[str]) -> str:
    """Return a value as it is written in the data file."""
    if isinstance(value, str):
        return f'"{value}"'
    return f"[{', '.join(map(tomlish, value))}]"


def is_institution(text: str) -> bool:
    """Tell whether ``text`` has the shape of an institution id: a short lower-case slug."""
    return _SLUG.fullmatch(text) is not None


def institution_uri(institution: str) -> str:
    """Return the URI that names an institution in certificates.

    Raises ``ValueError`` if ``institution`` is not a slug.
    """
    if not is_institution(institution):
        raise ValueError("an institution id is a short lower-case slug")
    return INSTITUTION_URN + institution


@dataclass(frozen=True, slots=True)
class CrlLimits:
    """How old a revocation list may be, counted from its ``thisUpdate``.

    The verifier's own limits: a list's ``nextUpdate`` can make it warn earlier, never later.
    ``skew`` is how far clocks may differ.
    """

    warn_after: timedelta
    refuse_after: timedelta
    skew: timedelta


@dataclass(frozen=True, slots=True)
class Profile:
    """What an institution decides about the keys of one purpose."""

    purpose: Purpose
    group: Group
    lifetime: timedelta
    renew_before: timedelta


@dataclass(frozen=True, slots=True)
class Profiles:
    """Everything in ``pki/profiles.toml``, checked.

    ``skew`` is how far clocks may differ, and so how far certificates are dated back.
    ``ca_overlap`` is how long a former authority vouches for the one after it.
    """

    purposes: Mapping[Purpose, Profile]
    ca_lifetime: timedelta
    ca_overlap: timedelta
    crl_lifetime: timedelta
    crl_limits: CrlLimits
    skew: timedelta

    def __getitem__(self, purpose: Purpose) -> Profile:
        return self.purposes[purpose]

    def of_group(self, group: str) -> tuple[Purpose, ...]:
        """Return the purposes whose keys the holder of ``group`` opens."""
        return tuple(purpose for purpose, item in self.purposes.items() if item.group == group)


def parse_profiles(text: str) -> Profiles:
    """Return the profiles that the TOML ``text`` describes.

    Raises ``ConfigurationError`` with every problem found, each naming its key.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"not TOML: {error}") from error
    return _Parser(data).profiles()


class _Parser:
    """Collects every problem before giving up."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._data = data
        self._problems: list[str] = []

    def profiles(self) -> Profiles:
        self._only(self._data, "", {"clock", "ca", "crl", "purpose"})
        skew = self._time("clock", "skew_minutes", timedelta(minutes=1))
        limits = CrlLimits(
            self._time("crl", "warn_after_days"), self._time("crl", "refuse_after_days"), skew
        )
        result = Profiles(
            purposes=MappingProxyType({purpose: self._profile(purpose) for purpose in Purpose}),
            ca_lifetime=self._time("ca", "lifetime_days"),
            ca_overlap=self._time("ca", "overlap_days"),
            crl_lifetime=self._time("crl", "lifetime_days"),
            crl_limits=limits,
            skew=skew,
        )
        self._only(self._table("clock"), "clock", {"skew_minutes"})
        self._only(self._table("ca"), "ca", {"lifetime_days", "overlap_days"})
        crl_keys = {"lifetime_days", "warn_after_days", "refuse_after_days"}
        self._only(self._table("crl"), "crl", crl_keys)
        self._only(self._table("purpose"), "purpose", {str(purpose) for purpose in Purpose})
        if not self._problems:
            self._weigh(result)
        if self._problems:
            raise ConfigurationError(*self._problems)
        return result

    def _profile(self, purpose: Purpose) -> Profile:
        where = f"purpose.{purpose}"
        self._only(self._table(where), where, {*_PROTOCOL, *_CHOICES})
        for key, right in protocol_of(purpose).items():
            if self._table(where).get(key) != right:
                self._problem(f"{where}.{key}", f"{tomlish(right)}, by the protocol")
        return Profile(
            purpose=purpose,
            group=self._group(where),
            lifetime=self._time(where, "lifetime_days"),
            renew_before=self._time(where, "renew_before_days"),
        )

    def _weigh(self, profiles: Profiles) -> None:
        """Note values that are well-formed each and wrong together."""
        for purpose, profile in profiles.purposes.items():
            if profile.renew_before >= profile.lifetime:
                self._problem(f"purpose.{purpose}.renew_before_days", "less than lifetime_days")
            if profile.lifetime > profiles.ca_lifetime:
                self._problem(f"purpose.{purpose}.lifetime_days", "at most ca.lifetime_days")
        if profiles[Purpose.WEB].lifetime > LONGEST_WEB_LIFETIME:
            self._problem("purpose.web.lifetime_days", "at most 397, or browsers refuse it")
        if profiles.crl_limits.refuse_after <= profiles.crl_limits.warn_after:
            self._problem("crl.refuse_after_days", "more than warn_after_days")
        if profiles.ca_overlap >= profiles.ca_lifetime:
            self._problem("ca.overlap_days", "less than lifetime_days")

    def _table(self, where: str) -> Mapping[str, Any]:
        table: Any = self._data
        for part in where.split("."):
            table = table.get(part, {}) if isinstance(table, dict) else {}
        return table if isinstance(table, dict) else {}

    def _time(self, where: str, key: str, unit: timedelta = timedelta(days=1)) -> timedelta:
        value = self._table(where).get(key)
        if type(value) is not int or not 0 < value <= 36_500:
            self._problem(f"{where}.{key}", "a whole number from 1 to 36500")
            return unit
        return value * unit

    def _group(self, where: str) -> Group:
        value = self._table(where).get("group")
        if value not in CERTIFIED:
            self._problem(f"{where}.group", f"one of {', '.join(CERTIFIED)}")
            return Group.PORTAL
        return Group(value)

    def _only(self, table: Mapping[str, Any], where: str, known: set[str]) -> None:
        for key in sorted(set(table) - known):
            name = f"{where}.{key}" if where else key
            self._problem(name, f"absent; known here: {', '.join(sorted(known))}")

    def _problem(self, key: str, right: str) -> None:
        self._problems.append(f"{key} should be {right}")
