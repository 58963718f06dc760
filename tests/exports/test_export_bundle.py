"""The file that is taken along: valid FHIR, the exact bytes and signatures inside."""

import json
from base64 import b64decode

from export_files import (
    NOW,
    check,
    copy_of,
    corrected,
    file_of,
    hospital_record,
    laboratory_record,
    resources,
)
from fhir.resources.R4B.bundle import Bundle

from medportal.exports.bundle import signed_address
from medportal.exports.verify import Verdict
from medportal.pki.signatures import Signed


def test_a_file_is_valid_fhir_and_right(hospital, laboratory):
    first = copy_of(laboratory, laboratory_record())
    second = copy_of(laboratory, corrected(first, notes="Repeated."))
    copies = [first, second, copy_of(hospital, hospital_record())]
    data = file_of(hospital, copies, left_out=("9" * 32,))
    bundle = Bundle.model_validate_json(data)
    assert bundle.type == "collection" and len(bundle.entry) > 20
    report = check(data, hospital, laboratory)
    assert report.is_right and not report.is_changed
    assert [one.reading.record.version for one in report.records] == [1, 2, 1]
    assert all(one.is_vouched for one in report.records)
    assert report.listing.institution == "hospital"
    assert report.listing.left_out == ("9" * 32,)


def test_the_exact_bytes_and_the_signature_are_inside(hospital, laboratory):
    copy = copy_of(laboratory, laboratory_record())
    parsed = json.loads(file_of(hospital, [copy]))
    (binary,) = resources(parsed, "Binary")
    assert b64decode(binary["data"]) == copy.content
    signature, listing = resources(parsed, "Provenance")
    carried = Signed.from_bytes(b64decode(signature["signature"][0]["data"]))
    assert carried == Signed.from_bytes(copy.statement)
    assert signature["signature"][0]["when"] == "2026-03-01T12:00:00Z"
    record = copy.reading.record
    assert listing["target"] == [{"reference": signed_address(record.id, record.version)}]
    addresses = [entry["fullUrl"] for entry in parsed["entry"]]
    assert len(set(addresses)) == len(addresses)
    assert {target["reference"] for target in signature["target"]} <= set(addresses)


def test_what_programs_read_keeps_every_digit(hospital, laboratory):
    data = file_of(hospital, [copy_of(laboratory, laboratory_record())])
    assert b'"value":5.0}' in data
    assert data.startswith(b'{"entry":[{"fullUrl"')


def test_a_file_of_nothing_is_valid_too(hospital):
    data = file_of(hospital, [])
    Bundle.model_validate_json(data)
    report = check(data, hospital)
    assert report.records == () and report.listing.verdict is Verdict.RIGHT
    assert report.listing.made_at is not None and report.listing.made_at > NOW
