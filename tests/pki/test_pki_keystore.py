"""The keys that a process holds."""

import stat
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from medportal.pki import ca as authority
from medportal.pki import errors
from medportal.pki.certificates import generate_key
from medportal.pki.files import write_file
from medportal.pki.keyfiles import to_open_pem, to_pem
from medportal.pki.keystore import KeyStore, create_share
from medportal.pki.layout import Layout
from medportal.pki.profiles import Algorithm, Purpose


def test_signers_and_credentials(hospital):
    store = hospital.keys
    assert store.institution == "hospital"
    signer = store.signer(Purpose.HEAD_PQ)
    signer.certificate.public_key().verify(signer.sign(b"data"), b"data")
    assert signer.algorithm is Algorithm.ML_DSA_65
    held = store.credentials(Purpose.CHANNEL)
    assert held.private_key.public_key() == held.certificate.public_key()
    assert held.crl_der == store.crl_der
    assert held.chain_der == (held.certificate.public_bytes(Encoding.DER),)


def test_nothing_secret_is_shown(hospital):
    store = hospital.keys
    shown = repr([store, store.signer(Purpose.RECORD), store.credentials(Purpose.WEB)])
    assert "Private" not in shown
    assert not [p for p in hospital.passphrases.values() if p.decode() in shown]


@pytest.mark.parametrize("purpose", [Purpose.WEB, Purpose.CHANNEL, Purpose.EDGE])
def test_tls_keys_sign_no_statements(hospital, purpose):
    with pytest.raises(errors.WrongPurpose):
        hospital.keys.signer(purpose)


@pytest.mark.parametrize("purpose", [Purpose.RECORD, Purpose.HEAD_PQ])
def test_statement_keys_authenticate_no_connection(hospital, purpose):
    with pytest.raises(errors.WrongPurpose):
        hospital.keys.credentials(purpose)


def test_a_wrong_passphrase_is_told_clearly(hospital):
    store = KeyStore(hospital.pki, {"portal": b"not the passphrase"})
    with pytest.raises(errors.WrongPassphrase, match=r"does not open .*record\.pem") as caught:
        store.signer(Purpose.RECORD)
    assert "not the passphrase" not in str(caught.value)


def test_a_process_opens_its_own_groups_only(hospital):
    store = KeyStore(hospital.pki, {"exchange": hospital.passphrases["exchange"]})
    assert store.signer(Purpose.RECEIPT)
    with pytest.raises(errors.WrongPassphrase, match="no passphrase of group portal"):
        store.signer(Purpose.RECORD)


def test_passphrases_may_be_read_when_asked_for(hospital):
    asked = []

    class Files:
        def __getitem__(self, group: str) -> bytes:
            asked.append(group)
            return hospital.passphrases[group]

    store = KeyStore(hospital.pki, Files())
    assert asked == []
    store.signer(Purpose.RECORD)
    assert asked == ["portal"]


def test_a_missing_key_is_named(hospital):
    with pytest.raises(errors.KeyFileMissing, match=r"edge\.pem is missing"):
        hospital.keys.credentials(Purpose.EDGE)


def test_a_file_open_to_others_is_refused(hospital):
    path = Layout(hospital.pki).key(Purpose.RECORD)
    path.chmod(0o644)
    with pytest.raises(errors.KeyFileUnfit, match="chmod 600"):
        hospital.keys.signer(Purpose.RECORD)


def certificate_part(data: bytes) -> bytes:
    end = b"-----END CERTIFICATE-----\n"
    return data[: data.index(end) + len(end)]


@pytest.mark.parametrize(
    ("key", "says"),
    [
        (lambda secret: b"", "holds no private key"),
        (lambda secret: to_open_pem(generate_key(Algorithm.ED25519)), "is not encrypted"),
        (lambda secret: to_pem(generate_key(Algorithm.ED25519), secret), "belong together"),
        (lambda secret: to_pem(generate_key(Algorithm.P256), secret), "belong together"),
    ],
    ids=["none", "open", "another", "another-kind"],
)
def test_files_that_do_not_hold_together(hospital, key, says):
    path = Layout(hospital.pki).key(Purpose.RECORD)
    certificate = certificate_part(path.read_bytes())
    write_file(path, certificate + key(hospital.passphrases["portal"]), 0o600)
    with pytest.raises(errors.KeyFileUnfit, match=says):
        hospital.keys.signer(Purpose.RECORD)


def test_a_file_without_a_certificate(hospital):
    path = Layout(hospital.pki).key(Purpose.RECORD)
    write_file(path, b"nothing", 0o600)
    with pytest.raises(errors.KeyFileUnfit, match="holds no certificate"):
        hospital.keys.signer(Purpose.RECORD)


def test_a_file_in_the_place_of_another(hospital):
    """A whole, matching file of another kind, in the wrong place."""
    layout = Layout(hospital.pki)
    secrets = dict.fromkeys(hospital.passphrases, hospital.passphrases["portal"])
    write_file(layout.key(Purpose.RECORD), layout.key(Purpose.WEB).read_bytes(), 0o600)
    with pytest.raises(errors.KeyFileUnfit, match="another kind"):
        KeyStore(hospital.pki, secrets).signer(Purpose.RECORD)
    authority.issue(
        hospital.pki,
        Purpose.HEAD,
        ca_passphrase=hospital.passphrases["ca"],
        group_passphrase=secrets["portal"],
        now=hospital.ca.not_valid_before_utc + timedelta(days=1),
    )
    write_file(layout.key(Purpose.WEB), layout.key(Purpose.HEAD).read_bytes(), 0o600)
    with pytest.raises(errors.KeyFileUnfit, match="another kind"):
        KeyStore(hospital.pki, secrets).credentials(Purpose.WEB)


def test_renewed_keys_and_lists_are_used_without_a_restart(hospital, now):
    store = hospital.keys
    before = store.signer(Purpose.RECORD)
    authority.issue(
        hospital.pki,
        Purpose.RECORD,
        ca_passphrase=hospital.passphrases["ca"],
        group_passphrase=hospital.passphrases["portal"],
        now=now,
    )
    authority.make_crl(hospital.pki, ca_passphrase=hospital.passphrases["ca"], now=now)
    after = store.signer(Purpose.RECORD)
    assert after.key_id != before.key_id
    assert after.crl_der != before.crl_der
    assert store.signer(Purpose.RECORD) == after


def test_an_unlocked_copy_for_servers_that_need_one(hospital, tmp_path):
    path = hospital.keys.write_unlocked(Purpose.WEB, tmp_path / "run" / "web.pem")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    key = load_pem_private_key(path.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.public_key() == hospital.keys.credentials(Purpose.WEB).certificate.public_key()


def test_the_share_is_made_once(hospital):
    public = hospital.keys.share_public()
    assert create_share(hospital.pki, hospital.passphrases["pair"]) == public
    assert len(public) == len(hospital.keys.share()) == 32
    assert hospital.keys.share() != public


def test_a_share_of_another_kind(hospital):
    key = generate_key(Algorithm.ED25519)
    write_file(Layout(hospital.pki).pair, to_pem(key, hospital.passphrases["pair"]), 0o600)
    with pytest.raises(errors.KeyFileUnfit, match="another kind"):
        hospital.keys.share_public()


@pytest.mark.parametrize("algorithm", Algorithm)
def test_keys_of_every_algorithm_are_encrypted_pkcs8(algorithm):
    key = generate_key(algorithm)
    pem = to_pem(key, b"passphrase")
    assert pem.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    formats = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    opened = load_pem_private_key(pem, b"passphrase")
    assert opened.private_bytes(*formats) == key.private_bytes(*formats)
    # Salted: the same key under the same passphrase never looks the same.
    assert pem != to_pem(key, b"passphrase")


def test_what_is_signed_is_never_older_than_its_certificate_and_its_list(hospital):
    signer, skew = hospital.keys.signer(Purpose.HEAD), timedelta(minutes=5)
    begun = signer.certificate.not_valid_before_utc
    listed = x509.load_der_x509_crl(signer.crl_der).last_update_utc
    signer.check_begun(max(begun, listed - skew), skew)
    moment = timedelta(seconds=1)
    with pytest.raises(errors.NotYetValid):
        signer.check_begun(begun - moment, skew)
    # Certificates are dated back by as much as clocks may differ, lists are not.
    with pytest.raises(errors.CrlFromFuture):
        signer.check_begun(begun, timedelta(0))
