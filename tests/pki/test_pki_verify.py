"""Certificates and revocation lists: what passes, and every way in which one must not."""

from dataclasses import FrozenInstanceError, replace
from datetime import datetime, timedelta, timezone
from functools import partial

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding

from medportal.pki import errors
from medportal.pki.certificates import Withdrawal, build_ca, build_leaf, generate_key
from medportal.pki.profiles import ARC, Algorithm, Purpose, institution_uri, meaning
from medportal.pki.verify import (
    MAX_CERTIFICATE_BYTES,
    MAX_CRL_BYTES,
    Caution,
    algorithm_of,
    institution_of,
    verify_authority,
    verify_crl,
    verify_crl_origin,
    verify_leaf,
    verify_path,
)

SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)


def der(certificate):
    return certificate.public_bytes(Encoding.DER)


@pytest.fixture
def check(forger, limits, now):
    """Verify a leaf as the laboratory's record certificate, now."""

    def verify(leaf, **changes):
        given = {
            "ca": forger.ca,
            "crl_der": forger.crl(),
            "purpose": Purpose.RECORD,
            "institution": "laboratory",
            "now": now,
            "crl_limits": limits,
        }
        return verify_leaf((der(leaf),), **(given | changes))

    return verify


@pytest.mark.parametrize("purpose", Purpose)
def test_a_good_leaf_of_every_purpose_passes(check, forger, now, purpose):
    leaf = forger.leaf(purpose)
    verified = check(leaf, purpose=purpose)
    assert verified.certificate == leaf
    assert verified.serial == leaf.serial_number
    assert verified.public_key == leaf.public_key()
    assert (verified.institution, verified.purpose) == ("laboratory", purpose)
    assert (verified.crl_number, verified.crl_next_update) == (1, now + 7 * DAY)
    assert verified.warnings == ()
    assert len(verified.key_id) == 32
    with pytest.raises(FrozenInstanceError):
        verified.purpose = Purpose.HEAD


@pytest.mark.parametrize("actual", Purpose)
@pytest.mark.parametrize("wanted", Purpose)
def test_no_purpose_passes_for_another(check, forger, actual, wanted):
    if actual is wanted:
        return
    with pytest.raises(errors.WrongPurpose):
        check(forger.leaf(actual), purpose=wanted)


# 1. The chain.


@pytest.mark.parametrize("count", [0, 2, 3])
def test_a_chain_is_one_leaf_and_at_most_its_link(forger, limits, now, count):
    with pytest.raises(errors.BadChain, match="one leaf|did not issue"):
        verify_path(
            [der(forger.leaf())] * count,
            ca=forger.ca,
            purpose=Purpose.RECORD,
            institution="laboratory",
            now=now,
        )


@pytest.mark.parametrize("data", [b"", b"\x30\x03abc", b"x" * (MAX_CERTIFICATE_BYTES + 1)])
def test_garbage_is_no_chain(forger, now, data):
    with pytest.raises(errors.BadChain):
        verify_path([data], ca=forger.ca, purpose=Purpose.RECORD, institution="laboratory", now=now)


def test_a_naive_time_is_refused(check, forger, now):
    with pytest.raises(ValueError, match="naive"):
        check(forger.leaf(), now=now.replace(tzinfo=None))


# 2. The path.


def test_another_authority_with_the_same_name(check, stranger):
    with pytest.raises(errors.WrongAuthority):
        check(stranger.leaf())


def test_a_leaf_that_signs_itself(check, now, new_forger):
    key = generate_key(Algorithm.P256)
    selfmade = build_ca(key, "laboratory", "Laboratory", new_forger.validity())
    with pytest.raises(errors.WrongAuthority):
        check(selfmade)


def test_a_leaf_does_not_issue_leaves(check, forger):
    key = generate_key(Algorithm.P256)
    channel = forger.leaf(Purpose.CHANNEL, key=key)
    record = generate_key(Algorithm.ED25519).public_key()
    forged = build_leaf(key, channel, record, Purpose.RECORD, "laboratory", forger.validity())
    with pytest.raises(errors.WrongAuthority):
        check(forged)


def flips(data):
    """Each copy of ``data`` with one bit flipped."""
    for position in range(len(data)):
        yield data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


def test_a_flipped_bit_in_the_certificate(forger, now):
    leaf = forger.leaf()
    for bad in flips(der(leaf)):
        try:
            read = verify_path(
                [bad], ca=forger.ca, purpose=Purpose.RECORD, institution="laboratory", now=now
            )
        except errors.CertificateError:
            continue
        # Only the count of unused bits before the signature, which nothing signs, can differ.
        assert read.certificate.tbs_certificate_bytes == leaf.tbs_certificate_bytes


def test_validity_begins_and_ends_with_its_seconds(check, forger, now):
    leaf = forger.leaf(validity=replace(forger.validity(2), start=now))
    crl = partial(forger.crl, days=7)
    assert check(leaf, now=now)
    assert check(leaf, now=now + 2 * DAY, crl_der=crl(at=now))
    with pytest.raises(errors.NotYetValid):
        check(leaf, now=now - SECOND)
    with pytest.raises(errors.Expired):
        check(leaf, now=now + 2 * DAY + SECOND)


def test_the_same_moment_in_another_time_zone(check, forger, now):
    leaf = forger.leaf(validity=replace(forger.validity(2), start=now))
    east = timezone(timedelta(hours=9))
    assert check(leaf, now=now.astimezone(east))
    with pytest.raises(errors.NotYetValid):
        check(leaf, now=(now - SECOND).astimezone(east))


def test_an_expired_authority(new_forger, limits, now):
    old = new_forger(lifetime=10)
    leaf = old.leaf()
    assert leaf.not_valid_after_utc == old.ca.not_valid_after_utc
    with pytest.raises(errors.Expired):
        verify_path(
            [der(leaf)],
            ca=old.ca,
            purpose=Purpose.RECORD,
            institution="laboratory",
            now=now + 11 * DAY,
        )


def usual(forger, key, **changes):
    """The extensions of a good record certificate, some changed or (``None``) left out."""
    identifier = forger.ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    usage = forger.leaf().extensions.get_extension_for_class(x509.KeyUsage).value
    given = {
        "basic": (x509.BasicConstraints(ca=False, path_length=None), True),
        "usage": (usage, True),
        "uses": (x509.ExtendedKeyUsage([meaning(Purpose.RECORD).oid]), False),
        "names": (
            x509.SubjectAlternativeName(
                [x509.UniformResourceIdentifier(institution_uri("laboratory"))]
            ),
            True,
        ),
        "authority": (
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier),
            False,
        ),
    } | changes
    return forger.by_hand(key, [each for each in given.values() if each is not None])


@pytest.fixture
def key():
    return generate_key(Algorithm.ED25519)


def test_a_certificate_made_by_hand_passes(check, forger, key):
    assert check(usual(forger, key))


def test_an_unknown_critical_extension(check, forger, key):
    odd = x509.UnrecognizedExtension(x509.ObjectIdentifier(f"{ARC}.9"), b"\x05\x00")
    assert check(usual(forger, key, odd=(odd, False)))
    with pytest.raises(errors.BadChain):
        check(usual(forger, key, odd=(odd, True)))


def test_an_authority_constrained_to_other_names(new_forger, limits, now):
    owner = new_forger()
    ca = build_ca(owner.key, "laboratory", "L", owner.validity(), ["laboratory.localhost"])
    verify = partial(verify_path, ca=ca, purpose=Purpose.WEB, institution="laboratory", now=now)

    def web(*names):
        public = generate_key(Algorithm.P256).public_key()
        return der(
            build_leaf(owner.key, ca, public, Purpose.WEB, "laboratory", owner.validity(), names)
        )

    assert verify([web("laboratory.localhost")])
    assert verify([web("www.laboratory.localhost")])
    with pytest.raises(errors.BadChain):
        verify([web("bank.example")])
    with pytest.raises(errors.BadChain):
        verify([web("laboratory.localhost", "hospital.localhost")])


# 3. The purpose.


@pytest.mark.parametrize(
    "uses",
    [
        [meaning(Purpose.RECEIPT).oid],
        [meaning(Purpose.RECORD).oid, meaning(Purpose.RECEIPT).oid],
        [meaning(Purpose.RECORD).oid, meaning(Purpose.RECORD).oid],
        [x509.oid.ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE],
        [x509.oid.ExtendedKeyUsageOID.SERVER_AUTH, meaning(Purpose.RECORD).oid],
    ],
)
def test_extended_key_usages_are_exact(check, forger, key, uses):
    with pytest.raises(errors.WrongPurpose):
        check(usual(forger, key, uses=(x509.ExtendedKeyUsage(uses), False)))


@pytest.mark.parametrize("missing", ["uses", "usage"])
def test_a_certificate_that_does_not_say_what_it_is_for(check, forger, key, missing):
    with pytest.raises(errors.WrongPurpose, match="does not say"):
        check(usual(forger, key, **{missing: None}))


@pytest.mark.parametrize("more", ["content_commitment", "key_agreement", "data_encipherment"])
def test_key_usage_is_signature_alone(check, forger, key, more):
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment")
    names += ("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    usage = x509.KeyUsage(**{name: name in {"digital_signature", more} for name in names})
    with pytest.raises(errors.WrongPurpose, match="signatures alone"):
        check(usual(forger, key, usage=(usage, True)))


@pytest.mark.parametrize(
    "other",
    [generate_key(Algorithm.P256), generate_key(Algorithm.ML_DSA_65), ed448.Ed448PrivateKey],
    ids=["p256", "ml-dsa-65", "ed448"],
)
def test_a_key_of_another_algorithm_than_the_purpose(check, forger, other):
    key = other.generate() if isinstance(other, type) else other
    with pytest.raises(errors.WrongPurpose, match="another kind"):
        check(usual(forger, key))


def test_another_curve_is_another_algorithm():
    assert algorithm_of(ec.generate_private_key(ec.SECP384R1()).public_key()) is None
    assert algorithm_of("nothing") is None
    for algorithm in Algorithm:
        assert algorithm_of(generate_key(algorithm).public_key()) is algorithm


def test_malformed_extensions_signed_by_the_authority_itself(check, forger, key):
    """Partners' authorities may be hostile: parsing what they signed must not raise at random."""
    bad = [
        (x509.ExtendedKeyUsage.oid, b"\x04\x01x"),
        (x509.KeyUsage.oid, b"\x04\x01x"),
        (x509.SubjectAlternativeName.oid, b"\x04\x01x"),
        (x509.SubjectAlternativeName.oid, b"\x30\x02\x89\x00"),
        (x509.BasicConstraints.oid, b"\x04\x01x"),
    ]
    names = {"uses": 0, "usage": 1, "names": 2, "basic": 4}
    for oid, value in bad:
        [name] = [each for each, index in names.items() if bad[index][0] == oid]
        odd = (x509.UnrecognizedExtension(oid, value), False)
        with pytest.raises(errors.CertificateError):
            check(usual(forger, key, **{name: odd}))


# 4. The institution.


def test_another_institution(check, forger):
    with pytest.raises(errors.WrongInstitution):
        check(forger.leaf(), institution="hospital")
    with pytest.raises(errors.WrongInstitution):
        check(forger.leaf(institution="hospital"))


def test_an_authority_speaks_for_one_institution_only(check, forger):
    """The laboratory's authority certifies a key for the hospital, and it is asked for."""
    with pytest.raises(errors.WrongInstitution):
        check(forger.leaf(institution="hospital"), institution="hospital")


@pytest.mark.parametrize(
    "names",
    [
        [x509.DNSName("laboratory")],
        [x509.UniformResourceIdentifier("urn:medportal:institution:")],
        [x509.UniformResourceIdentifier("URN:MEDPORTAL:INSTITUTION:laboratory")],
        [x509.UniformResourceIdentifier("https://laboratory")],
        [
            x509.UniformResourceIdentifier(institution_uri("laboratory")),
            x509.UniformResourceIdentifier(institution_uri("hospital")),
        ],
    ],
)
def test_names_that_are_not_one_institution(check, forger, key, names):
    with pytest.raises(errors.WrongInstitution):
        check(usual(forger, key, names=(x509.SubjectAlternativeName(names), True)))


def test_a_certificate_without_names(check, forger, key):
    nameless = usual(forger, key, names=None)
    with pytest.raises(errors.BadChain):
        check(nameless)
    with pytest.raises(errors.WrongInstitution, match="no institution"):
        institution_of(nameless)


# 5. The list is there and is the authority's.


def test_no_list(check, forger):
    with pytest.raises(errors.CrlMissing):
        check(forger.leaf(), crl_der=None)


@pytest.mark.parametrize("data", [b"", b"\x30\x03abc", b"x" * (MAX_CRL_BYTES + 1)])
def test_garbage_is_no_list(check, forger, data):
    with pytest.raises(errors.CrlInvalid):
        check(forger.leaf(), crl_der=data)


def test_a_list_signed_by_another(check, forger, stranger):
    with pytest.raises(errors.CrlInvalid, match="not signed"):
        check(forger.leaf(), crl_der=stranger.crl())


def test_a_list_of_another_issuer(check, forger, new_forger):
    with pytest.raises(errors.CrlInvalid, match="not signed"):
        check(forger.leaf(), crl_der=new_forger("hospital").crl())


def test_a_flipped_bit_in_the_list(forger, now):
    line = Withdrawal(7, now, x509.ReasonFlags.superseded)
    good = forger.crl(withdrawals=[line])
    signed = x509.load_der_x509_crl(good).tbs_certlist_bytes
    for bad in flips(good):
        try:
            read = verify_crl_origin(bad, ca=forger.ca)
        except errors.CrlInvalid:
            continue
        assert read.tbs_certlist_bytes == signed


def handmade_crl(forger, now, *, extensions=(), entry=None, next_update=7, digest=None, key=None):
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(forger.ca.subject)
        .last_update(now)
        .next_update(now + timedelta(days=next_update))
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    if entry is not None:
        revoked = x509.RevokedCertificateBuilder().serial_number(9).revocation_date(now)
        builder = builder.add_revoked_certificate(revoked.add_extension(entry, True).build())
    return builder.sign(key or forger.key, digest or SHA256()).public_bytes(Encoding.DER)


NUMBER = (x509.CRLNumber(3), False)


def test_a_list_by_hand_passes(check, forger, now):
    assert check(forger.leaf(), crl_der=handmade_crl(forger, now, extensions=[NUMBER]))


def test_a_list_without_a_number(check, forger, now):
    with pytest.raises(errors.CrlInvalid, match="no number"):
        check(forger.leaf(), crl_der=handmade_crl(forger, now))


def sequence(*parts):
    """Return a DER SEQUENCE, its length in as few octets as DER demands."""
    body = b"".join(parts)
    if len(body) < 128:
        return bytes([0x30, len(body)]) + body
    size = len(body).to_bytes(1 if len(body) < 256 else 2, "big")
    return bytes([0x30, 0x80 | len(size)]) + size + body


def test_a_list_that_does_not_say_when_the_next_is_due(check, forger, now):
    """The builder will not leave it out, so the DER is taken apart and signed again."""
    whole = x509.load_der_x509_crl(handmade_crl(forger, now, extensions=[NUMBER]))
    due = b"\x17\x0d" + whole.next_update_utc.strftime("%y%m%d%H%M%SZ").encode()
    assert whole.tbs_certlist_bytes.count(due) == 1
    header = 3 if whole.tbs_certlist_bytes[1] == 0x81 else 2
    signed = sequence(whole.tbs_certlist_bytes[header:].replace(due, b""))
    signature = b"\x00" + forger.key.sign(signed, ec.ECDSA(SHA256()))
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")
    crl = sequence(signed, algorithm, b"\x03" + bytes([len(signature)]) + signature)
    assert x509.load_der_x509_crl(crl).next_update_utc is None
    with pytest.raises(errors.CrlInvalid, match="when the next is due"):
        check(forger.leaf(), crl_der=crl)


def test_a_delta_is_not_a_list(check, forger, now):
    delta = handmade_crl(forger, now, extensions=[NUMBER, (x509.DeltaCRLIndicator(2), True)])
    with pytest.raises(errors.CrlInvalid, match="kind"):
        check(forger.leaf(), crl_der=delta)


def test_a_line_of_a_kind_not_understood(check, forger, now):
    other = x509.CertificateIssuer([x509.DirectoryName(forger.ca.subject)])
    with pytest.raises(errors.CrlInvalid, match="kind"):
        check(forger.leaf(), crl_der=handmade_crl(forger, now, extensions=[NUMBER], entry=other))


def test_a_list_with_another_signature_algorithm(check, forger, now):
    odd = handmade_crl(forger, now, extensions=[NUMBER], digest=SHA384())
    with pytest.raises(errors.CrlInvalid, match="not signed"):
        check(forger.leaf(), crl_der=odd)


def test_a_malformed_extension_in_the_list(check, forger, now):
    broken = x509.UnrecognizedExtension(x509.CRLNumber.oid, b"\x04\x01x")
    with pytest.raises(errors.CrlInvalid, match="malformed"):
        check(forger.leaf(), crl_der=handmade_crl(forger, now, extensions=[(broken, False)]))


# 6. The list's age.


def test_a_list_ages_from_fresh_to_warning_to_refusal(check, forger, now, limits):
    leaf = forger.leaf()
    crl = forger.crl(at=now, days=7)
    age = {
        timedelta(0): (),
        limits.warn_after: (),
        limits.warn_after + SECOND: (Caution.CRL_STALE,),
        limits.refuse_after: (Caution.CRL_STALE,),
    }
    for passed, warnings in age.items():
        assert check(leaf, crl_der=crl, now=now + passed).warnings == warnings
    with pytest.raises(errors.CrlStale):
        check(leaf, crl_der=crl, now=now + limits.refuse_after + SECOND)


def test_a_far_next_update_does_not_lengthen_the_limit(check, forger, now, limits):
    with pytest.raises(errors.CrlStale):
        check(
            forger.leaf(),
            crl_der=forger.crl(days=3000),
            now=now + limits.refuse_after + SECOND,
        )


def test_a_near_next_update_warns_earlier(check, forger, now):
    crl = forger.crl(days=1)
    assert check(forger.leaf(), crl_der=crl, now=now + 2 * DAY).warnings == (Caution.CRL_STALE,)


def test_clocks_may_differ_a_little(check, forger, now, limits):
    leaf = forger.leaf()
    assert check(leaf, crl_der=forger.crl(at=now + limits.skew))
    with pytest.raises(errors.CrlFromFuture):
        check(leaf, crl_der=forger.crl(at=now + limits.skew + SECOND))


def test_an_older_list_than_one_seen(check, forger):
    leaf = forger.leaf()
    assert check(leaf, crl_der=forger.crl(number=5), crl_floor=5)
    with pytest.raises(errors.CrlRolledBack):
        check(leaf, crl_der=forger.crl(number=4), crl_floor=5)


# 7. Revocation.


@pytest.mark.parametrize("reason", [x509.ReasonFlags.key_compromise, x509.ReasonFlags.superseded])
def test_a_revoked_leaf(check, forger, now, reason):
    leaf, other = forger.leaf(), forger.leaf()
    crl = forger.crl(withdrawals=[Withdrawal(leaf.serial_number, now, reason)])
    with pytest.raises(errors.Revoked):
        check(leaf, crl_der=crl)
    assert check(other, crl_der=crl)


# The parts that are of use alone.


def test_without_a_list_the_result_says_so(forger, now):
    path = verify_path(
        [der(forger.leaf())],
        ca=forger.ca,
        purpose=Purpose.RECORD,
        institution="laboratory",
        now=now,
    )
    assert path.warnings == (Caution.REVOCATION_UNCHECKED,)
    assert path.crl_number is None


def test_lists_alone(forger, stranger, limits, now):
    crl = forger.crl()
    listed = verify_crl(crl, ca=forger.ca, now=now, crl_limits=limits)
    assert der(listed) == crl
    assert verify_crl_origin(crl, ca=forger.ca) == listed
    with pytest.raises(errors.CrlRolledBack):
        verify_crl(forger.crl(), ca=forger.ca, now=now, crl_limits=limits, crl_floor=2)
    with pytest.raises(errors.CrlInvalid):
        verify_crl_origin(stranger.crl(), ca=forger.ca)


def test_a_fit_authority(forger, now):
    assert verify_authority(forger.ca, "laboratory", now) is forger.ca


def test_authorities_that_are_not_fit(forger, now: datetime):
    with pytest.raises(errors.UnfitAuthority, match="this institution"):
        verify_authority(forger.ca, "hospital", now)
    with pytest.raises(errors.UnfitAuthority, match="self-signed"):
        verify_authority(forger.leaf(), "laboratory", now)
    for moment in (now - DAY, now + 4000 * DAY):
        with pytest.raises(errors.UnfitAuthority, match="valid now"):
            verify_authority(forger.ca, "laboratory", moment)


def selfsigned(key, forger, *, basic=None, usage=None):
    """An authority by hand, some extension replaced."""
    replaced = {x509.BasicConstraints: basic, x509.KeyUsage: usage}
    builder = (
        x509.CertificateBuilder()
        .subject_name(forger.ca.subject)
        .issuer_name(forger.ca.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(forger.ca.not_valid_before_utc)
        .not_valid_after(forger.ca.not_valid_after_utc)
    )
    for extension in forger.ca.extensions:
        value = replaced.get(type(extension.value)) or extension.value
        builder = builder.add_extension(value, extension.critical)
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else SHA256()
    return builder.sign(key, digest)


def test_authorities_with_other_powers_or_keys(forger, now):
    leaf_usage = forger.leaf().extensions.get_extension_for_class(x509.KeyUsage).value
    bad = [
        selfsigned(forger.key, forger, basic=x509.BasicConstraints(ca=True, path_length=None)),
        selfsigned(forger.key, forger, basic=x509.BasicConstraints(ca=False, path_length=None)),
        selfsigned(forger.key, forger, usage=leaf_usage),
        selfsigned(generate_key(Algorithm.ED25519), forger),
        selfsigned(ec.generate_private_key(ec.SECP384R1()), forger),
    ]
    assert verify_authority(selfsigned(forger.key, forger), "laboratory", now)
    for ca in bad:
        with pytest.raises(errors.UnfitAuthority):
            verify_authority(ca, "laboratory", now)


def test_error_codes_are_distinct_and_named():
    family = [e for e in vars(errors).values() if isinstance(e, type)]
    codes = [e.code for e in family if issubclass(e, errors.PkiError)]
    assert len(codes) == len(set(codes))
