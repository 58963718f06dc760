"""Key stores and trust stores, read back by openssl and by Java's keytool."""

import os
import shutil
import subprocess

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, pkcs12

from medportal.pki import ca as authority
from medportal.pki import errors
from medportal.pki.containers import Format, key_store, trust_store, write_container
from medportal.pki.profiles import Purpose

WORD = "a long passphrase"


def needs(command):
    if shutil.which(command) is None:
        if os.environ.get("MEDPORTAL_REQUIRE_ALL"):
            pytest.fail(f"not installed here: {command}")
        pytest.skip(f"not installed here: {command}")


def run(*command):
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=120, check=False
    )


def made(hospital, purpose, fmt):
    group = "portal" if purpose in (Purpose.WEB, Purpose.RECORD) else "jobs"
    return key_store(
        hospital.pki,
        purpose,
        fmt,
        group_passphrase=hospital.passphrases[group],
        passphrase=WORD.encode(),
        authorities=[hospital.ca],
    )


@pytest.mark.parametrize("purpose", [Purpose.WEB, Purpose.RECORD])
def test_a_key_store_is_read_back(hospital, tmp_path, purpose):
    needs("openssl")
    data = made(hospital, purpose, Format.P12)
    key, leaf, more = pkcs12.load_key_and_certificates(data, WORD.encode())
    assert key.public_key() == leaf.public_key()
    assert more == [hospital.ca]
    path = write_container(tmp_path / "store.p12", data, private=True)
    assert path.stat().st_mode & 0o777 == 0o600
    read = run("openssl", "pkcs12", "-in", path, "-passin", f"pass:{WORD}", "-noenc")
    assert read.stdout.count("BEGIN CERTIFICATE") == 2
    assert "BEGIN PRIVATE KEY" in read.stdout
    assert run("openssl", "pkcs12", "-in", path, "-passin", "pass:wrong").returncode != 0


def test_a_key_as_pem_stays_encrypted(hospital):
    for purpose in (Purpose.WEB, Purpose.HEAD_PQ):
        data = made(hospital, purpose, Format.PEM)
        assert data.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
        assert data.count(b"BEGIN CERTIFICATE") == 2


def test_keys_that_others_do_not_know_are_said_to_be(hospital):
    with pytest.raises(errors.KeyFileUnfit, match="export it as PEM"):
        made(hospital, Purpose.HEAD_PQ, Format.P12)


def test_java_trusts_what_is_in_a_trust_store(hospital, laboratory, tmp_path):
    needs("keytool")
    data = trust_store([hospital.ca, laboratory.ca], Format.P12, passphrase=WORD.encode())
    path = write_container(tmp_path / "trust.p12", data, private=False)
    said = run("keytool", "-list", "-keystore", path, "-storepass", WORD, "-storetype", "PKCS12")
    assert said.stdout.count("trustedCertEntry") == 2, said.stdout
    assert "private" not in said.stdout.lower()


def test_a_trust_store_holds_authorities_only(hospital, tmp_path):
    needs("openssl")
    data = trust_store([hospital.ca], Format.P12, passphrase=WORD.encode())
    path = write_container(tmp_path / "trust.p12", data, private=False)
    read = run("openssl", "pkcs12", "-in", path, "-passin", f"pass:{WORD}", "-noenc")
    assert read.stdout.count("BEGIN CERTIFICATE") == 1
    assert "PRIVATE" not in read.stdout
    assert trust_store([hospital.ca], Format.PEM) == hospital.ca.public_bytes(Encoding.PEM)
    with pytest.raises(errors.KeyFileUnfit, match="passphrase"):
        trust_store([hospital.ca], Format.P12)


def test_no_key_goes_where_others_read(hospital, tmp_path):
    open_file = tmp_path / "open.p12"
    open_file.write_bytes(b"before")
    open_file.chmod(0o644)
    with pytest.raises(errors.KeyFileUnfit, match="open to others"):
        write_container(open_file, b"secret", private=True)
    assert open_file.read_bytes() == b"before"
    everybodys = tmp_path / "everybodys"
    everybodys.mkdir()
    everybodys.chmod(0o777)
    with pytest.raises(errors.KeyFileUnfit, match="name another directory"):
        write_container(everybodys / "store.p12", b"secret", private=True)
    assert authority.read_ca(hospital.pki) == hospital.ca
