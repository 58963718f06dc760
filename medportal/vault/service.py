"""The vault of one tenant: records sealed and opened under each patient's own key.

Why nothing is lost while keys change under a serving portal:

* A ring is asked for after the row that it is to open was read, and the file with a new tenant
  key is written before any row is wrapped under it: so the ring has every version that a row
  names. What the file forgets a process still opens with for a while.
* Whoever makes a patient key looks at the ring again after the insert: if the tenant key changed
  in between, the new row is wrapped again at once. If it changes later, whoever changes it waits
  for this transaction before the old version goes (``store.settle_patient_keys``).
* Whoever seals holds the row of the patient's key until the commit: a new patient key, and
  erasure, wait for that, and find what was sealed.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from medportal.core.clock import Clock, utcnow
from medportal.vault import envelope, store
from medportal.vault.errors import (
    PatientKeyDestroyed,
    PatientKeyMissing,
    Tampered,
    UnknownVersion,
    VaultError,
)
from medportal.vault.keyring import TenantKeyring, WrappedKey, new_key
from medportal.vault.models import PatientKey


class Vault:
    """Holds a tenant's opened keyring; shows it to nobody, also not in ``repr``."""

    __slots__ = ("_clock", "_rings", "tenant_id")

    def __init__(
        self,
        tenant_id: str,
        keyring: TenantKeyring | Callable[[], TenantKeyring],
        clock: Clock = utcnow,
    ) -> None:
        """Take an opened keyring, or what gives the one of the moment; ``clock`` stamps keys."""
        self.tenant_id = tenant_id
        self._rings = _always(keyring) if isinstance(keyring, TenantKeyring) else keyring
        self._clock = clock

    @property
    def _keyring(self) -> TenantKeyring:
        return self._rings()

    def patient_key(self, session: Session, patient_id: str, create: bool = False) -> bytes:
        """Return a patient's key, made now if there is none and ``create`` says so.

        Two transactions that make one at once end with the same key. Raises
        ``PatientKeyMissing``, ``PatientKeyDestroyed``, ``Tampered`` or ``UnknownVersion``.
        """
        find = store.hold_patient_key if create else store.find_patient_key
        row = find(session, patient_id)
        if row is None and create:
            self._insert_key(session, patient_id)
            row = find(session, patient_id)
        if row is None:
            raise PatientKeyMissing("this patient has no key")
        return self._keyring.unwrap_patient_key(patient_id, _living(row))

    def seal_record(
        self,
        session: Session,
        patient_id: str,
        record_id: str,
        version: int,
        plaintext: bytes,
    ) -> bytes:
        """Seal one version of a record; makes the patient's key if it is the first.

        Raises ``PatientKeyDestroyed``, ``Tampered`` or ``UnknownVersion``.
        """
        key = self.patient_key(session, patient_id, create=True)
        context = self._context(patient_id, record_id, version)
        return envelope.seal_document(key, plaintext, context)

    def open_record(
        self,
        session: Session,
        patient_id: str,
        record_id: str,
        version: int,
        sealed: bytes,
    ) -> bytes:
        """Open one version of a record.

        Raises ``Tampered`` if a bit changed or the bytes belong to another tenant, record or
        version, ``WrongKey`` if they belong to another patient, and what
        :meth:`patient_key` raises.
        """
        key = self.patient_key(session, patient_id)
        context = self._context(patient_id, record_id, version)
        return envelope.open_document(key, sealed, context)

    def open_records(
        self, session: Session, patient_id: str, sealed: Iterable[tuple[str, int, bytes]]
    ) -> list[bytes | VaultError]:
        """Open many records of one patient, given as (record, version, sealed bytes).

        The patient's key is fetched once. What one record does not open for stands in its
        place; raises what :meth:`patient_key` raises, for then none of them opens.
        """
        key = self.patient_key(session, patient_id)
        return [self._opened(key, patient_id, *each) for each in sealed]

    def _opened(
        self, key: bytes, patient_id: str, record_id: str, version: int, sealed: bytes
    ) -> bytes | VaultError:
        try:
            context = self._context(patient_id, record_id, version)
            return envelope.open_document(key, sealed, context)
        except VaultError as error:
            return error

    def seal_note(
        self, session: Session, patient_id: str, purpose: str, note_id: str, plaintext: bytes
    ) -> bytes:
        """Seal words about a patient that are no record: a rule's note, a reason, an answer.

        Under the patient's key, so that they go with it; bound to ``purpose`` and ``note_id``.
        """
        key = self.patient_key(session, patient_id, create=True)
        return envelope.seal_document(
            key, plaintext, self._note_context(patient_id, purpose, note_id)
        )

    def open_note(
        self, session: Session, patient_id: str, purpose: str, note_id: str, sealed: bytes
    ) -> bytes:
        """Return what :meth:`seal_note` sealed; raises as :meth:`open_record` does."""
        key = self.patient_key(session, patient_id)
        return envelope.open_document(key, sealed, self._note_context(patient_id, purpose, note_id))

    def open_notes(
        self, session: Session, purpose: str, sealed: Sequence[tuple[str, str, bytes]]
    ) -> list[bytes | VaultError]:
        """Open notes of many patients, given as (patient, note, sealed bytes).

        One query fetches all keys, and each is unwrapped once. What a note does not open for
        stands in its place.
        """
        rows = store.find_patient_keys(session, (patient_id for patient_id, *_rest in sealed))
        ring = self._keyring
        keys = {
            patient_id: _unwrapped(ring, patient_id, rows.get(patient_id))
            for patient_id in {patient_id for patient_id, *_rest in sealed}
        }
        return [
            self._opened_note(keys[patient_id], purpose, patient_id, note_id, each)
            for patient_id, note_id, each in sealed
        ]

    def _opened_note(
        self, key: bytes | VaultError, purpose: str, patient_id: str, note_id: str, sealed: bytes
    ) -> bytes | VaultError:
        if not isinstance(key, bytes):
            return key
        try:
            context = self._note_context(patient_id, purpose, note_id)
            return envelope.open_document(key, sealed, context)
        except VaultError as error:
            return error

    def _note_context(self, patient_id: str, purpose: str, note_id: str) -> dict[str, str | int]:
        return note_context(self.tenant_id, patient_id, purpose, note_id)

    def seal_secret(self, purpose: str, owner: str, secret: bytes) -> bytes:
        """Seal a small secret of an account, such as that of an authenticator app.

        Bound to tenant, ``purpose`` and ``owner`` (a person's id). The version of the tenant
        key stands in front, four bytes, and is authenticated.
        """
        version = self._keyring.current
        key = self._keyring.account_key(version)
        context = self._secret_context(purpose, owner, version)
        return version.to_bytes(4, "big") + envelope.seal(key, secret, context=context)

    def open_secret(self, purpose: str, owner: str, sealed: bytes) -> bytes:
        """Return what :meth:`seal_secret` sealed.

        Raises ``Tampered``, ``WrongKey`` or ``UnknownVersion``.
        """
        version = sealed_version(sealed)
        key = self._keyring.account_key(version)
        context = self._secret_context(purpose, owner, version)
        return envelope.open_(key, sealed[4:], context=context)

    def _secret_context(self, purpose: str, owner: str, version: int) -> dict[str, str | int]:
        return {"tenant": self.tenant_id, "purpose": purpose, "owner": owner, "version": version}

    def destroy_patient_key(self, session: Session, patient_id: str, now: datetime) -> None:
        """Forget a patient's key for good: erasure. Backups of the row must go too.

        Raises ``PatientKeyMissing``; again on a destroyed key it changes nothing.
        """
        if store.find_patient_key(session, patient_id) is None:
            raise PatientKeyMissing("this patient has no key")
        store.destroy_patient_key(session, patient_id, now)

    def rewrap_patient_keys(
        self, session: Session, limit: int = 500, after: str = ""
    ) -> "Rewrapped":
        """Bring up to ``limit`` patient keys under the current tenant key.

        ``after`` is where the batch before ended. A row that somebody else changed meanwhile, or
        that does not open, stays as it is; whoever goes on from the beginning meets it again.
        """
        ring = self._keyring
        found = store.stale_patient_keys(session, ring.current, limit, after)
        fresh, damaged = [], 0
        for patient_id, old in found:
            try:
                fresh.append((patient_id, old.wrapped, ring.rewrap(patient_id, old)))
            except (Tampered, UnknownVersion):
                damaged += 1
        store.swap_many(session, fresh)
        return Rewrapped(len(fresh), damaged, found[-1][0] if found else None)

    def reseal_secret(self, purpose: str, owner: str, sealed: bytes) -> bytes | None:
        """Return a secret of an account under the current tenant key; ``None`` if it is already.

        Raises what :meth:`open_secret` does.
        """
        if sealed_version(sealed) == self._keyring.current:
            return None
        return self.seal_secret(purpose, owner, self.open_secret(purpose, owner, sealed))

    def begin_rekey(self, session: Session, patient_id: str) -> "Rekeying | None":
        """Take a patient's key for this transaction, to give the patient another one.

        ``None`` where that is done already, or the key was destroyed. Raises ``Tampered`` or
        ``UnknownVersion``.
        """
        row = store.take_patient_key(session, patient_id)
        ring = self._keyring
        if row is None or row.wrapped is None or row.tenant_key_version > ring.distrusted:
            return None
        old = ring.unwrap_patient_key(patient_id, _living(row))
        return Rekeying(self.tenant_id, patient_id, row.wrapped, old, new_key(), ring)

    def _insert_key(self, session: Session, patient_id: str) -> None:
        wrapped = self._keyring.wrap_patient_key(patient_id, new_key())
        values = {
            "patient_id": patient_id,
            "tenant_key_version": wrapped.version,
            "wrapped": wrapped.wrapped,
            "created_at": self._clock(),
        }
        made_here = store.insert_if_absent(session, PatientKey, values)
        ring = self._keyring
        if made_here and ring.current != wrapped.version:
            fresh = ring.rewrap(patient_id, wrapped)
            store.swap_many(session, [(patient_id, wrapped.wrapped, fresh)])

    def _context(self, patient_id: str, record_id: str, version: int) -> dict[str, str | int]:
        return record_context(self.tenant_id, patient_id, record_id, version)


@dataclass(frozen=True, slots=True)
class Rewrapped:
    """A batch of patient keys: how many were wrapped again, how many do not open, its end."""

    done: int
    damaged: int
    last: str | None


@dataclass(frozen=True, slots=True)
class Rekeying:
    """A patient between two keys, within one transaction that holds the patient's row."""

    tenant_id: str
    patient_id: str
    _wrapped: bytes = field(repr=False)
    _old: bytes = field(repr=False)
    _new: bytes = field(repr=False)
    _ring: TenantKeyring = field(repr=False)

    def document(self, record_id: str, version: int, sealed: bytes) -> bytes:
        """Return a version of a record under the new key; raises ``Tampered`` or ``WrongKey``."""
        return self._again(
            sealed, record_context(self.tenant_id, self.patient_id, record_id, version)
        )

    def note(self, purpose: str, note_id: str, sealed: bytes) -> bytes:
        """Return sealed words under the new key; raises ``Tampered`` or ``WrongKey``."""
        return self._again(sealed, note_context(self.tenant_id, self.patient_id, purpose, note_id))

    def finish(self, session: Session) -> None:
        """Put the new key in the old one's place: last, when everything is sealed under it."""
        wrapped = self._ring.wrap_patient_key(self.patient_id, self._new)
        store.swap_many(session, [(self.patient_id, self._wrapped, wrapped)])

    def _again(self, sealed: bytes, context: dict[str, str | int]) -> bytes:
        plaintext = envelope.open_document(self._old, sealed, context)
        return envelope.seal_document(self._new, plaintext, context)


def sealed_version(sealed: bytes) -> int:
    """Return the version of the tenant key under which a secret of an account lies."""
    return int.from_bytes(sealed[:4], "big")


def _always(ring: TenantKeyring) -> Callable[[], TenantKeyring]:
    def same() -> TenantKeyring:
        return ring

    return same


def record_context(
    tenant_id: str, patient_id: str, record_id: str, version: int
) -> dict[str, str | int]:
    """Return what a sealed version of a record is bound to."""
    return {"tenant": tenant_id, "patient": patient_id, "record": record_id, "version": version}


def note_context(
    tenant_id: str, patient_id: str, purpose: str, note_id: str
) -> dict[str, str | int]:
    """Return what sealed words about a patient are bound to."""
    return {"tenant": tenant_id, "patient": patient_id, "purpose": purpose, "note": note_id}


def _unwrapped(ring: TenantKeyring, patient_id: str, row: PatientKey | None) -> bytes | VaultError:
    """Return a patient's key, or why there is none to open anything with."""
    if row is None:
        return PatientKeyMissing("this patient has no key")
    try:
        return ring.unwrap_patient_key(patient_id, _living(row))
    except VaultError as error:
        return error


def _living(row: Any) -> WrappedKey:
    if row.wrapped is None:
        raise PatientKeyDestroyed("this patient's key was destroyed")
    return WrappedKey(row.tenant_key_version, row.wrapped)
