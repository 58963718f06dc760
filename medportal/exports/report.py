"""What ``medportal record verify`` says of a file, in rows and words."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from medportal.exports.attached import bundle_in
from medportal.exports.errors import UnreadableFile
from medportal.exports.verify import Authority, Finding, ListFinding, Report, Verdict, verify
from medportal.pki.errors import CrlInvalid
from medportal.pki.keyfiles import certificates_from_pem
from medportal.pki.verify import institution_of, issued_list, verify_crl_origin
from medportal.records.content import BloodPressure, Coded, Observation
from medportal.records.fhir import Reading


class Status(IntEnum):
    """Exit statuses of the command."""

    RIGHT = 0
    CHANGED = 1
    UNREADABLE = 2
    #: Nothing is wrong as far as it could be checked, but for somebody no certificate was given.
    UNKNOWN_SIGNER = 3


VERDICTS = {
    Verdict.RIGHT: "RIGHT",
    Verdict.CHANGED: "CHANGED",
    Verdict.UNKNOWN_SIGNER: "UNKNOWN SIGNER",
    Verdict.SIGNER_REFUSED: "SIGNER REFUSED",
}
WHY = {
    "no-signature": "its signature is not in the file",
    "bad-signature": "the signature does not fit",
    "statement-mismatch": "the signature is of something else",
    "readable-part": "what programs read is not what was signed",
    "another-version-before": "it follows another version than the one in the file",
    "authority-not-given": "give the certificate of its institution's authority with --ca",
    "revoked": "the institution withdrew the key that signed",
    "expired": "the key that signed was not valid any more",
    "not-yet-valid": "the key that signed was not valid yet",
    "no-list": "the list of what the file holds is not in it",
    "missing": "a record is missing that was in the file",
    "added": "a record was added that was not in the file",
    "exchanged": "a record was exchanged",
    "strays": "the file holds something that no record has",
    "head": "what it says of itself as a whole is not what was signed",
    "another-file": "the list is that of another file",
}


@dataclass(frozen=True, slots=True)
class Checked:
    """What became of a file, with the Bundle that was checked."""

    report: Report
    bundle: bytes
    was_pdf: bool

    @property
    def status(self) -> Status:
        """Return the exit status."""
        if self.report.is_changed:
            return Status.CHANGED
        return Status.RIGHT if self.report.is_right else Status.UNKNOWN_SIGNER


def check_file(file: Path, authorities: Iterable[Path], lists: Iterable[Path] = ()) -> Checked:
    """Check a file, JSON or PDF, against certificates and revocation lists got elsewhere.

    Raises ``UnreadableFile``, a ``PkiError`` for certificates and lists that are none, ``OSError``.
    """
    trusted = [each for path in authorities for each in _authorities(path)]
    for path in lists:
        trusted = _with_list(trusted, path)
    data = file.read_bytes()
    bundle = bundle_in(data)
    return Checked(verify(bundle, trusted), bundle, bundle is not data)


def _authorities(path: Path) -> list[Authority]:
    """Return the authorities in a file: the present one, and perhaps former ones after it."""
    found = certificates_from_pem(path.read_bytes(), str(path))
    return [Authority(institution_of(each), each) for each in found]


def _with_list(trusted: list[Authority], path: Path) -> list[Authority]:
    der = _list_der(path)
    if not any(issued_list(der, one.certificate) for one in trusted):
        # Who gives a list means it to count: one that would count for nothing is refused.
        raise CrlInvalid(f"{path} is no revocation list of the authorities that were given")
    found = []
    for one in trusted:
        if issued_list(der, one.certificate):
            verify_crl_origin(der, ca=one.certificate)
            found.append(Authority(one.institution, one.certificate, der))
        else:
            found.append(one)
    return found


def _list_der(path: Path) -> bytes:
    data = path.read_bytes()
    try:
        if data.lstrip().startswith(b"-----BEGIN"):
            return x509.load_pem_x509_crl(data).public_bytes(Encoding.DER)
        return x509.load_der_x509_crl(data).public_bytes(Encoding.DER)
    except ValueError as error:
        raise UnreadableFile(f"{path} is no revocation list.") from error


def rows(report: Report) -> list[dict[str, Any]]:
    """Return a row for each record, then one for the list."""
    return [*(_row(one) for one in report.records), _list_row(report.listing)]


def _row(finding: Finding) -> dict[str, Any]:
    record = finding.reading.record if finding.reading else None
    return {
        "what": "record",
        "finding": str(finding.verdict),
        "why": finding.why,
        "record": record.id if record else "",
        "version": record.version if record else "",
        "status": str(record.status) if record else "",
        "date": str(record.effective) if record else "",
        "institution": record.institution if record else "",
        "author": record.author_name if record else "",
        "signed": str(finding.signed_at or ""),
        "time_is_vouched_for": finding.is_vouched,
        "sha256": finding.digest.hex(),
    }


def _list_row(listing: ListFinding) -> dict[str, Any]:
    return {
        "what": "file",
        "finding": str(listing.verdict),
        "why": listing.why,
        "institution": listing.institution,
        "made": str(listing.made_at or ""),
        "missing": [f"{record_id} version {version}" for record_id, version in listing.missing],
        "left_out": list(listing.left_out),
    }


def in_words(checked: Checked, *, show: bool = False) -> list[str]:
    """Return the result as lines for a person; with ``show``, what each record says."""
    said: list[str] = []
    for finding in checked.report.records:
        said += _record_words(finding)
        if show and finding.reading is not None and finding.verdict is not Verdict.CHANGED:
            said += [f"    {line}" for line in _content(finding.reading)]
    said += _list_words(checked.report.listing)
    if checked.was_pdf:
        said.append(
            "The pages of a PDF are not signed: compare them with what is signed (--show), or with "
            "the digests."
        )
    return said


def _record_words(finding: Finding) -> list[str]:
    word = VERDICTS[finding.verdict]
    if finding.reading is None:
        return [f"{word}: something that is no record ({finding.why})."]
    record = finding.reading.record
    about = f"{record.effective} {record.institution}, {record.author_name}"
    version = f"version {record.version} ({record.status})"
    why = f": {WHY.get(finding.why, finding.why)}" if finding.why else ""
    said = [
        f"{word}: {_plain(about)}, {version}{why}.",
        f"    record {record.id}, SHA-256 {finding.digest.hex()}",
    ]
    if finding.verdict is Verdict.RIGHT and not finding.is_vouched:
        said.append(f"    That it was signed on {finding.signed_at} is the signer's word alone.")
    return said


def _list_words(listing: ListFinding) -> list[str]:
    made = f"made by {_plain(listing.institution)} on {listing.made_at}"
    if listing.verdict is Verdict.RIGHT:
        said = [f"COMPLETE: {made}; nothing was added or taken out."]
    elif listing.verdict is Verdict.UNKNOWN_SIGNER:
        said = [f"NOT KNOWN WHETHER COMPLETE: {made}; {WHY['authority-not-given']}."]
    else:
        said = [f"NOT AS IT WAS MADE: {WHY.get(listing.why, listing.why)}."]
    said += [f"    Missing: {record_id} version {n}" for record_id, n in listing.missing]
    said += [
        f"    Left out when the file was made, because it is damaged there: {_plain(record_id)}"
        for record_id in listing.left_out
    ]
    return said


def _content(reading: Reading) -> list[str]:
    record, subject = reading.record, reading.subject
    said = [f"{_plain(subject.name)}, born {subject.birth_date}, number {_plain(subject.number)}"]
    said += [
        f"{_plain(shown.name)}: {_plain(_value(one))}"
        for one, shown in zip(record.observations, reading.shown, strict=True)
    ]
    for label, text in (("Diagnosis", record.diagnosis), ("Notes", record.notes)):
        if text:
            said += [f"{label}:", *(f"  {_plain(line)}" for line in text.splitlines())]
    return said


def _value(one: Observation) -> str:
    match one.value:
        case Coded(code):
            return code
        case BloodPressure(systolic, diastolic):
            return f"{systolic}/{diastolic} mm[Hg]"
        case quantity:
            return f"{quantity.value} {quantity.unit}"


def _plain(text: str) -> str:
    """Return a text of a file as it may be printed on a terminal."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)
