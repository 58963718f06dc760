"""The head of a record: which version is the newest, and whose record it is, sealed.

Every version is signed, and the index names the newest. Whoever can write to the database could
name an older one instead, or make somebody else the author, who may read. So what the index says
of both lies beside it once more under the patient's key, bound to the record, and is compared
whenever a record is opened. A record filed before there were later versions has no head until
its next version, and then has one version only: more of them without a head are refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from medportal.core import canonical
from medportal.records.errors import RecordDamaged
from medportal.records.models import Record, RecordVersion
from medportal.records.store import IndexEntry
from medportal.vault.errors import VaultError
from medportal.vault.service import Vault

PURPOSE = "record-head"


@dataclass(frozen=True, slots=True)
class Head:
    """What is sealed: the newest version and its content, how it stands, and the author."""

    version: int
    content_digest: bytes
    status: str
    replaces: bytes | None
    author_id: str | None

    def to_bytes(self) -> bytes:
        """Return the bytes that are sealed."""
        return canonical.encode(
            [self.version, self.content_digest, self.status, self.replaces, self.author_id]
        )


def renew(session: Session, vault: Vault, record: Record) -> None:
    """Seal what the index says now of a record whose rows were written, under its lock."""
    newest = session.get_one(RecordVersion, (record.id, record.current_version))
    head = Head(
        newest.version,
        newest.content_digest,
        newest.status,
        newest.replaces,
        record.local_author_id,
    )
    record.head = vault.seal_note(session, record.patient_id, PURPOSE, record.id, head.to_bytes())


def opened(
    session: Session, vault: Vault, entries: Sequence[IndexEntry]
) -> Mapping[str, bytes | VaultError]:
    """Return the opened heads of records, by record, of those that have one."""
    sealed = [(one.patient_id, one.id, one.head) for one in entries if one.head is not None]
    if not sealed:
        return {}
    found = vault.open_notes(session, PURPOSE, sealed)
    return {
        record_id: head for (_patient, record_id, _head), head in zip(sealed, found, strict=True)
    }


def check(entry: IndexEntry, found: bytes | VaultError | None) -> None:
    """Refuse an index that names another newest version, or another author, than was filed.

    ``found`` is what :func:`opened` gave for the record.

    1. The newest version of the index is the highest that is held.
    2. It is the one that the head names; so is the author.
    3. Without a head there is one version alone.

    Raises ``RecordDamaged``.
    """
    if entry.newest != entry.highest:  # 1
        raise RecordDamaged("index")
    if entry.head is None:
        if entry.lowest != entry.highest:  # 3
            raise RecordDamaged("index")
        return
    if not isinstance(found, bytes) or found != _of(entry).to_bytes():  # 2
        raise RecordDamaged("index")


def _of(entry: IndexEntry) -> Head:
    return Head(
        entry.newest,
        entry.newest_digest,
        entry.newest_status,
        entry.newest_replaces,
        entry.local_author_id,
    )
