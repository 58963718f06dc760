"""An authority on another machine: requests, what is refused in them, and imports."""

import shutil
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from medportal.pki import ca as authority
from medportal.pki import certificates, errors, offline
from medportal.pki.certificates import generate_key, leaf_extensions
from medportal.pki.layout import Layout
from medportal.pki.profiles import Purpose, meaning
from medportal.pki.requests import MAX_REQUEST_BYTES, build_request, read_request

WEB = ("laboratory.localhost",)


@pytest.fixture
def away(laboratory, tmp_path):
    """The laboratory's authority, moved to another place."""
    offline.detach(laboratory.pki, tmp_path / "away")
    return tmp_path / "away"


def names_for(purpose):
    return WEB if purpose is Purpose.WEB else ()


def ask(laboratory, purpose, group):
    pem, _ = offline.request(
        laboratory.pki,
        purpose,
        dns_names=names_for(purpose),
        group_passphrase=laboratory.passphrases[group],
    )
    return pem


def sign(laboratory, away, pem, now):
    wanted = read_request(pem, authority.read_ca(away))
    return offline.sign(away, wanted, ca_passphrase=laboratory.passphrases["ca"], now=now)


def put_in_use(laboratory, pem, now):
    return offline.import_certificate(
        laboratory.pki, pem, group_passphrases=laboratory.passphrases, now=now
    )


def test_detaching_leaves_no_key_of_the_authority(laboratory, away, now):
    assert not Layout(laboratory.pki).ca_key.exists()
    assert Layout(away).ca_key.stat().st_mode & 0o777 == 0o600
    with pytest.raises(errors.KeyFileMissing, match="medportal pki request"):
        authority.make_crl(laboratory.pki, ca_passphrase=laboratory.passphrases["ca"], now=now)
    # And everything else goes on.
    assert laboratory.keys.signer(Purpose.RECORD).crl_der
    assert laboratory.keys.credentials(Purpose.CHANNEL)
    with pytest.raises(errors.AlreadyThere):
        offline.detach(laboratory.pki, away)


@pytest.mark.parametrize(
    ("purpose", "group"),
    [("web", "portal"), ("channel", "exchange"), ("record", "portal"), ("head-pq", "jobs")],
)
def test_request_sign_import(laboratory, away, now, purpose, group):
    purpose = Purpose(purpose)
    before = Layout(laboratory.pki).key(purpose).read_bytes()
    pem = ask(laboratory, purpose, group)
    # The same key again, so that a file that was lost can be written again.
    first, again = (x509.load_pem_x509_csr(each) for each in (pem, ask(laboratory, purpose, group)))
    assert first.public_key() == again.public_key()
    assert Layout(laboratory.pki).key(purpose).read_bytes() == before
    signed = sign(laboratory, away, pem, now)
    done = put_in_use(laboratory, signed, now)
    assert done.purpose is purpose
    [info] = [i for i in authority.inventory(laboratory.pki) if i.purpose is purpose]
    assert info.serial == done.leaf.serial
    assert info.dns_names == names_for(purpose)
    assert not Layout(laboratory.pki).requested(purpose).exists()
    with pytest.raises(errors.KeyFileMissing, match="waits for that certificate"):
        put_in_use(laboratory, signed, now)


def test_one_key_is_certified_once(laboratory, away, now):
    pem = ask(laboratory, Purpose.RECORD, "portal")
    sign(laboratory, away, pem, now)
    with pytest.raises(errors.KeyReused):
        sign(laboratory, away, pem, now)


def test_the_renewed_one_stands_when_the_old_one_is_revoked(laboratory, away, now):
    [old] = [i for i in authority.inventory(laboratory.pki) if i.purpose is Purpose.RECORD]
    signed = sign(laboratory, away, ask(laboratory, Purpose.RECORD, "portal"), now)
    word = laboratory.passphrases["ca"]
    crl = authority.revoke(away, old.serial, ca_passphrase=word, now=now)
    offline.import_crl(laboratory.pki, crl.public_bytes(Encoding.DER), now)
    assert put_in_use(laboratory, signed, now).leaf.serial != old.serial
    # A certificate that was withdrawn on its way is not put in use.
    signed = sign(laboratory, away, ask(laboratory, Purpose.RECORD, "portal"), now)
    serial = x509.load_pem_x509_certificate(signed).serial_number
    crl = authority.revoke(away, serial, ca_passphrase=word, now=now)
    offline.import_crl(laboratory.pki, crl.public_bytes(Encoding.PEM), now)
    with pytest.raises(errors.Revoked):
        put_in_use(laboratory, signed, now)


def test_a_serial_number_is_never_used_twice(laboratory, away, now, monkeypatch):
    monkeypatch.setattr(certificates.x509, "random_serial_number", lambda: 4711)
    sign(laboratory, away, ask(laboratory, Purpose.RECORD, "portal"), now)
    with pytest.raises(errors.AlreadyThere, match="serial number"):
        sign(laboratory, away, ask(laboratory, Purpose.RECEIPT, "exchange"), now)


# What is refused in a request.


def by_hand(key, extensions, algorithm=None):
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(key, algorithm).public_bytes(Encoding.PEM)


def wanted(purpose=Purpose.RECORD, institution="laboratory", dns_names=()):
    return leaf_extensions(purpose, institution, dns_names)


def without(extensions, kind):
    return [each for each in extensions if not isinstance(each[0], kind)]


BAD = {
    "an authority": [(x509.BasicConstraints(ca=True, path_length=None), True)],
    "certificate signing": [
        (
            x509.KeyUsage(
                *(True, False, False, False, False, True, True, False, False),
            ),
            True,
        )
    ],
    "name constraints": [(x509.NameConstraints([x509.DNSName("x.localhost")], None), True)],
    "a policy": [
        (
            x509.CertificatePolicies(
                [x509.PolicyInformation(x509.ObjectIdentifier("2.5.29.32.0"), None)]
            ),
            False,
        )
    ],
}


@pytest.mark.parametrize("what", BAD)
def test_a_request_for_more_is_refused(forger, what):
    [extra] = BAD[what]
    extensions = [*without(wanted(), type(extra[0])), extra]
    pem = by_hand(ed25519.Ed25519PrivateKey.generate(), extensions)
    with pytest.raises(errors.RequestError):
        read_request(pem, forger.ca)


@pytest.mark.parametrize(
    ("purpose", "institution", "dns_names"),
    [
        (Purpose.RECORD, "hospital", ()),
        (Purpose.RECORD, "laboratory", ("laboratory.localhost",)),
        (Purpose.WEB, "laboratory", ()),
        (Purpose.WEB, "laboratory", ("bank.localhost",)),
        (Purpose.WEB, "laboratory", ("evillaboratory.localhost",)),
    ],
)
def test_another_name_is_refused(laboratory, purpose, institution, dns_names):
    key = generate_key(meaning(purpose).algorithm)
    pem = build_request(key, institution, purpose, dns_names)
    with pytest.raises(errors.RequestError):
        read_request(pem, laboratory.ca)


def test_a_second_institution_or_an_address_beside_ours_is_refused(forger):
    for name in ("urn:medportal:institution:hospital", "https://example.test/"):
        san = x509.SubjectAlternativeName(
            [
                x509.UniformResourceIdentifier("urn:medportal:institution:laboratory"),
                x509.UniformResourceIdentifier(name),
            ]
        )
        extensions = [*without(wanted(), x509.SubjectAlternativeName), (san, False)]
        with pytest.raises(errors.RequestError, match="nothing besides"):
            read_request(by_hand(ed25519.Ed25519PrivateKey.generate(), extensions), forger.ca)


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65537, 1024),
        rsa.generate_private_key(65537, 3072),
        ec.generate_private_key(ec.SECP384R1()),
    ],
    ids=["RSA 1024", "RSA 3072", "P-384"],
)
def test_another_kind_of_key_is_refused(forger, key):
    with pytest.raises(errors.RequestError, match="has to be ECDSA-P256"):
        read_request(by_hand(key, wanted(Purpose.CHANNEL), SHA256()), forger.ca)


def test_purposes_cannot_be_mixed(forger):
    both = x509.ExtendedKeyUsage([meaning(Purpose.RECORD).oid, meaning(Purpose.HEAD).oid])
    extensions = [*without(wanted(), x509.ExtendedKeyUsage), (both, False)]
    key = ed25519.Ed25519PrivateKey.generate()
    with pytest.raises(errors.RequestError, match="no purpose"):
        read_request(by_hand(key, extensions), forger.ca)
    with pytest.raises(errors.RequestError, match="no purpose"):
        read_request(by_hand(key, []), forger.ca)


def test_a_request_proves_possession(forger):
    """Somebody else's public key, under a signature of one's own."""
    der = x509.load_pem_x509_csr(
        build_request(ed25519.Ed25519PrivateKey.generate(), "laboratory", Purpose.RECORD)
    ).public_bytes(Encoding.DER)
    for place in range(len(der) - 64, len(der), 7):
        changed = bytearray(der)
        changed[place] ^= 1
        pem = x509.load_der_x509_csr(bytes(changed)).public_bytes(Encoding.PEM)
        with pytest.raises(errors.RequestError, match="not signed with the key"):
            read_request(pem, forger.ca)


@pytest.mark.parametrize("data", [b"", b"garbage", b"x" * (MAX_REQUEST_BYTES + 1)])
def test_garbage_is_no_request(forger, data):
    with pytest.raises(errors.RequestError):
        read_request(data, forger.ca)


# What is refused on the way back.


def test_a_certificate_of_another_authority_is_not_put_in_use(laboratory, away, forger, now):
    pem = ask(laboratory, Purpose.RECORD, "portal")
    key = x509.load_pem_x509_csr(pem).public_key()
    made = certificates.build_leaf(
        forger.key, forger.ca, key, Purpose.RECORD, "laboratory", forger.validity()
    )
    with pytest.raises(errors.WrongAuthority):
        put_in_use(laboratory, made.public_bytes(Encoding.PEM), now)


def test_a_certificate_for_another_purpose_is_not_put_in_use(laboratory, away, now):
    pem = ask(laboratory, Purpose.RECORD, "portal")
    key = x509.load_pem_x509_csr(pem).public_key()
    made = authority.certify(
        away, key, Purpose.HEAD, ca_passphrase=laboratory.passphrases["ca"], now=now
    )
    with pytest.raises(errors.WrongPurpose):
        put_in_use(laboratory, made.public_bytes(Encoding.PEM), now)


@pytest.mark.parametrize("data", [b"", b"x", b"-----BEGIN CERTIFICATE-----\nAA==\n"])
def test_garbage_is_not_put_in_use(laboratory, now, data):
    with pytest.raises(errors.KeyFileUnfit):
        put_in_use(laboratory, data, now)


def test_lists_only_rise(laboratory, away, now, forger):
    word = laboratory.passphrases["ca"]
    lists = [
        authority.make_crl(away, ca_passphrase=word, now=now).public_bytes(Encoding.DER)
        for _ in range(2)
    ]
    offline.import_crl(laboratory.pki, lists[1], now)
    offline.import_crl(laboratory.pki, lists[1], now)
    with pytest.raises(errors.CrlRolledBack):
        offline.import_crl(laboratory.pki, lists[0], now)
    with pytest.raises(errors.CrlInvalid):
        offline.import_crl(laboratory.pki, forger.crl(number=9), now)
    with pytest.raises(errors.CrlStale):
        offline.import_crl(laboratory.pki, lists[1], now + timedelta(days=15))
    for garbage in (b"", b"x", b"-----BEGIN X509 CRL-----\nAA==\n-----END X509 CRL-----\n"):
        with pytest.raises(errors.PkiError):
            offline.import_crl(laboratory.pki, garbage, now)
    assert laboratory.keys.crl_der == lists[1]


def test_a_forked_list_of_the_same_number_is_refused(laboratory, away, now, tmp_path):
    """Two copies of the authority that each made list 2: the second says other things."""
    shutil.copytree(away, tmp_path / "copy")
    word = laboratory.passphrases["ca"]
    one = authority.make_crl(away, ca_passphrase=word, now=now)
    other = authority.make_crl(tmp_path / "copy", ca_passphrase=word, now=now)
    offline.import_crl(laboratory.pki, one.public_bytes(Encoding.DER), now)
    with pytest.raises(errors.CrlRolledBack):
        offline.import_crl(laboratory.pki, other.public_bytes(Encoding.DER), now)
