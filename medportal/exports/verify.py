"""Is a file that somebody took along what was signed? Checked without any database (PURE).

:func:`verify` reads a FHIR Bundle as :mod:`medportal.exports.bundle` writes it. Its checks are
numbered; the code carries the numbers.

1. The file is JSON, a Bundle, and no address in it stands for two things.
2. What a ``Binary`` of it holds is a record in its one encoding.
3. Beside it stands one signed statement, made for exactly these bytes, this record and version,
   author and category.
4. It was signed with the record key of the institution that the record names: by a certificate of
   an authority that the asker trusts, which was good when the record was taken in.
5. What programs read in the file is what was signed: the resources beside the bytes are those
   that a file with this record has, and no others.
6. A version names the one before by its digest; where both are in the file, they fit.
7. The institution that made the file signed a list of what it holds: nothing is missing, nothing
   was added, each version is the one that was put in, and of the file as a whole nothing stands
   there but its name and when it was made.

The moment of check 4 comes from the signed list (who made the file noted it then). A list whose
signer is unknown or refused, and a record that stands on none, leave the author's own word. A
thief of a key can write any time into a statement: give the newest revocation list of the
authority, and ask the institution, whose audit log holds the digest, where much depends on it.

Nothing of a file is believed before it is checked; the file may be as large as
:data:`MOST_BYTES`, and memory grows with the number of records, not with what they say.
"""

import hashlib
import json
import re
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from cryptography import x509

from medportal.core import canonical
from medportal.core.clock import from_micros
from medportal.core.ids import is_id
from medportal.exports.bundle import (
    LABEL,
    MOST_VERSIONS,
    RECORD_TYPE,
    SIGNATURE,
    Copy,
    Envelope,
    Listed,
    entries_about,
    entries_of,
    head_of,
    list_address,
)
from medportal.exports.errors import UnreadableFile
from medportal.pki import errors
from medportal.pki.profiles import CrlLimits, Purpose
from medportal.pki.signatures import Signed, verify_kept
from medportal.records import exact_json, statement
from medportal.records.content import MAX_OBSERVATIONS
from medportal.records.errors import FhirError, StatementError
from medportal.records.fhir import MAX_BYTES, Reading, read
from medportal.records.fhir_write import full_url

#: A file of more bytes is not read; one of :data:`MOST_VERSIONS` usual records is smaller.
MOST_BYTES = 256 * 1024 * 1024
#: One entry has at most a record of :data:`MAX_BYTES` in base64.
_LONGEST_ENTRY = 2 * MAX_BYTES
_STEPS = (16 * 1024, 128 * 1024, _LONGEST_ENTRY)
_SPACE = re.compile(r"[ \t\r\n]*")
NOT_JSON = "The file is not JSON, or no Bundle of records, or it was cut off."
NAMED_TWICE = "The file names a member twice."
#: How old the revocation list that came with a statement may have been when it was taken in.
CRL_LIMITS = CrlLimits(
    warn_after=timedelta(days=7), refuse_after=timedelta(days=14), skew=timedelta(minutes=5)
)
_MOST_ENTRIES = MOST_VERSIONS * (MAX_OBSERVATIONS + 8)


class Verdict(StrEnum):
    """What became of a check."""

    RIGHT = "right"
    #: What stands there is not what was signed.
    CHANGED = "changed"
    #: The authority of the institution was not given, so nothing can be said.
    UNKNOWN_SIGNER = "unknown-signer"
    #: Signed, but not by a key that the authority lets sign records at that time.
    SIGNER_REFUSED = "signer-refused"


@dataclass(frozen=True, slots=True)
class Authority:
    """An authority that the asker trusts, and the newest revocation list that they have of it.

    Of an institution whose authority was replaced there may be several.
    """

    institution: str
    certificate: x509.Certificate
    crl_der: bytes | None = None


_Trusted = Mapping[str, Sequence[Authority]]


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one record; ``why`` is a code, empty where all is right.

    ``reading`` is what stands in the file, to be believed only if ``verdict`` is right, ``digest``
    that of its exact bytes.
    ``is_vouched`` tells whether whoever made the file vouches for when it was taken in.
    """

    reading: Reading | None
    digest: bytes
    verdict: Verdict
    why: str = ""
    signed_at: datetime | None = None
    is_vouched: bool = False


@dataclass(frozen=True, slots=True)
class ListFinding:
    """What became of the list of the file: who made it, when, and what it says is missing."""

    verdict: Verdict
    why: str = ""
    institution: str = ""
    made_at: datetime | None = None
    missing: tuple[tuple[str, int], ...] = ()
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a file."""

    records: tuple[Finding, ...]
    listing: ListFinding

    @property
    def verdicts(self) -> frozenset[Verdict]:
        """Return every verdict that was given."""
        return frozenset({self.listing.verdict, *(one.verdict for one in self.records)})

    @property
    def is_right(self) -> bool:
        """Tell whether every record and the list are right."""
        return self.verdicts == {Verdict.RIGHT}

    @property
    def is_changed(self) -> bool:
        """Tell whether anything is not what was signed, or signed by a key that must not."""
        return bool(self.verdicts & {Verdict.CHANGED, Verdict.SIGNER_REFUSED})


@dataclass(slots=True)
class _Found:
    """What a file holds, before anything of it is believed."""

    binaries: list[bytes] = field(default_factory=list)
    statements: dict[str, bytes] = field(default_factory=dict)
    recorded: dict[str, str] = field(default_factory=dict)
    #: Digests of all entries by address; what turns out to belong to the file is taken away.
    entries: dict[str, bytes] = field(default_factory=dict)
    head: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _List:
    finding: ListFinding
    envelope: Envelope | None = None
    listed: Mapping[tuple[str, int], Listed] = field(default_factory=dict)


def verify(
    data: bytes, authorities: Sequence[Authority], *, crl_limits: CrlLimits = CRL_LIMITS
) -> Report:
    """Check a file against the authorities that the asker trusts.

    Raises ``UnreadableFile`` for what is no export of records at all.
    """
    found = _read(data)
    trusted = {
        one.institution: [each for each in authorities if each.institution == one.institution]
        for one in authorities
    }
    listing = _check_list(found, trusted, crl_limits)
    records = [
        _check_record(content, found, listing, trusted, crl_limits) for content in found.binaries
    ]
    digests = _digests(records)
    records = [_check_chain(one, digests) for one in records]
    return Report(tuple(records), _complete(found, listing, records))


def _read(data: bytes) -> _Found:  # (1)
    if len(data) > MOST_BYTES:
        raise UnreadableFile(f"The file has more than {MOST_BYTES // 1024**2} megabytes.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UnreadableFile("The file is no text in UTF-8.") from None
    found = _Found()
    for name, value in _Json(text).members():
        if name == "entry":
            _take(found, value)
        elif name in found.head:
            raise UnreadableFile(NAMED_TWICE)
        else:
            found.head[name] = value
    if (found.head.get("resourceType"), found.head.get("type")) != ("Bundle", "collection"):
        raise UnreadableFile("The file is no FHIR Bundle of records.")
    return found


def _take(found: _Found, entry: Any) -> None:
    address, resource = _text(entry, "fullUrl"), _member(entry, "resource")
    if address in found.entries:
        raise UnreadableFile("Two things in the file have the same address.")
    if len(found.entries) > _MOST_ENTRIES:
        raise UnreadableFile("The file has more entries than any that was made.")
    found.entries[address] = _digest(entry)
    kind = _text(resource, "resourceType")
    if kind == "Binary" and resource.get("contentType") == RECORD_TYPE:
        found.binaries.append(_base64(_text(resource, "data")))
    elif kind == "Provenance":
        signatures = _member(resource, "signature")
        if not isinstance(signatures, list) or len(signatures) != 1:
            raise UnreadableFile("A signature stands where none or several are expected.")
        found.statements[address] = _base64(_text(signatures[0], "data"))
        found.recorded[address] = _text(resource, "recorded")


# Finds where a value ends; what it says is then read strictly.
_LAX = json.JSONDecoder(parse_float=str, parse_int=str)


@dataclass(slots=True)
class _Json:
    """The text of one JSON object, read member by member and the list ``entry`` item by item.

    Only one of them is held in memory at a time.
    """

    text: str
    place: int = 0

    def members(self) -> Iterator[tuple[str, Any]]:
        """Give names and values; ``entry`` once for each of its items."""
        self.expect("{")
        has_entries = False
        while True:
            name = self.value()
            self.expect(":")
            if name == "entry":
                if has_entries:
                    # Other programs would read one of the two lists alone.
                    raise UnreadableFile(NAMED_TWICE)
                has_entries = True
                self.expect("[")
                yield from (("entry", item) for item in self.items())
            elif isinstance(name, str):
                yield name, self.value()
            else:
                raise UnreadableFile(NOT_JSON)
            if self.sign() != ",":
                break
        self.place -= 1
        self.expect("}")
        if self.sign():
            raise UnreadableFile("Something stands behind the end of the file.")

    def items(self) -> Iterator[Any]:
        """Give the items of the list that was just opened."""
        sign = ","
        while sign == ",":
            yield self.value()
            sign = self.sign()
        if sign != "]":
            raise UnreadableFile(NOT_JSON)

    def value(self) -> Any:
        """Return the object or text that comes next."""
        self._skip()
        if self.text[self.place : self.place + 1] not in {"{", '"'}:
            raise UnreadableFile(NOT_JSON)
        for length in _STEPS:
            part = self.text[self.place : self.place + length]
            try:
                _, end = _LAX.raw_decode(part)
                value = exact_json.decode(part[:end].encode())
            except RecursionError:
                raise UnreadableFile("The file is nested too deeply.") from None
            except (FhirError, UnicodeEncodeError):
                raise UnreadableFile("The file holds JSON that no record has.") from None
            except ValueError:
                # Cut off by the length that was tried, or no JSON: the longest one tells.
                continue
            self.place += end
            return value
        raise UnreadableFile(NOT_JSON)

    def expect(self, wanted: str) -> None:
        """Pass over a sign. Raises ``UnreadableFile`` for another one."""
        if self.sign() != wanted:
            raise UnreadableFile(NOT_JSON)

    def sign(self) -> str:
        """Return the next sign that is no space and pass over it; empty at the end."""
        self._skip()
        self.place += 1
        return self.text[self.place - 1 : self.place]

    def _skip(self) -> None:
        found = _SPACE.match(self.text, self.place)
        self.place = found.end() if found else self.place


def _member(value: Any, name: str) -> Any:
    if not isinstance(value, dict) or name not in value:
        raise UnreadableFile("The file is no FHIR Bundle of records.")
    return value[name]


def _text(value: Any, name: str) -> str:
    text = _member(value, name)
    if not isinstance(text, str):
        raise UnreadableFile("The file is no FHIR Bundle of records.")
    return text


def _base64(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except ValueError:
        raise UnreadableFile("The file holds base64 that is none.") from None


def _digest(entry: Any) -> bytes:
    try:
        return hashlib.sha256(exact_json.encode(entry)).digest()
    except TypeError:
        # True, false and null: no resource of a record has them.
        return b""


def _check_list(found: _Found, trusted: _Trusted, limits: CrlLimits) -> _List:  # (7)
    identifier = found.head.get("identifier")
    file_id = str(identifier.get("value")) if isinstance(identifier, dict) else ""
    raw = found.statements.get(list_address(file_id)) if is_id(file_id) else None
    if raw is None:
        return _List(ListFinding(Verdict.CHANGED, "no-list"))
    try:
        signed = Signed.from_bytes(raw)
        claimed = _fields(signed)
        institution, made_at = claimed["institution"], from_micros(claimed["made"])
        listed = [_listed(each) for each in claimed["records"]]
        left_out = tuple(str(each) for each in claimed["left_out"])
        named = claimed["file"], str(institution)
    except (errors.PkiError, LookupError, TypeError, ValueError):
        return _List(ListFinding(Verdict.CHANGED, "malformed-list"))
    said = ListFinding(Verdict.RIGHT, "", named[1], made_at, (), left_out)
    verdict, why = _signed_by(signed, LABEL, named[1], made_at, trusted, limits)
    if named[0] != file_id:
        verdict, why = Verdict.CHANGED, "another-file"
    envelope = Envelope(named[0], named[1], made_at, raw, tuple(listed), left_out)
    places = {(one.record_id, one.version): one for one in listed}
    return _List(replace(said, verdict=verdict, why=why), envelope, places)


def _fields(signed: Signed) -> dict[str, Any]:
    """Return what a statement says, before it is verified."""
    try:
        fields = canonical.decode(signed.payload)
    except canonical.NotCanonical as error:
        raise ValueError("not a statement") from error
    if not isinstance(fields, dict):
        raise ValueError("not a statement")
    return fields


def _listed(row: Any) -> Listed:
    record_id, version, digest, taken_in = row
    if not is_id(record_id) or type(version) is not int or type(digest) is not bytes:
        raise ValueError("not an entry of a list")
    return Listed(record_id, version, digest, from_micros(taken_in))


def _signed_by(
    signed: Signed,
    label: str,
    institution: str,
    moment: datetime,
    trusted: _Trusted,
    limits: CrlLimits,
) -> tuple[Verdict, str]:  # (4)
    known = trusted.get(institution)
    if known is None:
        return Verdict.UNKNOWN_SIGNER, "authority-not-given"
    try:
        verify_kept(
            signed,
            label,
            ca=[each.certificate for each in known],
            purpose=Purpose.RECORD,
            institution=institution,
            crl_limits=limits,
            taken_in=moment,
            known_crl_der=[*(each.crl_der for each in known if each.crl_der), signed.crl_der],
        )
    except _ALTERED as error:
        return Verdict.CHANGED, _code(error)
    except errors.PkiError as error:
        return Verdict.SIGNER_REFUSED, _code(error)
    return Verdict.RIGHT, ""


#: The signature does not fit what stands there; any other error is about who signed.
_ALTERED = (
    errors.BadSignature,
    errors.MalformedStatement,
    errors.WrongLabel,
    errors.WrongAlgorithm,
    errors.WrongKey,
)


def _code(error: Exception) -> str:
    """Return the name of an error as a code: ``BadSignature`` is ``bad-signature``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", type(error).__name__).lower()


def _check_record(
    content: bytes,
    found: _Found,
    listing: _List,
    trusted: _Trusted,
    limits: CrlLimits,
) -> Finding:
    digest = statement.digest(content)
    try:
        reading = read(content)  # (2)
    except FhirError as error:
        return Finding(None, digest, Verdict.CHANGED, _code(error))
    record = reading.record
    place = full_url(record, SIGNATURE)
    raw = found.statements.get(place)
    if raw is None:
        return Finding(reading, digest, Verdict.CHANGED, "no-signature")
    try:
        signed = Signed.from_bytes(raw)
        stated = statement.read_statement(  # (3)
            _fields(signed),
            content,
            record_id=record.id,
            version=record.version,
            institution=record.institution,
            author_id=record.author_id,
            category=record.category,
        )
        listed = listing.listed.get((record.id, record.version))
        recorded = datetime.fromisoformat(found.recorded[place])
        taken_in = listed.taken_in if listed else recorded
        copy = Copy(reading, content, raw, stated.created_at, taken_in)
        is_whole = _belongs(found, entries_of(copy))  # (5)
    except (errors.PkiError, StatementError, ValueError) as error:
        return Finding(reading, digest, Verdict.CHANGED, _code(error))
    # Anybody can make a list; the time in it counts for as much as its signer.
    vouched = listed is not None and listing.finding.verdict is Verdict.RIGHT
    moment = taken_in if vouched else stated.created_at
    verdict, why = _signed_by(signed, statement.LABEL, record.institution, moment, trusted, limits)
    if not is_whole:
        verdict, why = Verdict.CHANGED, "readable-part"
    return Finding(reading, digest, verdict, why, stated.created_at, vouched)


def _belongs(found: _Found, entries: Iterator[Any]) -> bool:
    """Take away entries that belong to the file; tell whether they were all there and the same."""
    same = [found.entries.pop(entry["fullUrl"], b"") == _digest(entry) for entry in entries]
    return all(same)


def _digests(records: Sequence[Finding]) -> dict[tuple[str, int], bytes]:
    """Return the digests of the versions that could be read, by record and version."""
    readings = [(one.reading.record, one.digest) for one in records if one.reading is not None]
    return {(record.id, record.version): digest for record, digest in readings}


def _check_chain(finding: Finding, digests: Mapping[tuple[str, int], bytes]) -> Finding:  # (6)
    if finding.reading is None or finding.verdict is Verdict.CHANGED:
        return finding
    record = finding.reading.record
    before = digests.get((record.id, record.version - 1))
    if before is None or record.replaces == before.hex():
        return finding
    return replace(finding, verdict=Verdict.CHANGED, why="another-version-before")


def _complete(found: _Found, listing: _List, records: Sequence[Finding]) -> ListFinding:  # (7)
    """Return what became of the list, now that everything in the file has been looked at."""
    finding = listing.finding
    if finding.why in {"no-list", "malformed-list"}:
        return finding
    held = _digests(records)
    wanted = {place: one.digest for place, one in listing.listed.items()}
    missing = tuple(sorted(place for place in wanted if place not in held))
    added = held.keys() - wanted.keys()
    exchanged = {place for place in held.keys() & wanted.keys() if held[place] != wanted[place]}
    why = "missing" if missing else "added" if added else "exchanged" if exchanged else ""
    about = entries_about(listing.envelope) if listing.envelope else iter(())
    if not _belongs(found, about) or found.entries:
        why = why or "strays"
    if listing.envelope is None or found.head != head_of(listing.envelope):
        why = why or "head"
    if not why:
        return finding
    return replace(finding, verdict=Verdict.CHANGED, why=why, missing=missing)
