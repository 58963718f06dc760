"""The tenant's keys, by version, and the patient keys they wrap (PURE)."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from medportal.vault.errors import InvalidKey, Tampered, UnknownVersion
from medportal.vault.kdf import KEY_LENGTH, check_key, context_bytes, derive, unwrap, wrap

_LABEL = "medportal patient key 1"


def new_key() -> bytes:
    """Return 256 random bits."""
    return secrets.token_bytes(KEY_LENGTH)


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A patient's key under the tenant key of ``version``; says nothing without it."""

    version: int
    wrapped: bytes


@dataclass(frozen=True, slots=True)
class TenantKeyring:
    """All tenant keys that are still needed for opening, and which one wraps new keys.

    Versions count from 1. ``distrusted`` is the highest version that somebody else may know: what
    is wrapped under it or an older one is made anew, not wrapped again. ``made`` says when
    versions were made, as far as that is known. Raises ``InvalidKey`` if a key is not 32 bytes or
    the current version is not among them, or is distrusted.
    """

    versions: Mapping[int, bytes] = field(repr=False)
    current: int
    distrusted: int = 0
    made: Mapping[int, datetime] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a ring that could not wrap, before anything depends on it."""
        if self.current not in self.versions:
            raise InvalidKey("the current version is not in the keyring")
        if any(version < 1 for version in self.versions):
            raise InvalidKey("versions count from 1")
        if self.distrusted >= self.current:
            raise InvalidKey("the current version is distrusted")
        for key in self.versions.values():
            check_key(key)

    @classmethod
    def generate(cls, now: datetime | None = None) -> "TenantKeyring":
        """Return a ring of one random key, version 1."""
        return cls({1: new_key()}, 1, made=_dated(1, now))

    def rotated(self, now: datetime | None = None) -> "TenantKeyring":
        """Return a ring with one more random key, now current; the old ones still open."""
        version = max(self.versions) + 1
        return replace(
            self,
            versions={**self.versions, version: new_key()},
            current=version,
            made={**self.made, **_dated(version, now)},
        )

    def distrusting(self, now: datetime | None = None) -> "TenantKeyring":
        """Return a rotated ring in which every version so far counts as known to a thief."""
        return replace(self.rotated(now), distrusted=self.current)

    def trusted(self) -> "TenantKeyring":
        """Return this ring with every version trusted, once the distrusted ones are gone.

        Raises ``InvalidKey`` while one is here.
        """
        if any(version <= self.distrusted for version in self.versions):
            raise InvalidKey("a distrusted version is still in the keyring")
        return replace(self, distrusted=0)

    def with_older(self, older: "TenantKeyring") -> "TenantKeyring":
        """Return this ring with the versions of an earlier one, which then still open."""
        return replace(self, versions={**older.versions, **self.versions})

    @property
    def older(self) -> tuple[int, ...]:
        """The versions that are here besides the current one, oldest first."""
        return tuple(sorted(version for version in self.versions if version != self.current))

    def without(self, version: int) -> "TenantKeyring":
        """Return a ring that forgot ``version``, once nothing is wrapped under it any more.

        Raises ``InvalidKey`` for the current version.
        """
        rest = {known: key for known, key in self.versions.items() if known != version}
        made = {known: moment for known, moment in self.made.items() if known != version}
        return replace(self, versions=rest, made=made)

    def wrap_patient_key(self, patient_id: str, key: bytes) -> WrappedKey:
        """Wrap a patient's key under the current tenant key, bound to patient and version."""
        bound_to = _bound_to(patient_id, self.current)
        return WrappedKey(self.current, wrap(self.versions[self.current], key, bound_to))

    def unwrap_patient_key(self, patient_id: str, wrapped: WrappedKey) -> bytes:
        """Return a patient's key.

        Raises ``UnknownVersion`` if the tenant key is not in this ring, ``Tampered`` if
        the bytes were changed or belong to another patient, version or tenant.
        """
        tenant_key = self.versions.get(wrapped.version)
        if tenant_key is None:
            raise UnknownVersion(f"tenant key version {wrapped.version} is not in the keyring")
        key = unwrap(tenant_key, wrapped.wrapped, _bound_to(patient_id, wrapped.version))
        if key is None:
            raise Tampered("the wrapped key was changed or belongs elsewhere")
        return key

    def account_key(self, version: int) -> bytes:
        """Return the key that seals secrets of accounts under a version of the tenant key.

        Raises ``UnknownVersion``.
        """
        tenant_key = self.versions.get(version)
        if tenant_key is None:
            raise UnknownVersion(f"tenant key version {version} is not in the keyring")
        return derive(tenant_key, context_bytes("medportal account secrets 1", {}))

    def rewrap(self, patient_id: str, wrapped: WrappedKey) -> WrappedKey:
        """Return the same patient key under the current tenant key."""
        return self.wrap_patient_key(patient_id, self.unwrap_patient_key(patient_id, wrapped))


def _bound_to(patient_id: str, version: int) -> bytes:
    return context_bytes(_LABEL, {"patient": patient_id, "version": version})


def _dated(version: int, now: datetime | None) -> dict[int, datetime]:
    return {} if now is None else {version: now}
