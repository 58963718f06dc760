"""Signed statements: every field altered, every confusion tried."""

from dataclasses import fields, replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from medportal.core import canonical
from medportal.pki import errors
from medportal.pki.certificates import Withdrawal
from medportal.pki.profiles import Algorithm, Purpose
from medportal.pki.signatures import (
    MAX_STATEMENT_BYTES,
    Signed,
    check_statement,
    sign_statement,
    verify_kept,
    verify_signature,
    verify_statement,
    with_newer_list,
)
from medportal.pki.signers import Signer
from medportal.pki.verify import verify_leaf

LABEL = "medportal test 1"
FIELDS = {"record": "a" * 32, "version": 1, "digest": b"\x00" * 32}
DAY = timedelta(days=1)
SIGNING = [Purpose.EXCHANGE, Purpose.RECORD, Purpose.RECEIPT, Purpose.HEAD, Purpose.HEAD_PQ]


@pytest.fixture
def signer(forger) -> Signer:
    return forger.signer()


@pytest.fixture
def signed(signer) -> Signed:
    return sign_statement(signer, LABEL, FIELDS)


@pytest.fixture
def check(forger, limits, now):
    """Verify a statement as one that the laboratory's record key signed, now."""

    def verify(signed, label=LABEL, **changes):
        given = {
            "ca": forger.ca,
            "purpose": Purpose.RECORD,
            "institution": "laboratory",
            "crl_limits": limits,
        }
        if not {"now", "at"} & set(changes):
            given["now"] = now
        return verify_statement(signed, label, **(given | changes))

    return verify


@pytest.mark.parametrize("purpose", SIGNING)
def test_what_was_signed_comes_back(forger, check, purpose):
    signed = sign_statement(forger.signer(purpose), LABEL, FIELDS)
    again = Signed.from_bytes(signed.to_bytes())
    assert again == signed
    assert check(again, purpose=purpose) == FIELDS


def test_signatures_are_over_what_the_module_says(signer, signed):
    covered = canonical.encode(
        ["medportal signed 1", LABEL, "Ed25519", signer.key_id, canonical.encode(FIELDS)]
    )
    signer.certificate.public_key().verify(signed.signature, covered)


def test_a_signer_does_not_show_its_key(signer):
    assert "Private" not in repr(signer)
    assert signer.key_id in repr(signer)


# Tampering.


def flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


def test_every_field_is_covered(signed, check, forger):
    """Each member replaced by a plausible other value: none passes."""
    other = forger.signer()
    altered = {
        "label": "medportal test 2",
        "algorithm": str(Algorithm.ML_DSA_65),
        "key_id": other.key_id,
        "payload": canonical.encode(FIELDS | {"version": 2}),
        "signature": other.sign(b"something"),
        "chain_der": other.chain_der,
        "crl_der": b"",
    }
    assert set(altered) == {field.name for field in fields(Signed)}
    expected = {
        "label": errors.WrongLabel,
        "algorithm": errors.WrongAlgorithm,
        "key_id": errors.WrongKey,
        "payload": errors.BadSignature,
        "signature": errors.BadSignature,
        "chain_der": errors.WrongKey,
        "crl_der": errors.CrlInvalid,
    }
    for name, value in altered.items():
        with pytest.raises(expected[name]):
            check(replace(signed, **{name: value}))


def test_no_flipped_bit_changes_what_is_read(signed, check):
    data, passed = signed.to_bytes(), []
    for position in range(len(data)):
        try:
            assert check(Signed.from_bytes(flipped(data, position))) == FIELDS
            passed.append(position)
        except errors.PkiError:
            continue
    # The count of unused bits before an X.509 signature is outside what is signed: one octet in
    # the certificate, one in the revocation list.
    assert len(passed) <= 2


@pytest.mark.parametrize("cut", [0, 1, 100, -1])
def test_truncated_or_lengthened(signed, cut):
    data = signed.to_bytes()
    for bad in (data[:cut], data + b"\x00"):
        with pytest.raises(errors.MalformedStatement):
            Signed.from_bytes(bad)


def test_too_large():
    with pytest.raises(errors.MalformedStatement, match="too large"):
        Signed.from_bytes(b"\x00" * (MAX_STATEMENT_BYTES + 1))


@pytest.mark.parametrize(
    "change",
    [
        {"format": "medportal signed 2"},
        {"label": b"x"},
        {"payload": "x"},
        {"chain": b"x"},
        {"chain": ["x"]},
        {"crl": None},
        {"more": 1},
    ],
)
def test_another_shape_than_a_statement(signed, change):
    members = canonical.decode(signed.to_bytes())
    with pytest.raises(errors.MalformedStatement):
        Signed.from_bytes(canonical.encode(members | change))


def test_not_even_a_map():
    with pytest.raises(errors.MalformedStatement):
        Signed.from_bytes(canonical.encode([1]))


def raw(signer: Signer, payload: bytes, label: str = LABEL) -> Signed:
    """A statement over any payload, signed by somebody who keeps no rules."""
    covered = canonical.encode(
        ["medportal signed 1", label, str(signer.algorithm), signer.key_id, payload]
    )
    return replace(
        sign_statement(signer, label, {}), payload=payload, signature=signer.sign(covered)
    )


@pytest.mark.parametrize(
    "payload", [b"", b"\xff", canonical.encode([1]), b"\xa2\x61a\x01\x61a\x02"]
)
def test_a_signed_payload_that_is_no_canonical_map(signer, check, payload):
    with pytest.raises(errors.MalformedStatement):
        check(raw(signer, payload))


def test_only_plain_data_is_signed(signer):
    with pytest.raises(canonical.NotCanonical):
        sign_statement(signer, LABEL, {"x": 1.5})


# Confusion of kinds, keys and algorithms.


def test_a_statement_of_one_kind_is_none_of_another(signed, check):
    with pytest.raises(errors.WrongLabel):
        check(signed, label="medportal test")


def test_label_and_payload_cannot_be_shifted_into_each_other(signer, check):
    one = sign_statement(signer, LABEL, FIELDS)
    with pytest.raises(errors.BadSignature):
        check(replace(one, label=LABEL + "0"), label=LABEL + "0")


@pytest.mark.parametrize("actual", SIGNING)
@pytest.mark.parametrize("wanted", list(Purpose))
def test_a_key_signs_for_its_purpose_only(forger, check, actual, wanted):
    if actual is wanted:
        return
    signed = sign_statement(forger.signer(actual), LABEL, FIELDS)
    with pytest.raises(errors.WrongPurpose):
        check(signed, purpose=wanted)


def test_the_statement_does_not_choose_the_algorithm(forger, check):
    """A record key's statement relabelled, and a head key's used in its place."""
    signed = sign_statement(forger.signer(Purpose.HEAD_PQ), LABEL, FIELDS)
    for algorithm in ("Ed25519", "none", "", "ed25519"):
        with pytest.raises(errors.WrongAlgorithm):
            check(replace(signed, algorithm=algorithm), purpose=Purpose.HEAD_PQ)


def test_a_tls_key_verifies_no_statement(forger, limits, now):
    channel = verify_leaf(
        forger.signer(Purpose.CHANNEL).chain_der,
        ca=forger.ca,
        crl_der=forger.crl(),
        purpose=Purpose.CHANNEL,
        institution="laboratory",
        now=now,
        crl_limits=limits,
    )
    with pytest.raises(errors.WrongPurpose):
        verify_signature(channel, b"", b"")


def test_anothers_certificate_with_ones_own_signature(forger, check, signer):
    """Mallory signs with her key and attaches the laboratory's certificate."""
    mallory = ed25519.Ed25519PrivateKey.generate()
    posing = Signer("laboratory", Purpose.RECORD, signer.key_id, signer.chain_der, b"", mallory)
    signed = replace(sign_statement(posing, LABEL, FIELDS), crl_der=forger.crl())
    with pytest.raises(errors.BadSignature):
        check(signed)


def test_another_authority(stranger, check):
    signed = sign_statement(stranger.signer(), LABEL, FIELDS)
    with pytest.raises(errors.WrongAuthority):
        check(signed)


def test_another_institution(signed, check):
    with pytest.raises(errors.WrongInstitution):
        check(signed, institution="hospital")


def test_a_revoked_key(forger, check, now):
    signer = forger.signer()
    line = Withdrawal(signer.certificate.serial_number, now, x509.ReasonFlags.key_compromise)
    signed = sign_statement(signer, LABEL, FIELDS)
    with pytest.raises(errors.Revoked):
        check(replace(signed, crl_der=forger.crl(number=2, withdrawals=[line])))
    assert check(signed)
    with pytest.raises(errors.CrlRolledBack):
        check(signed, crl_floor=2)


# Time.


def test_either_now_or_a_moment_past(signed, check, now):
    for both_or_none in ({"now": None}, {"now": now, "at": now}):
        with pytest.raises(ValueError, match="either"):
            check(signed, **both_or_none)


def test_a_statement_outlives_its_certificate(signed, check, now):
    years = now + 4000 * DAY
    with pytest.raises(errors.Expired):
        check(signed, now=years)
    assert check(signed, at=now) == FIELDS


def test_a_stale_list_does_not_serve_for_now(signed, check, now, limits):
    late = now + limits.refuse_after + DAY
    with pytest.raises(errors.CrlStale):
        check(signed, now=late)
    with pytest.raises(errors.CrlStale):
        check(signed, at=late)


@pytest.mark.parametrize(("withdrawn", "passes"), [(-1, False), (0, False), (1, True)])
def test_a_list_known_later_counts_from_its_date(forger, signer, check, now, withdrawn, passes):
    signed = sign_statement(signer, LABEL, FIELDS)
    line = Withdrawal(
        signer.certificate.serial_number,
        now + withdrawn * DAY,
        x509.ReasonFlags.key_compromise,
    )
    later = forger.crl(number=9, at=now + 90 * DAY, withdrawals=[line])
    if passes:
        assert check(signed, at=now, known_crl_der=later) == FIELDS
    else:
        with pytest.raises(errors.Revoked):
            check(signed, at=now, known_crl_der=later)


def test_a_list_known_later_that_does_not_name_the_key(forger, signed, check, now):
    assert check(signed, at=now, known_crl_der=forger.crl(number=9, at=now + 90 * DAY))


def test_a_list_known_later_must_be_the_authoritys(stranger, signed, check, now):
    with pytest.raises(errors.CrlInvalid):
        check(signed, at=now, known_crl_der=stranger.crl(number=9))


# Kept for good.


@pytest.fixture
def kept(forger, limits, now):
    """Verify a statement as one that the laboratory's record key signed, taken in at a moment."""

    def verify(signed, taken_in=now, label=LABEL, known=None, **changes: Any):
        given = {
            "ca": forger.ca,
            "purpose": Purpose.RECORD,
            "institution": "laboratory",
            "crl_limits": limits,
            "taken_in": taken_in,
            "known_crl_der": known or forger.crl(number=9, at=taken_in),
        }
        return verify_kept(signed, label, **(given | changes))

    return verify


def test_a_statement_taken_in_while_its_signer_is_certified(signed, kept):
    assert kept(signed) == FIELDS


def test_a_statement_taken_in_after_its_signer_lapsed(forger, signed, kept, check, now):
    """It waited; the list of the day on which it was taken in says that nothing was withdrawn."""
    late = now + 400 * DAY
    fresh = replace(signed, crl_der=forger.crl(number=5, at=late))
    with pytest.raises(errors.Expired):
        check(fresh, at=late)
    assert kept(fresh, late) == FIELDS
    with pytest.raises(errors.CrlStale):
        kept(signed, late)


def test_a_signer_that_lapsed_and_was_withdrawn(forger, signer, signed, kept, now):
    late = now + 400 * DAY
    serial = signer.certificate.serial_number
    for withdrawn in (now + DAY, late - DAY):
        line = Withdrawal(serial, withdrawn, x509.ReasonFlags.key_compromise)
        listed = forger.crl(number=6, at=late, withdrawals=[line])
        with pytest.raises(errors.Revoked):
            kept(replace(signed, crl_der=listed), late)
        with pytest.raises(errors.Revoked):
            kept(replace(signed, crl_der=forger.crl(number=5, at=late)), late, known=listed)


def test_a_withdrawal_after_it_was_taken_in_leaves_it_good(forger, signer, signed, kept, now):
    serial = signer.certificate.serial_number
    line = Withdrawal(serial, now + 2 * DAY, x509.ReasonFlags.key_compromise)
    later = forger.crl(number=7, at=now + 9 * DAY, withdrawals=[line])
    assert kept(signed, now + DAY, known=later) == FIELDS


def test_a_signer_that_is_not_certified_yet_or_whose_authority_is_gone(new_forger, kept, now):
    short = new_forger(lifetime=30)
    signed = sign_statement(short.signer(), LABEL, FIELDS)
    after = now + 60 * DAY
    fresh = replace(signed, crl_der=short.crl(number=5, at=after))
    given = {"ca": short.ca, "known": short.crl(number=5, at=after)}
    assert kept(fresh, after, **given) == FIELDS
    with pytest.raises(errors.NotYetValid):
        kept(fresh, now - DAY, **given)


def test_a_kept_statement_is_checked_like_any_other(forger, stranger, signed, kept):
    with pytest.raises(errors.WrongLabel):
        kept(signed, label="other")
    with pytest.raises(errors.WrongInstitution):
        kept(signed, institution="hospital")
    with pytest.raises(errors.WrongPurpose):
        kept(signed, purpose=Purpose.EXCHANGE)
    with pytest.raises(errors.BadSignature):
        kept(replace(signed, payload=canonical.encode({})))
    with pytest.raises(errors.WrongKey):
        kept(replace(signed, chain_der=forger.signer().chain_der))
    with pytest.raises(errors.CrlInvalid):
        kept(signed, known=stranger.crl())
    with pytest.raises(errors.BadChain):
        kept(replace(signed, chain_der=(b"no certificate",)))


def test_the_newer_list_is_kept_with_a_statement(forger, signed):
    newer, older = forger.crl(number=2), forger.crl(number=0)
    assert with_newer_list(signed, newer, ca=forger.ca).crl_der == newer
    for other in (older, signed.crl_der):
        assert with_newer_list(signed, other, ca=forger.ca) is signed


def numberless(issuer: x509.Certificate, key: Any, now) -> bytes:
    """A list without a number, as anybody can make one."""
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer.subject)
    made = builder.last_update(now).next_update(now + DAY).sign(key, SHA256())
    return made.public_bytes(Encoding.DER)


def test_a_carried_list_that_is_not_the_authoritys_is_part_of_a_malformed_statement(
    forger, stranger, signed, now
):
    bad = {
        "nothing": b"",
        "noise": b"list",
        "a stranger's": stranger.crl(number=99),
        "numberless": numberless(forger.ca, forger.key, now),
        "a stranger's, numberless": numberless(stranger.ca, stranger.key, now),
    }
    for name, crl in bad.items():
        with pytest.raises(errors.MalformedStatement):
            with_newer_list(replace(signed, crl_der=crl), forger.crl(number=2), ca=forger.ca)
            pytest.fail(name)


def test_a_held_list_that_is_not_the_authoritys_is_our_own_trouble(forger, stranger, signed):
    with pytest.raises(errors.CrlInvalid):
        with_newer_list(signed, stranger.crl(number=2), ca=forger.ca)


# Within a session.


def test_a_leaf_verified_once_serves_for_many(forger, limits, now):
    signer, other = forger.signer(), forger.signer()
    leaf = verify_leaf(
        signer.chain_der,
        ca=forger.ca,
        crl_der=signer.crl_der,
        purpose=Purpose.RECORD,
        institution="laboratory",
        now=now,
        crl_limits=limits,
    )
    assert check_statement(sign_statement(signer, LABEL, FIELDS), LABEL, leaf) == FIELDS
    with pytest.raises(errors.WrongKey):
        check_statement(sign_statement(other, LABEL, FIELDS), LABEL, leaf)
    with pytest.raises(errors.WrongLabel):
        check_statement(sign_statement(signer, "other", FIELDS), LABEL, leaf)
