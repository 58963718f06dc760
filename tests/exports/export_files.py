"""Two institutions with real keys, and files of records that they signed."""

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from medportal.core.categories import Category
from medportal.exports.bundle import LABEL, Copy, Envelope, Listed, manifest, pieces
from medportal.exports.verify import Authority, Report, verify
from medportal.pki import ca as authority
from medportal.pki.keystore import KeyStore
from medportal.pki.passphrases import create_passphrases
from medportal.pki.profiles import Purpose
from medportal.pki.signatures import sign_statement
from medportal.records import catalogue as catalogues
from medportal.records import statement
from medportal.records.content import (
    BloodPressure,
    ClinicalRecord,
    Coded,
    Observation,
    Quantity,
    RecordKind,
    RecordStatus,
    Sex,
    Subject,
)
from medportal.records.fhir import read, to_fhir

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NAMES = ("hospital", "laboratory")
SUBJECT = Subject("citizen-card", "17645234", "Amanda Júlio", date(1980, 2, 3), Sex.FEMALE)
FILE_ID = "f" * 32


@dataclass(frozen=True)
class Institution:
    id: str
    home: Path
    passphrases: dict[str, bytes] = field(repr=False)

    @property
    def keys(self) -> KeyStore:
        return KeyStore(self.home / "pki", self.passphrases)

    @property
    def trusted(self) -> Authority:
        return Authority(self.id, self.keys.ca)

    @property
    def ca_file(self) -> Path:
        return self.home / "pki" / "ca.crt"


def found(home: Path, name: str) -> Institution:
    """Make an institution with its keys."""
    passphrases = create_passphrases(home / "secrets")
    hosts = [f"{name}.localhost"]
    names = {"en": name, "pt": name}
    authority.init_ca(home / "pki", name, names, passphrases["ca"], NOW, permitted_dns=hosts)
    authority.issue_missing(home / "pki", dns_names=hosts, passphrases=passphrases, now=NOW)
    return Institution(name, home, passphrases)


def laboratory_record(number: int = 0, **changes: Any) -> ClinicalRecord:
    made = ClinicalRecord(
        id=f"{number:032x}",
        version=1,
        kind=RecordKind.CLINICAL,
        category=Category.LABORATORY,
        status=RecordStatus.FINAL,
        effective=date(2026, 2, 20),
        author_id="fedcba9876543210" * 2,
        author_name="Paulo Marques",
        institution="laboratory",
        observations=(
            Observation("882-1", Coded("A+")),
            Observation("85354-9", BloodPressure(Decimal(152), Decimal(81))),
            Observation("2823-3", Quantity(Decimal("5.0"), "mmol/L")),
            Observation("2093-3", Quantity(Decimal(201), "mg/dL")),
        ),
        notes='Amostra "ligeiramente" hemolisada.\nRepetir o potássio.',
    )
    return replace(made, **changes)


def corrected(copy: Copy, **changes: Any) -> ClinicalRecord:
    """Return the record that corrects the one in ``copy``."""
    record = copy.reading.record
    return replace(
        record,
        version=record.version + 1,
        status=RecordStatus.CORRECTED,
        replaces=statement.digest(copy.content).hex(),
        change_reason="Another tube was meant.",
        **changes,
    )


def hospital_record(**changes: Any) -> ClinicalRecord:
    made = ClinicalRecord(
        id="00112233445566778899aabbccddeeff",
        version=1,
        kind=RecordKind.MEDICAL,
        category=Category.CLINICAL_NOTE,
        status=RecordStatus.FINAL,
        effective=datetime(2026, 2, 21, 10, 15, 30, tzinfo=UTC),
        author_id="a" * 32,
        author_name="Ana Albuquerque",
        institution="hospital",
        observations=(Observation("59408-5", Quantity(Decimal(97), "%")),),
        diagnosis="Hipertensão arterial essencial",
        diagnosis_code="I10",
    )
    return replace(made, **changes)


def copy_of(
    by: Institution,
    record: ClinicalRecord,
    /,
    *,
    signed_at: datetime = NOW,
    taken_in: datetime = NOW,
    **claims: Any,
) -> Copy:
    """Return a record that ``by`` signed; ``claims`` change what the statement says."""
    content = to_fhir(record, SUBJECT, catalogues.load())
    fields = statement.statement_fields(
        content,
        record.id,
        record.version,
        record.institution,
        record.author_id,
        record.category,
        signed_at,
    )
    signed = sign_statement(
        by.keys.signer(Purpose.RECORD), statement.LABEL, {**fields, **claims}
    ).to_bytes()
    return Copy(read(content), content, signed, signed_at, taken_in)


def file_of(
    by: Institution,
    copies: Sequence[Copy],
    *,
    listed: Iterable[Copy] | None = None,
    left_out: tuple[str, ...] = (),
    made_at: datetime = NOW + timedelta(minutes=1),
    label: str = LABEL,
) -> bytes:
    """Return the file that ``by`` makes of ``copies``, with a list of ``listed``."""
    entries = tuple(
        Listed(
            one.reading.record.id,
            one.reading.record.version,
            statement.digest(one.content),
            one.taken_in,
        )
        for one in (copies if listed is None else listed)
    )
    fields = manifest(FILE_ID, by.id, made_at, entries, left_out)
    signed = sign_statement(by.keys.signer(Purpose.RECORD), label, fields).to_bytes()
    envelope = Envelope(FILE_ID, by.id, made_at, signed, entries, left_out)
    return b"".join(pieces(copies, lambda: envelope))


def altered(data: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """Return a file after somebody changed its JSON by hand, every number as it was written."""
    parsed = json.loads(data, parse_float=number, parse_int=number)
    change(parsed)
    text = json.dumps(parsed, ensure_ascii=False, indent=1)
    return re.sub(f'"{_MARK}([^"]*)"', r"\1", text).encode()


_MARK = "a number: "


def number(text: str) -> str:
    return _MARK + text


def resources(parsed: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    found = [entry["resource"] for entry in parsed["entry"]]
    return [one for one in found if one["resourceType"] == kind]


def rewrite(resource: dict[str, Any], change: Callable[[bytes], bytes]) -> None:
    """Change the bytes in a Binary."""
    resource["data"] = b64encode(change(b64decode(resource["data"]))).decode()


def check(data: bytes, *trusted: Institution) -> Report:
    return verify(data, [one.trusted for one in trusted])
