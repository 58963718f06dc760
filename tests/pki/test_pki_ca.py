"""An institution's authority on disk."""

import stat
import threading
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from medportal.pki import ca as authority
from medportal.pki import errors
from medportal.pki.certificates import crl_number
from medportal.pki.files import write_file
from medportal.pki.keystore import KeyStore
from medportal.pki.layout import Layout
from medportal.pki.passphrases import create_passphrases, load_passphrases, read_passphrase
from medportal.pki.profiles import Group, Purpose
from medportal.pki.verify import verify_leaf

DAY = timedelta(days=1)


def issue(institution, purpose, now, **changes):
    given = {
        "ca_passphrase": institution.passphrases["ca"],
        "group_passphrase": institution.passphrases["portal"],
        "now": now,
    }
    return authority.issue(institution.pki, purpose, **(given | changes))


def revoke(institution, serial, now, **changes):
    secret = institution.passphrases["ca"]
    return authority.revoke(institution.pki, serial, ca_passphrase=secret, now=now, **changes)


def test_everything_issued_verifies(hospital, limits, now):
    store = hospital.keys
    issued = {info.purpose for info in authority.inventory(hospital.pki)}
    assert issued == set(Purpose) - {Purpose.EDGE}
    for info in authority.inventory(hospital.pki):
        path = Layout(hospital.pki).key(info.purpose)
        leaf = x509.load_pem_x509_certificate(path.read_bytes())
        verified = verify_leaf(
            (leaf.public_bytes(Encoding.DER),),
            ca=hospital.ca,
            crl_der=store.crl_der,
            purpose=info.purpose,
            institution="hospital",
            now=now,
            crl_limits=limits,
        )
        assert (verified.key_id, verified.serial) == (info.key_id, info.serial)


def test_private_files_are_private_and_encrypted(hospital):
    private = [Layout(hospital.pki).ca_key, *(hospital.pki / "keys").iterdir()]
    private += (hospital.home / "secrets").glob("*.passphrase")
    assert len(private) == 1 + 8 + 6
    for path in private:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    for directory in (hospital.pki, hospital.pki / "keys", hospital.home / "secrets"):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700, directory
    for path in hospital.pki.rglob("*.*"):
        if path.is_file():
            assert b"BEGIN PRIVATE KEY" not in path.read_bytes()
            assert b"BEGIN EC PRIVATE KEY" not in path.read_bytes()


def test_web_certificates_are_what_browsers_ask_for(hospital):
    [web] = [i for i in authority.inventory(hospital.pki) if i.purpose is Purpose.WEB]
    assert web.dns_names == ("hospital.localhost",)
    assert web.not_after - web.not_before < 398 * DAY


def test_an_authority_is_made_once(hospital, now):
    before = Layout(hospital.pki).ca_key.read_bytes()
    with pytest.raises(errors.AlreadyThere):
        authority.init_ca(hospital.pki, "hospital", {"en": "X"}, b"another passphrase", now)
    assert Layout(hospital.pki).ca_key.read_bytes() == before


def test_making_one_resumes_after_a_crash_in_between(tmp_path, now):
    write_file(Layout(tmp_path).ca_key, b"left by a crash", 0o600)
    authority.init_ca(tmp_path, "hospital", {"en": "X"}, b"passphrase", now)
    crl = authority.make_crl(tmp_path, ca_passphrase=b"passphrase", now=now)
    assert crl_number(crl) == 2


def test_long_names_fit_the_certificate(tmp_path, now):
    ca = authority.init_ca(tmp_path, "hospital", {"en": "Á" * 300}, b"passphrase", now)
    assert ca.subject.rfc4514_string().count("Á") == 64


def test_issuing_what_is_missing_is_safe_to_repeat(hospital, now):
    def again():
        return authority.issue_missing(
            hospital.pki,
            dns_names=["hospital.localhost"],
            passphrases=hospital.passphrases,
            now=now,
        )

    before = authority.inventory(hospital.pki)
    assert again() == []
    Layout(hospital.pki).key(Purpose.RECEIPT).unlink()
    assert again() == [Purpose.RECEIPT]
    changed = set(authority.inventory(hospital.pki)) ^ set(before)
    assert {info.purpose for info in changed} == {Purpose.RECEIPT}


def test_issuing_needs_the_right_passphrase(hospital, now):
    before = authority.inventory(hospital.pki)
    with pytest.raises(errors.WrongPassphrase, match=r"does not open .*ca\.key"):
        issue(hospital, Purpose.RECORD, now, ca_passphrase=b"wrong")
    assert authority.inventory(hospital.pki) == before


@pytest.mark.parametrize(("purpose", "names"), [(Purpose.WEB, []), (Purpose.RECORD, ["x.y"])])
def test_web_certificates_and_no_others_have_dns_names(hospital, now, purpose, names):
    with pytest.raises(ValueError, match="DNS names"):
        issue(hospital, purpose, now, dns_names=names)


def test_a_name_that_the_authority_is_not_permitted(hospital, now):
    before = authority.inventory(hospital.pki)
    with pytest.raises(errors.BadChain):
        issue(hospital, Purpose.WEB, now, dns_names=["bank.example"])
    assert authority.inventory(hospital.pki) == before


def test_renewal_comes_due_and_replaces(hospital, now, profiles):
    later = now + profiles[Purpose.RECORD].lifetime - profiles[Purpose.RECORD].renew_before
    assert authority.due_for_renewal(hospital.pki, later - 2 * DAY) == []
    due = {info.purpose for info in authority.due_for_renewal(hospital.pki, later)}
    assert due == {Purpose.WEB, Purpose.CHANNEL, Purpose.EXCHANGE, Purpose.RECORD, Purpose.RECEIPT}
    old = hospital.keys.signer(Purpose.RECORD)
    issue(hospital, Purpose.RECORD, later)
    new = hospital.keys.signer(Purpose.RECORD)
    assert new.key_id != old.key_id
    assert Purpose.RECORD not in {i.purpose for i in authority.due_for_renewal(hospital.pki, later)}


def test_leaves_end_no_later_than_their_authority(hospital, now):
    late = hospital.ca.not_valid_after_utc - 100 * DAY
    leaf = issue(hospital, Purpose.RECORD, late)
    assert leaf.not_valid_after_utc == hospital.ca.not_valid_after_utc


def test_revoking_lists_the_certificate(hospital, limits, now):
    signer = hospital.keys.signer(Purpose.RECORD)
    serial = signer.certificate.serial_number
    crl = revoke(hospital, serial, now, reason=x509.ReasonFlags.key_compromise)
    assert crl_number(crl) == 2
    assert crl == authority.read_crl(hospital.pki)
    renewed = hospital.keys.signer(Purpose.RECORD)
    with pytest.raises(errors.Revoked):
        verify_leaf(
            renewed.chain_der,
            ca=hospital.ca,
            crl_der=renewed.crl_der,
            purpose=Purpose.RECORD,
            institution="hospital",
            now=now,
            crl_limits=limits,
        )


def test_what_is_revoked_stays_revoked(hospital, now):
    serials = [info.serial for info in authority.inventory(hospital.pki)]
    for serial in serials:
        revoke(hospital, serial, now)
    crl = authority.make_crl(
        hospital.pki, ca_passphrase=hospital.passphrases["ca"], now=now + 1000 * DAY
    )
    assert {entry.serial_number for entry in crl} == set(serials)
    assert {entry.revocation_date_utc for entry in crl} == {now}
    assert crl_number(crl) == 2 + len(serials)


def test_a_withdrawal_can_only_be_dated_further_back(hospital, now):
    serial = hospital.keys.signer(Purpose.RECORD).certificate.serial_number
    dates = []
    for since in (now, now - 3 * DAY, now - DAY, None):
        [entry] = revoke(hospital, serial, now + DAY, since=since)
        dates.append(entry.revocation_date_utc)
    assert dates == [now, now - 3 * DAY, now - 3 * DAY, now - 3 * DAY]


def test_a_withdrawal_is_not_dated_ahead(hospital, now):
    serial = hospital.keys.signer(Purpose.RECORD).certificate.serial_number
    with pytest.raises(ValueError, match="later"):
        revoke(hospital, serial, now, since=now + DAY)


def test_a_serial_number_never_issued(hospital, now):
    with pytest.raises(errors.KeyFileMissing, match="never issued"):
        revoke(hospital, 12345, now)


def test_a_lost_list_is_not_begun_anew(hospital, now):
    Layout(hospital.pki).crl.unlink()
    with pytest.raises(errors.KeyFileMissing, match=r"ca\.crl"):
        authority.make_crl(hospital.pki, ca_passphrase=hospital.passphrases["ca"], now=now)


def test_a_list_of_another_authority_is_not_continued(hospital, laboratory, now):
    Layout(hospital.pki).crl.write_bytes(Layout(laboratory.pki).crl.read_bytes())
    with pytest.raises(errors.CrlInvalid):
        authority.make_crl(hospital.pki, ca_passphrase=hospital.passphrases["ca"], now=now)


def test_a_key_of_another_authority_is_not_used(hospital, laboratory, now):
    write_file(Layout(hospital.pki).ca_key, Layout(laboratory.pki).ca_key.read_bytes(), 0o600)
    with pytest.raises(errors.KeyFileUnfit, match="does not belong"):
        authority.make_crl(hospital.pki, ca_passphrase=laboratory.passphrases["ca"], now=now)


def test_a_list_is_due_at_half_its_life(hospital, now, profiles):
    half = profiles.crl_lifetime / 2
    assert not authority.crl_due(hospital.pki, now + half - timedelta(seconds=1))
    assert authority.crl_due(hospital.pki, now + half)


def test_revocations_at_the_same_time_are_all_kept(hospital, now):
    serials = [info.serial for info in authority.inventory(hospital.pki)]
    threads = [threading.Thread(target=revoke, args=(hospital, s, now)) for s in serials]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    crl = authority.read_crl(hospital.pki)
    assert {entry.serial_number for entry in crl} == set(serials)
    assert crl_number(crl) == 1 + len(serials)


def test_a_host_gets_its_own_groups_keys_only(hospital, tmp_path):
    target = tmp_path / "exchange-host"
    written = authority.export_group(hospital.pki, Group.EXCHANGE, target)
    assert {str(path.relative_to(target)) for path in written} == {
        "ca.crt",
        "ca.crl",
        "keys/channel.pem",
        "keys/exchange.pem",
        "keys/receipt.pem",
    }
    assert len([*(target / "keys").iterdir()]) == 3
    assert not Layout(target).ca_key.exists()
    there = KeyStore(target, {"exchange": hospital.passphrases["exchange"]})
    assert there.signer(Purpose.RECEIPT) == hospital.keys.signer(Purpose.RECEIPT)


def test_the_share_goes_to_those_who_compare_pseudonyms(hospital, tmp_path):
    target = tmp_path / "jobs-host"
    authority.export_group(hospital.pki, Group.JOBS, target)
    assert {path.name for path in (target / "keys").iterdir()} == {"head.pem", "head-pq.pem"}
    authority.export_group(hospital.pki, Group.PAIR, target)
    there = KeyStore(target, {"pair": hospital.passphrases["pair"]})
    assert there.share_public() == hospital.keys.share_public()


def test_a_host_gets_what_there_is(hospital, tmp_path):
    """No edge key was made: public files only. And partners go along."""
    (hospital.pki / "partners").mkdir()
    (hospital.pki / "partners" / "laboratory.partner").write_bytes(b"trusted")
    written = authority.export_group(hospital.pki, Group.EDGE, tmp_path / "edge-host")
    assert {path.name for path in written} == {"ca.crt", "ca.crl", "laboratory.partner"}


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_file(path, b"old")

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_passphrases_are_long_random_and_kept(tmp_path):
    made = create_passphrases(tmp_path)
    assert len(set(made.values())) == 6
    assert all(len(passphrase) == 43 for passphrase in made.values())
    assert create_passphrases(tmp_path) == made == load_passphrases(tmp_path)


def test_bad_passphrase_files_are_named(tmp_path):
    with pytest.raises(errors.KeyFileMissing, match=r"ca\.passphrase is missing"):
        load_passphrases(tmp_path)
    path = tmp_path / "ca.passphrase"
    write_file(path, b"short\n", 0o600)
    with pytest.raises(errors.KeyFileUnfit, match="fewer than 16"):
        read_passphrase(path)
    write_file(path, b"long enough for anybody\n", 0o644)
    with pytest.raises(errors.KeyFileUnfit, match="open to others"):
        read_passphrase(path)
    with pytest.raises(errors.KeyFileUnfit, match="cannot be read"):
        read_passphrase(tmp_path)


def test_a_credential_readable_by_a_group_through_an_access_list(tmp_path):
    path = tmp_path / "ca.passphrase"
    write_file(path, b"long enough for anybody\r\n", 0o440)
    assert read_passphrase(path) == b"long enough for anybody"
