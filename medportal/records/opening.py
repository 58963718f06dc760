"""Opening records: what is checked before anybody sees a word of one, one or many at once."""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from threading import Lock

from cryptography.hazmat.primitives.hashes import SHA256
from sqlalchemy.orm import Session

from medportal.access.errors import NotPermitted
from medportal.access.grants import Grant
from medportal.core.canonical import NotCanonical
from medportal.core.permissions import Permission
from medportal.keys import TenantKeys
from medportal.pki.errors import PkiError
from medportal.pki.profiles import Purpose
from medportal.pki.signatures import Signed, verify_kept
from medportal.records import head, statement
from medportal.records.content import ClinicalRecord, RecordStatus
from medportal.records.errors import FhirError, RecordDamaged, StatementError
from medportal.records.fhir import Reading, read
from medportal.records.glance import MALFORMED, Glance, day_of, glance
from medportal.records.statement import AuthorStatement, SealedContent
from medportal.records.store import IndexEntry
from medportal.vault.documents import DocumentStore
from medportal.vault.errors import VaultError

#: What a grant may be of to open a record.
OPENING = frozenset({Permission.RECORD_READ, Permission.PATIENT_VITALS})


@dataclass(frozen=True, slots=True)
class Opened:
    """A record that opened and whose signature verified.

    ``signed_statement`` is the statement as it is kept, for a copy that can be checked elsewhere.
    """

    entry: IndexEntry
    reading: Reading
    statement: AuthorStatement
    content: bytes
    signed_statement: bytes


@dataclass(frozen=True, slots=True)
class Proved:
    """A record that passed the checks of :func:`open_many`, at a glance."""

    entry: IndexEntry
    seen: Glance


#: What says of itself which record it is: a whole one, or one at a glance.
Told = ClinicalRecord | Glance


def open_record(
    session: Session,
    documents: DocumentStore,
    keys: TenantKeys,
    grant: Grant,
    entry: IndexEntry,
) -> Opened:
    """Open one record and verify its author's signature.

    Checks: 1. the stored document is the one that the index pins; 2. it opens under the
    patient's key, bound to tenant, patient, record and version; 3. the content is the one
    that the index pins; 4. the origin's record key signed exactly this content; 5. what the
    index says of it, from which access was decided, is what was signed; 6. the newest version and
    the author that it names are those that were filed.

    A grant of the vital signs opens a record too: whoever holds one shows nothing else of it
    (:mod:`medportal.records.vitals`). Raises ``RecordDamaged`` with the check that failed,
    ``NotPermitted`` for a grant of something else.
    """
    _require(grant, entry)
    try:
        found = _pinned(entry, documents.get(entry.document_id))  # 1
        opened = keys.vault.open_record(session, entry.patient_id, entry.id, entry.version, found)
    except VaultError as error:
        raise RecordDamaged("document") from error  # 2
    sealed = _content(entry, opened)  # 3
    reading, stated = _proved(keys, entry, sealed)  # 4, 5
    head.check(entry, head.opened(session, keys.vault, [entry]).get(entry.id))  # 6
    return Opened(entry, reading, stated, sealed.content, sealed.signed_statement)


def open_many(
    session: Session,
    documents: DocumentStore,
    keys: TenantKeys,
    wanted: Sequence[tuple[Grant, IndexEntry]],
) -> list[Proved | RecordDamaged]:
    """Open records of one patient at once and look at each, with the checks of :func:`open_record`.

    One query for all documents, one opening of the patient's key. That the bytes are the one
    encoding of a record was checked before they were filed, and is again by
    :func:`open_record`; the signature covers every byte of them. Whether it fits follows from
    these bytes, the index and the authority's list alone, so it is worked out once for each of
    them in this process and remembered by digest; content is never
    remembered. Where a record is damaged, the error stands in its place. Raises
    ``NotPermitted`` for a grant of something else, ``ValueError`` for records of two patients.
    """
    found = _opened_many(session, documents, keys, wanted)
    lists = _Lists(keys)
    looked = [_looked_at(lists, entry, opened) for entry, opened in found]
    new = [one.entry for one in looked if isinstance(one, _Unproved)]
    heads = head.opened(session, keys.vault, new)
    return [
        _now_proved(keys, one, heads.get(one.entry.id)) if isinstance(one, _Unproved) else one
        for one in looked
    ]


def open_whole(
    session: Session,
    documents: DocumentStore,
    keys: TenantKeys,
    wanted: Sequence[tuple[Grant, IndexEntry]],
) -> list[Opened | RecordDamaged]:
    """Open records of one patient at once, each as :func:`open_record` does.

    One query for all documents, one opening of the patient's key; several versions of one record
    may be among them. Raises as :func:`open_many` does.
    """
    found = _opened_many(session, documents, keys, wanted)
    heads = head.opened(session, keys.vault, [entry for entry, _opened in found])
    return [_wholly(keys, entry, opened, heads.get(entry.id)) for entry, opened in found]


def _opened_many(
    session: Session,
    documents: DocumentStore,
    keys: TenantKeys,
    wanted: Sequence[tuple[Grant, IndexEntry]],
) -> list[tuple[IndexEntry, bytes | RecordDamaged]]:
    """Return the entries in their order, each with what opened or why it did not."""
    for grant, entry in wanted:
        _require(grant, entry)
    entries = [entry for _grant, entry in wanted]
    if len({entry.patient_id for entry in entries}) > 1:
        raise ValueError("records of one patient at a time")
    found = documents.get_many(entry.document_id for entry in entries) if entries else {}
    pinned = [_pinned_of(found, entry) for entry in entries]
    opened = _opened_of(session, keys, entries, pinned)
    return list(zip(entries, opened, strict=True))


def _wholly(
    keys: TenantKeys,
    entry: IndexEntry,
    opened: bytes | RecordDamaged,
    found: bytes | VaultError | None,
) -> Opened | RecordDamaged:
    if isinstance(opened, RecordDamaged):
        return opened
    try:
        head.check(entry, found)  # 6
        sealed = _content(entry, opened)  # 3
        reading, stated = _proved(keys, entry, sealed)  # 4, 5
    except RecordDamaged as error:
        return error
    return Opened(entry, reading, stated, sealed.content, sealed.signed_statement)


def _require(grant: Grant, entry: IndexEntry) -> None:
    if grant.permission not in OPENING:
        raise NotPermitted(grant.permission)
    if (grant.patient_id, grant.record_id) != (entry.patient_id, entry.id):
        raise NotPermitted(grant.permission)


def _pinned_of(found: Mapping[str, bytes], entry: IndexEntry) -> bytes | RecordDamaged:
    sealed = found.get(entry.document_id)
    if sealed is None:
        return RecordDamaged("document")
    try:
        return _pinned(entry, sealed)  # 1
    except RecordDamaged as error:
        return error


def _opened_of(
    session: Session,
    keys: TenantKeys,
    entries: Sequence[IndexEntry],
    pinned: Sequence[bytes | RecordDamaged],
) -> list[bytes | RecordDamaged]:
    """Return what opened, in the order of the entries, and why the others did not."""
    result = list(pinned)
    whole = [
        (place, one, sealed)
        for place, (one, sealed) in enumerate(zip(entries, pinned, strict=True))
        if isinstance(sealed, bytes)
    ]
    if not whole:
        return result
    patient_id = entries[0].patient_id
    try:
        opened = keys.vault.open_records(
            session, patient_id, [(one.id, one.version, sealed) for _place, one, sealed in whole]
        )  # 2
    except VaultError as error:
        opened = [error] * len(whole)
    for (place, _one, _sealed), plain in zip(whole, opened, strict=True):
        result[place] = plain if isinstance(plain, bytes) else RecordDamaged("document")
    return result


@dataclass(frozen=True, slots=True)
class _Unproved:
    """A record that opened, of which this process does not know yet whether it fits."""

    entry: IndexEntry
    sealed: SealedContent
    seen: Glance
    proof: bytes


def _looked_at(
    lists: "_Lists", entry: IndexEntry, opened: bytes | RecordDamaged
) -> Proved | RecordDamaged | _Unproved:
    if isinstance(opened, RecordDamaged):
        return opened
    try:
        proof = _proof_of(entry, lists.of(entry.origin))
        if _PROVEN.has(proof):
            return Proved(entry, _glanced(_known(entry, opened)))  # 3
        sealed = _content(entry, opened)  # 3
        return _Unproved(entry, sealed, _glanced(sealed.content), proof)
    except RecordDamaged as error:
        return error


def _now_proved(
    keys: TenantKeys, one: _Unproved, found: bytes | VaultError | None
) -> Proved | RecordDamaged:
    try:
        head.check(one.entry, found)  # 6
        _stated(keys, one.entry, one.sealed, one.seen)  # 4, 5
    except RecordDamaged as error:
        return error
    _PROVEN.add(one.proof)
    return Proved(one.entry, one.seen)


def _glanced(content: bytes) -> Glance:
    try:
        return glance(content)
    except MALFORMED as error:
        raise RecordDamaged("content") from error


class _Lists:
    """The digest of each origin's authority and its newest list, worked out once a call."""

    def __init__(self, keys: TenantKeys) -> None:
        self._keys = keys
        self._known: dict[str, bytes] = {}

    def of(self, origin: str) -> bytes:
        """Return the digest; raises ``RecordDamaged`` for an origin that nobody ever trusted."""
        if origin not in self._known:
            try:
                authority = self._keys.authority(origin)
            except PkiError as error:
                raise RecordDamaged("signature") from error
            state = hashlib.sha256(self._keys.tenant.id.encode())
            known = [each.fingerprint(SHA256()) for each in authority.certificates]
            for part in (*known, *authority.lists):
                state.update(hashlib.sha256(part).digest())
            self._known[origin] = state.digest()
        return self._known[origin]


class _Proven:
    """Digests of what was verified in this process, the least used forgotten first.

    A digest covers everything that the outcome of checks 4 to 6 depends on: the entry of the
    index with the digests of document and content and the sealed head, the authority and its
    revocation list. That the document is that one and opens, and that its content is the one
    that is pinned, is checked every time. No content is held.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: OrderedDict[bytes, None] = OrderedDict()
        self._lock = Lock()

    def has(self, proof: bytes) -> bool:
        """Tell whether this was verified before."""
        with self._lock:
            if proof not in self._known:
                return False
            self._known.move_to_end(proof)
            return True

    def add(self, proof: bytes) -> None:
        """Remember that this was verified."""
        with self._lock:
            self._known[proof] = None
            if len(self._known) > self._most:
                self._known.popitem(last=False)


#: About two hundred bytes each: six megabytes a process at most.
_PROVEN = _Proven(32_768)


def _proof_of(entry: IndexEntry, authority: bytes) -> bytes:
    # The representation of a tuple of texts, bytes, numbers and times names each of them whole.
    return hashlib.sha256(repr((tuple(entry), authority)).encode()).digest()


def _proved(
    keys: TenantKeys, entry: IndexEntry, sealed: SealedContent
) -> tuple[Reading, AuthorStatement]:
    try:
        reading = read(sealed.content)
    except FhirError as error:
        raise RecordDamaged("signature") from error
    return reading, _stated(keys, entry, sealed, reading.record)  # 4, 5


def _stated(
    keys: TenantKeys, entry: IndexEntry, sealed: SealedContent, record: Told
) -> AuthorStatement:
    try:
        stated = verify_author(keys, sealed, record, origin=entry.origin, at=entry.kept_since)  # 4
    except (PkiError, StatementError) as error:
        raise RecordDamaged("signature") from error
    _check_index(keys, entry, record)  # 5
    return stated


def _check_index(keys: TenantKeys, entry: IndexEntry, record: Told) -> None:
    """Refuse an index that says other than what is signed: decisions are made from it.

    Later versions of partners were filed before the index knew how a version stands and what it
    replaces: there it says of them what no later version signs, and is not held to it.
    """
    signer = record.author_id if entry.origin == keys.tenant.id else None
    author = signer if record.version == 1 else entry.local_author_id
    is_told = record.version == 1 or (entry.status, entry.replaces) != (RecordStatus.FINAL, None)
    signed = (
        record.id,
        record.version,
        record.kind,
        record.category,
        day_of(record.effective),
        signer,
        author,
        record.status if is_told else entry.status,
        replaced_by(record) if is_told else entry.replaces,
    )
    indexed = (
        entry.origin_record_id,
        entry.version,
        entry.kind,
        entry.category,
        entry.effective_on,
        entry.local_signer_id,
        entry.local_author_id,
        entry.status,
        entry.replaces,
    )
    if signed != indexed:
        raise RecordDamaged("index")


def replaced_by(record: Told) -> bytes | None:
    """Return the digest of the content that a version replaces; a first one replaces none."""
    return None if record.replaces is None else bytes.fromhex(record.replaces)


def _pinned(entry: IndexEntry, sealed: bytes) -> bytes:
    if hashlib.sha256(sealed).digest() != entry.document_digest:
        raise RecordDamaged("document-digest")
    return sealed


def _known(entry: IndexEntry, opened: bytes) -> bytes:
    """Return the content of what was taken apart before; only its digest is compared again."""
    content = statement.content_of(opened)
    if statement.digest(content) != entry.content_digest:
        raise RecordDamaged("content-digest")
    return content


def _content(entry: IndexEntry, opened: bytes) -> SealedContent:
    try:
        sealed = SealedContent.from_bytes(opened)
    except (NotCanonical, StatementError) as error:
        raise RecordDamaged("document") from error
    if statement.digest(sealed.content) != entry.content_digest:
        raise RecordDamaged("content-digest")
    return sealed


def verify_author(
    keys: TenantKeys,
    sealed: SealedContent,
    record: Told,
    *,
    origin: str,
    at: datetime,
) -> AuthorStatement:
    """Return what the author stated; ``at`` is when this institution took the record in.

    Raises a ``PkiError`` or ``StatementError``.
    """
    signed = Signed.from_bytes(sealed.signed_statement)
    authority = keys.authority(origin)
    stated = verify_kept(
        signed,
        statement.LABEL,
        ca=authority.certificates,
        purpose=Purpose.RECORD,
        institution=origin,
        crl_limits=keys.crl_limits,
        taken_in=at,
        # Before the first handshake under a next authority no list of it is held but this one.
        known_crl_der=(*authority.lists, signed.crl_der),
    )
    return statement.read_statement(
        stated,
        sealed.content,
        record_id=record.id,
        version=record.version,
        institution=origin,
        author_id=record.author_id,
        category=record.category,
    )
