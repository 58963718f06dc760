"""The file that is taken along: one FHIR R4 Bundle around records as they were signed (PURE).

The Bundle (type ``collection``) holds for each version of each record

* the resources of the record, for every program that reads FHIR;
* a ``Binary`` with the exact bytes that were signed;
* a ``Provenance`` whose signature is the author's institution's signed statement on these bytes,
  with certificate and revocation list inside.

Last comes a ``Provenance`` of the institution that made the file: it signs which versions the file
holds, when it had taken each of them in, and which ones it had to leave out because what is stored
is damaged. So neither can a record be changed nor one be taken out of the file unnoticed.

The resources stand twice, readable and signed; :mod:`medportal.exports.verify` refuses a file in
which they differ. Source: https://hl7.org/fhir/R4/ (bundle, binary, provenance, operationoutcome,
datatypes "Signature"). fhir.resources knows R4B and not R4; what is written here is the same
in both.
"""

from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid5

from medportal.core.clock import to_micros
from medportal.records import exact_json
from medportal.records.content import ClinicalRecord
from medportal.records.fhir import Reading
from medportal.records.fhir_write import INSTITUTION, Json, full_url

#: Under this label an institution signs what a file holds.
LABEL = "medportal export 1"
#: So many versions the signed list of one file takes (a statement has at most a megabyte).
MOST_VERSIONS = 5_000
EXPORT = "urn:medportal:export"
RECORD_TYPE = "application/fhir+json"
#: The format of a signature's data: canonical CBOR, see ``docs/exports.md``.
STATEMENT_TYPE = "application/cbor"
#: Parts of a record's address, beside those of its own resources.
SIGNED, SIGNATURE = "signed", "signature"
# ASTM E1762: the codes that FHIR takes for what a signature means.
PURPOSES = "urn:iso-astm:E1762-95:2013"
AUTHOR, SOURCE = "1.2.840.10065.1.12.1.1", "1.2.840.10065.1.12.1.14"


@dataclass(frozen=True, slots=True)
class Copy:
    """One version of one record to take along: what it says, its exact bytes, its signature.

    ``statement`` is the signed statement as it is kept, ``signed_at`` when its author says that
    it was signed, ``taken_in`` when the institution that makes the file took it in.
    """

    reading: Reading
    content: bytes
    statement: bytes
    signed_at: datetime
    taken_in: datetime


@dataclass(frozen=True, slots=True)
class Listed:
    """One version in the signed list of a file."""

    record_id: str
    version: int
    digest: bytes
    taken_in: datetime


@dataclass(frozen=True, slots=True)
class Envelope:
    """What is said of a file as a whole: which one, by whom, when, and the signed list."""

    file_id: str
    institution: str
    made_at: datetime
    statement: bytes
    listed: tuple[Listed, ...]
    left_out: tuple[str, ...] = ()


def manifest(
    file_id: str,
    institution: str,
    made_at: datetime,
    listed: Iterable[Listed],
    left_out: Iterable[str] = (),
) -> Mapping[str, object]:
    """Return the fields that the institution which makes a file signs under :data:`LABEL`."""
    return {
        "file": file_id,
        "institution": institution,
        "left_out": list(left_out),
        "made": to_micros(made_at),
        "records": [
            [one.record_id, one.version, one.digest, to_micros(one.taken_in)] for one in listed
        ],
    }


def pieces(copies: Iterable[Copy], seal: Callable[[], Envelope]) -> Iterator[bytes]:
    """Give the bytes of a file, one record at a time.

    ``seal`` is called when all copies have been taken, and signs what the file holds.
    """
    yield b'{"entry":['
    for copy in copies:
        yield b"".join(exact_json.encode(entry) + b"," for entry in entries_of(copy))
    envelope = seal()
    yield b",".join(exact_json.encode(entry) for entry in entries_about(envelope))
    yield b"]," + exact_json.encode(head_of(envelope))[1:]


def head_of(envelope: Envelope) -> Json:
    """Return the members of a file beside its entries, in the order of their names."""
    return {
        "identifier": {"system": EXPORT, "value": envelope.file_id},
        "resourceType": "Bundle",
        "timestamp": instant(envelope.made_at),
        "type": "collection",
    }


def instant(moment: datetime) -> str:
    """Return an aware moment as FHIR's ``instant``."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def signed_address(record_id: str, version: int) -> str:
    """Return the address of the exact bytes of a version, as :func:`full_url` makes it."""
    return f"urn:uuid:{uuid5(UUID(record_id), f'{version}/{SIGNED}')}"


def list_address(file_id: str) -> str:
    """Return the address of the signed list of a file."""
    return _address(file_id, "list")


def _address(file_id: str, name: str) -> str:
    return f"urn:uuid:{uuid5(UUID(file_id), name)}"


def entries_of(copy: Copy) -> Iterator[Json]:
    """Give the entries of one version: its resources, its exact bytes, its signature."""
    yield from exact_json.decode(copy.content)["entry"]
    record = copy.reading.record
    binary = {
        "resourceType": "Binary",
        "contentType": RECORD_TYPE,
        "data": _base64(copy.content),
    }
    yield {"fullUrl": full_url(record, SIGNED), "resource": binary}
    yield {"fullUrl": full_url(record, SIGNATURE), "resource": _signature(copy, record)}


def entries_about(envelope: Envelope) -> Iterator[Json]:
    """Give the entries about a file as a whole: what was left out, and the signed list."""
    for number, record_id in enumerate(envelope.left_out):
        yield _left_out(envelope, number, record_id)
    yield _envelope(envelope)


def _signature(copy: Copy, record: ClinicalRecord) -> Json:
    institution = {"reference": full_url(record, "institution")}
    return {
        "resourceType": "Provenance",
        "target": [{"reference": full_url(record, name)} for name in (SIGNED, "report")],
        "recorded": instant(copy.taken_in),
        "agent": [{"who": institution}],
        "signature": [_signed(AUTHOR, copy.signed_at, institution, copy.statement)],
    }


def _signed(purpose: str, when: datetime, who: Json, statement: bytes) -> Json:
    return {
        "type": [{"system": PURPOSES, "code": purpose}],
        "when": instant(when),
        "who": who,
        "sigFormat": STATEMENT_TYPE,
        "data": _base64(statement),
    }


def _left_out(envelope: Envelope, number: int, record_id: str) -> Json:
    text = f"Record {record_id} is damaged where it is stored and was left out."
    issue = {"severity": "error", "code": "incomplete", "details": {"text": text}}
    outcome = {"resourceType": "OperationOutcome", "issue": [issue]}
    return {"fullUrl": _address(envelope.file_id, f"left-out/{number}"), "resource": outcome}


def _envelope(envelope: Envelope) -> Json:
    who: Json = {"identifier": {"system": INSTITUTION, "value": envelope.institution}}
    targets = [signed_address(one.record_id, one.version) for one in envelope.listed]
    listing: Json = {
        "resourceType": "Provenance",
        "target": [{"reference": target} for target in targets]
        or [{"identifier": {"system": EXPORT, "value": envelope.file_id}}],
        "recorded": instant(envelope.made_at),
        "agent": [{"who": who}],
        "signature": [_signed(SOURCE, envelope.made_at, who, envelope.statement)],
    }
    return {"fullUrl": list_address(envelope.file_id), "resource": listing}


def _base64(data: bytes) -> str:
    return b64encode(data).decode("ascii")
