"""What somebody may try with a file that was taken along, and what the check says of it."""

import json
import random
from base64 import b64encode
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from export_files import (
    NOW,
    altered,
    check,
    copy_of,
    corrected,
    file_of,
    found,
    hospital_record,
    laboratory_record,
    number,
    resources,
    rewrite,
)

from medportal.core.categories import Category
from medportal.exports import verify as checking
from medportal.exports.errors import UnreadableFile
from medportal.exports.verify import Authority, Verdict, verify
from medportal.pki import ca as authority
from medportal.pki.profiles import Purpose
from medportal.pki.signatures import Signed
from medportal.records import exact_json


@pytest.fixture(scope="module")
def file(institutions):
    """Two versions of a laboratory's record, and one of the hospital, which made the file."""
    laboratory, hospital = institutions["laboratory"], institutions["hospital"]
    first = copy_of(laboratory, laboratory_record())
    second = copy_of(laboratory, corrected(first))
    return file_of(hospital, [first, second, copy_of(hospital, hospital_record())])


def verdicts(report):
    return [str(one.verdict) for one in report.records], str(report.listing.verdict)


def test_another_way_of_writing_the_same_json_is_right(file, hospital, laboratory):
    assert check(altered(file, lambda parsed: None), hospital, laboratory).is_right
    assert check(b"\xef\xbb\xbf " + file + b"\r\n", hospital, laboratory).is_right


def test_without_the_authority_nothing_is_said_to_be_right(file, hospital, laboratory):
    report = check(file, laboratory)
    assert verdicts(report) == (["right", "right", "unknown-signer"], "unknown-signer")
    assert not report.is_right and not report.is_changed
    # Who made the file is not known: the time of the records is their signers' word.
    assert not any(one.is_vouched for one in report.records)
    assert verdicts(check(file))[0] == ["unknown-signer"] * 3


@pytest.mark.parametrize("kind", ["Observation", "Patient", "DiagnosticReport", "Condition"])
def test_a_changed_readable_part_is_found(file, hospital, laboratory, kind):
    def change(parsed):
        resources(parsed, kind)[-1]["language"] = "pt"

    report = check(altered(file, change), hospital, laboratory)
    assert report.is_changed
    assert [one.why for one in report.records if one.why] == ["readable-part"]


def test_a_value_changed_in_both_places_is_found(file, hospital, laboratory):
    def change(parsed):
        for one in resources(parsed, "Observation"):
            if one.get("valueQuantity", {}).get("value") == number("201"):
                one["valueQuantity"]["value"] = number("140")
        rewrite(resources(parsed, "Binary")[0], lambda data: data.replace(b":201}", b":140}"))

    report = check(altered(file, change), hospital, laboratory)
    assert report.records[0].verdict is Verdict.CHANGED
    assert report.records[0].why == "statement-mismatch"
    assert report.listing.why == "exchanged"


def test_every_byte_of_what_was_signed_counts(hospital, laboratory):
    copy = copy_of(laboratory, laboratory_record(observations=(), notes="ok"))
    source = random.Random(5)
    for place in source.sample(range(len(copy.content)), 60):
        flipped = bytearray(copy.content)
        flipped[place] ^= 1
        data = altered(
            file_of(hospital, [copy]),
            lambda parsed, flipped=flipped: rewrite(
                resources(parsed, "Binary")[0], lambda _: bytes(flipped)
            ),
        )
        assert check(data, hospital, laboratory).is_changed, place


def test_every_byte_of_a_statement_counts(hospital, laboratory):
    copy = copy_of(laboratory, laboratory_record(observations=(), notes="ok"))
    source = random.Random(6)
    for place in source.sample(range(len(copy.statement)), 80):
        flipped = bytearray(copy.statement)
        flipped[place] ^= 1
        data = file_of(hospital, [replace(copy, statement=bytes(flipped))])
        if check(data, hospital, laboratory).is_right:
            # DER counts the unused bits of a signature outside of what is signed: the same list,
            # and the same signature, with an even last byte, in two ways.
            assert list_in(bytes(flipped)) == list_in(copy.statement), place


def list_in(raw):
    """Return what a statement's revocation list says, and its signature."""
    found = x509.load_der_x509_crl(Signed.from_bytes(raw).crl_der)
    return found.tbs_certlist_bytes, found.signature


def test_swapped_signatures_are_found(hospital, laboratory):
    one, other = (copy_of(laboratory, laboratory_record(number)) for number in (1, 2))
    swapped = [replace(one, statement=other.statement), replace(other, statement=one.statement)]
    report = check(file_of(hospital, swapped), hospital, laboratory)
    assert verdicts(report)[0] == ["changed", "changed"]
    assert {one.why for one in report.records} == {"statement-mismatch"}


@pytest.mark.parametrize(
    "claims",
    [
        {"record": "7" * 32},
        {"version": 2},
        {"author": "7" * 32},
        {"institution": "hospital"},
        {"category": str(Category.GENETICS)},
        {"digest": b"7" * 32},
        {"created": "yesterday"},
        {"more": 1},
    ],
    ids=lambda claims: next(iter(claims)),
)
def test_a_statement_on_something_else_is_found(hospital, laboratory, claims):
    copy = copy_of(laboratory, laboratory_record(), **claims)
    assert check(file_of(hospital, [copy]), hospital, laboratory).is_changed


def test_another_institutions_key_signs_nothing(hospital, laboratory):
    copy = copy_of(hospital, laboratory_record())
    report = check(file_of(hospital, [copy]), hospital, laboratory)
    assert report.records[0].verdict is Verdict.SIGNER_REFUSED
    assert report.is_changed


def test_a_key_of_another_purpose_signs_nothing(hospital, laboratory, monkeypatch):
    copy = copy_of(laboratory, laboratory_record())
    real = type(laboratory.keys).signer
    monkeypatch.setattr(
        type(laboratory.keys), "signer", lambda keys, _purpose: real(keys, Purpose.RECEIPT)
    )
    forged = copy_of(laboratory, laboratory_record())
    monkeypatch.undo()
    report = check(file_of(hospital, [forged]), hospital, laboratory)
    assert report.records[0].why == "wrong-purpose"
    assert check(file_of(hospital, [copy]), hospital, laboratory).is_right


def test_an_authority_of_the_same_name_is_another(file, tmp_path, hospital):
    impostor = found(tmp_path / "impostor", "laboratory")
    report = check(file, hospital, impostor)
    assert [str(one.verdict) for one in report.records[:2]] == ["signer-refused"] * 2


def test_a_withdrawn_key_signs_nothing_from_the_day_of_the_theft(tmp_path, hospital):
    laboratory = found(tmp_path / "laboratory", "laboratory")
    copy = copy_of(laboratory, laboratory_record())
    data = file_of(hospital, [copy])
    chain = laboratory.keys.signer(Purpose.RECORD).chain_der
    serial = x509.load_der_x509_certificate(chain[0]).serial_number
    authority.revoke(
        laboratory.home / "pki",
        serial,
        ca_passphrase=laboratory.passphrases["ca"],
        now=NOW + timedelta(days=2),
        since=NOW - timedelta(hours=1),
    )
    newest = Authority("laboratory", laboratory.keys.ca, laboratory.keys.crl_der)
    report = verify(data, [newest, hospital.trusted])
    assert (report.records[0].verdict, report.records[0].why) == (
        Verdict.SIGNER_REFUSED,
        "revoked",
    )
    # Who has no newer list than the one in the file cannot know.
    assert check(data, laboratory, hospital).is_right


def test_the_time_in_a_list_of_nobody_known_counts_for_nothing(tmp_path, hospital):
    """Whoever stole a key lists the forgery as taken in before the theft, under any name."""
    laboratory = found(tmp_path / "laboratory", "laboratory")
    stranger = found(tmp_path / "stranger", "stranger")
    hour = timedelta(hours=1)
    forged = copy_of(laboratory, laboratory_record(), signed_at=NOW + 3 * hour, taken_in=NOW + hour)
    chain = laboratory.keys.signer(Purpose.RECORD).chain_der
    authority.revoke(
        laboratory.home / "pki",
        x509.load_der_x509_certificate(chain[0]).serial_number,
        ca_passphrase=laboratory.passphrases["ca"],
        now=NOW + timedelta(days=2),
        since=NOW + 2 * hour,
    )
    newest = Authority("laboratory", laboratory.keys.ca, laboratory.keys.crl_der)
    unknown = verify(file_of(stranger, [forged]), [newest, hospital.trusted])
    # Somebody signed it in the name of an institution whose key they do not have.
    refused = verify(
        file_of(replace(stranger, id="hospital"), [forged]), [newest, hospital.trusted]
    )
    for report in (unknown, refused):
        assert report.listing.verdict is not Verdict.RIGHT
        (one,) = report.records
        assert (one.verdict, one.why) == (Verdict.SIGNER_REFUSED, "revoked")
        assert not one.is_vouched
    # Whom one trusts to say when they took it in is believed.
    (one,) = verify(file_of(hospital, [forged]), [newest, hospital.trusted]).records
    assert one.verdict is Verdict.RIGHT and one.is_vouched


@pytest.mark.parametrize(
    "head",
    [
        {"timestamp": "2026-03-01T12:01:01Z"},
        {"timestamp": ""},
        {"timestamp": None},
        {"meta": {"source": "urn:somebody:else"}},
        {"total": number("1")},
        {"identifier": {"system": "urn:another", "value": "f" * 32}},
        {"identifier": {"system": "urn:medportal:export", "value": "f" * 32, "use": "old"}},
        {"id": "x"},
    ],
    ids=range(8),
)
def test_what_a_file_says_of_itself_is_what_was_signed(file, hospital, laboratory, head):
    def change(parsed):
        parsed.update(head)
        for name in [name for name, value in head.items() if value is None]:
            del parsed[name]

    if "total" in head:
        # A number does not stand there: nothing but texts and objects is read.
        with pytest.raises(UnreadableFile):
            check(altered(file, change), hospital, laboratory)
        return
    report = check(altered(file, change), hospital, laboratory)
    assert (report.listing.verdict, report.listing.why) == (Verdict.CHANGED, "head")
    assert verdicts(report)[0] == ["right"] * 3
    # Nor does a list of somebody unknown let it pass.
    assert check(altered(file, change), laboratory).is_changed


def test_a_second_list_of_entries_is_refused(file, hospital, laboratory):
    """Other programs read one of the two alone."""
    second = b'{"entry":[{"fullUrl":"urn:uuid:1","resource":{"resourceType":"Patient"}}],'
    with pytest.raises(UnreadableFile, match="twice"):
        check(second + file[1:], hospital, laboratory)


def test_a_signature_from_after_the_certificate_is_refused(hospital, laboratory):
    late = NOW + timedelta(days=4_000)
    copy = copy_of(laboratory, laboratory_record(), signed_at=late, taken_in=late)
    assert check(file_of(hospital, [copy]), hospital, laboratory).is_changed


def test_a_record_taken_out_is_missed(hospital, laboratory):
    kept, lost = (copy_of(laboratory, laboratory_record(number)) for number in (1, 2))
    report = check(file_of(hospital, [kept], listed=[kept, lost]), hospital, laboratory)
    assert verdicts(report) == (["right"], "changed")
    assert report.listing.missing == ((lost.reading.record.id, 1),)


def test_a_record_put_in_is_noticed(hospital, laboratory):
    listed, added = (copy_of(laboratory, laboratory_record(number)) for number in (1, 2))
    report = check(file_of(hospital, [listed, added], listed=[listed]), hospital, laboratory)
    assert report.listing.why == "added"
    assert [one.is_vouched for one in report.records] == [True, False]


def test_an_older_version_in_the_place_of_the_newest_is_noticed(hospital, laboratory):
    first = copy_of(laboratory, laboratory_record())
    second = copy_of(laboratory, corrected(first))
    report = check(file_of(hospital, [first], listed=[first, second]), hospital, laboratory)
    assert report.listing.why == "missing"


def test_a_version_that_follows_another_one_is_noticed(hospital, laboratory):
    first = copy_of(laboratory, laboratory_record())
    other = copy_of(laboratory, laboratory_record(notes="Something else."))
    second = copy_of(laboratory, corrected(other))
    report = check(file_of(hospital, [first, second]), hospital, laboratory)
    assert report.records[1].why == "another-version-before"


@pytest.mark.parametrize("kind", ["Patient", "Binary", "Picture", "Provenance", "OperationOutcome"])
def test_what_no_record_has_is_noticed(file, hospital, laboratory, kind):
    extra = {
        "Patient": {"resourceType": "Patient", "gender": "male"},
        "Binary": {
            "resourceType": "Binary",
            "contentType": "application/fhir+json",
            "data": b64encode(b"{}").decode(),
        },
        "Provenance": {
            "resourceType": "Provenance",
            "recorded": "2026-03-01",
            "signature": [{"data": ""}],
        },
        "OperationOutcome": {"resourceType": "OperationOutcome"},
        "Picture": {"resourceType": "Binary", "contentType": "image/png", "data": ""},
    }[kind]

    def change(parsed):
        parsed["entry"].append({"fullUrl": "urn:uuid:1", "resource": extra})

    report = check(altered(file, change), hospital, laboratory)
    assert report.is_changed


def test_a_file_without_its_list_is_not_whole(file, hospital, laboratory):
    report = check(altered(file, lambda parsed: parsed["entry"].pop()), hospital, laboratory)
    assert report.listing.why == "no-list" and report.is_changed
    assert verdicts(report)[0] == ["right"] * 3

    def rename(parsed):
        parsed["identifier"]["value"] = "e" * 32

    assert check(altered(file, rename), hospital, laboratory).listing.why == "no-list"


def test_a_list_of_another_kind_or_another_file_is_refused(hospital, laboratory):
    copy = copy_of(laboratory, laboratory_record())
    report = check(file_of(hospital, [copy], label="medportal head 1"), hospital, laboratory)
    assert report.listing.why == "wrong-label" and report.is_changed


def test_a_list_that_the_laboratory_signed_for_the_hospital_is_refused(hospital, laboratory):
    copy = copy_of(laboratory, laboratory_record())
    forged = file_of(replace(laboratory, id="hospital"), [copy])
    report = check(forged, hospital, laboratory)
    assert report.listing.verdict is Verdict.SIGNER_REFUSED


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{",
        b"{}",
        b'{"entry":[]}',
        b'{"entry":{}}',
        b'{"entry":[{}],"resourceType":"Bundle","type":"collection"}',
        b'{"entry":[1],"resourceType":"Bundle","type":"collection"}',
        b'{"resourceType":"Bundle","type":"collection"}{}',
        b'{"resourceType":"Bundle","resourceType":"Bundle","type":"collection"}',
        b'{"resourceType":"Bundle","type":"searchset"}',
        b'{"resourceType":"Patient","type":"collection"}',
        b'{"resourceType":"Bundle" "type":"collection"}',
        b'{"entry":[{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}]}",
        b'{"entry":[{"a":1e999999999}]}',
        b'{"entry":[{"a":NaN}]}',
        b'{"entry":[{"a":1,"a":2}]}',
        b'{"entry":[{"a":"' + b"x" * 3_000_000 + b'"}]}',
        b'{"entry":[{"a":' + b"9" * 10_000 + b"}]}",
        b'{"entry":[{"a":"\\ud800"}]}',
        b'{"entry":[{"fullUrl":"a","resource":{"resourceType":"Provenance","signature":[]}}]}',
        b'{"entry":[{"fullUrl":"a","resource":{"resourceType":"Binary","data":"?",'
        b'"contentType":"application/fhir+json"}}]}',
        b'{"entry":[{"fullUrl":1,"resource":{"resourceType":"Binary"}}]}',
    ],
    ids=range(25),
)
def test_what_is_no_file_of_ours_is_refused_in_words(data, hospital):
    with pytest.raises(UnreadableFile) as error:
        check(data, hospital)
    assert str(error.value).endswith(".") and len(str(error.value)) < 100


def test_two_things_with_one_address_are_refused(file, hospital):
    with pytest.raises(UnreadableFile, match="same address"):
        check(altered(file, lambda p: p["entry"].insert(0, p["entry"][0])), hospital)


def test_a_file_that_was_cut_off_is_refused_wherever_it_was(file, hospital, laboratory):
    for place in range(1, len(file) - 1, max(1, len(file) // 150)):
        with pytest.raises(UnreadableFile):
            check(file[:place], hospital, laboratory)


def test_a_file_that_is_too_large_is_not_looked_at(monkeypatch, file, hospital):
    monkeypatch.setattr(checking, "MOST_BYTES", len(file) - 1)
    with pytest.raises(UnreadableFile, match="megabytes"):
        check(file, hospital)


def test_a_true_false_or_null_in_what_is_read_is_a_change(file, hospital, laboratory):
    def change(parsed):
        resources(parsed, "Patient")[0]["active"] = True

    report = check(altered(file, change), hospital, laboratory)
    assert report.records[0].why == "readable-part"


def test_a_list_whose_members_are_hostile_is_malformed(hospital, laboratory, monkeypatch):
    from medportal.core import canonical
    from medportal.pki.signatures import sign_statement

    signer = hospital.keys.signer(Purpose.RECORD)
    good = {
        "file": "f" * 32,
        "institution": "hospital",
        "left_out": [],
        "made": 1,
        "records": [["0" * 32, 1, b"1", 1]],
    }
    for name, bad in [
        ("made", "now"),
        ("made", 2**63),
        ("left_out", 5),
        ("records", [["x", 1, b"1", 1]]),
        ("records", [["0" * 32, True, b"1", 1]]),
        ("records", [["0" * 32, 1]]),
        ("records", 7),
    ]:
        signed = sign_statement(signer, "medportal export 1", {**good, name: bad}).to_bytes()
        data = altered(
            file_of(hospital, []),
            lambda parsed, signed=signed: resources(parsed, "Provenance")[0]["signature"][0].update(
                data=b64encode(signed).decode()
            ),
        )
        assert check(data, hospital).listing.why == "malformed-list", (name, bad)
    unlike = replace(sign_statement(signer, "x", good), payload=canonical.encode([1])).to_bytes()
    data = altered(
        file_of(hospital, []),
        lambda parsed: resources(parsed, "Provenance")[0]["signature"][0].update(
            data=b64encode(unlike).decode()
        ),
    )
    assert check(data, hospital).listing.why == "malformed-list"


def test_the_text_of_a_file_stands_in_no_message(hospital, laboratory):
    marker = "Zyxomorph fever"
    copy = copy_of(laboratory, laboratory_record(notes=marker))
    for data in (
        exact_json.encode({"entry": [{"notes": marker}]}),
        file_of(hospital, [copy])[:-300],
        json.dumps({marker: marker}).encode(),
    ):
        with pytest.raises(UnreadableFile) as error:
            check(data, hospital, laboratory)
        assert marker not in str(error.value)
