"""The vault of one tenant: records sealed and opened under each patient's own key."""

from datetime import datetime

from sqlalchemy.orm import Session

from medportal.core.clock import Clock, utcnow
from medportal.vault import envelope, store
from medportal.vault.errors import PatientKeyDestroyed, PatientKeyMissing
from medportal.vault.keyring import TenantKeyring, WrappedKey, new_key
from medportal.vault.models import PatientKey


class Vault:
    """Holds a tenant's opened keyring; shows it to nobody, also not in ``repr``."""

    __slots__ = ("_clock", "_keyring", "tenant_id")

    def __init__(self, tenant_id: str, keyring: TenantKeyring, clock: Clock = utcnow) -> None:
        """Take an opened keyring; ``clock`` stamps keys made here."""
        self.tenant_id = tenant_id
        self._keyring = keyring
        self._clock = clock

    def patient_key(self, session: Session, patient_id: str, create: bool = False) -> bytes:
        """Return a patient's key, made now if there is none and ``create`` says so.

        Two transactions that make one at once end with the same key. Raises
        ``PatientKeyMissing``, ``PatientKeyDestroyed``, ``Tampered`` or ``UnknownVersion``.
        """
        row = store.find_patient_key(session, patient_id)
        if row is None and create:
            self._insert_key(session, patient_id)
            row = store.find_patient_key(session, patient_id)
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

    def _note_context(self, patient_id: str, purpose: str, note_id: str) -> dict[str, str | int]:
        return {
            "tenant": self.tenant_id,
            "patient": patient_id,
            "purpose": purpose,
            "note": note_id,
        }

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
        version = int.from_bytes(sealed[:4], "big")
        key = self._keyring.account_key(version)
        context = self._secret_context(purpose, owner, version)
        return envelope.open_(key, sealed[4:], context=context)

    def _secret_context(self, purpose: str, owner: str, version: int) -> dict[str, str | int]:
        return {"tenant": self.tenant_id, "purpose": purpose, "owner": owner, "version": version}

    def destroy_patient_key(self, session: Session, patient_id: str, now: datetime) -> None:
        """Forget a patient's key for good: erasure. Backups of the row must go too.

        Raises ``PatientKeyMissing``; again on a destroyed key it changes nothing.
        """
        row = store.find_patient_key(session, patient_id)
        while row is not None and row.wrapped is not None:
            # A rotation may rewrap between reading and writing: then read again.
            store.swap_patient_key(
                session, patient_id, row.wrapped, {"wrapped": None, "destroyed_at": now}
            )
            row = store.find_patient_key(session, patient_id)
        if row is None:
            raise PatientKeyMissing("this patient has no key")

    def rewrap_patient_keys(self, session: Session, limit: int = 500) -> int:
        """Bring up to ``limit`` patient keys under the current tenant key; return how many.

        Zero means that nothing is left under older versions. Rows that somebody else
        changed meanwhile are left for the next call, which is why they count too.
        """
        rows = store.stale_patient_keys(session, self._keyring.current, limit)
        for row in rows:
            old = _living(row)
            fresh = self._keyring.rewrap(row.patient_id, old)
            values = {"wrapped": fresh.wrapped, "tenant_key_version": fresh.version}
            store.swap_patient_key(session, row.patient_id, old.wrapped, values)
        return len(rows)

    def _insert_key(self, session: Session, patient_id: str) -> None:
        wrapped = self._keyring.wrap_patient_key(patient_id, new_key())
        values = {
            "patient_id": patient_id,
            "tenant_key_version": wrapped.version,
            "wrapped": wrapped.wrapped,
            "created_at": self._clock(),
        }
        store.insert_if_absent(session, PatientKey, values)

    def _context(self, patient_id: str, record_id: str, version: int) -> dict[str, str | int]:
        return {
            "tenant": self.tenant_id,
            "patient": patient_id,
            "record": record_id,
            "version": version,
        }


def _living(row: PatientKey) -> WrappedKey:
    if row.wrapped is None:
        raise PatientKeyDestroyed("this patient's key was destroyed")
    return WrappedKey(row.tenant_key_version, row.wrapped)
