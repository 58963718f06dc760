"""The authority's next key: links, who follows them, for how long, and what stays readable."""

import shutil
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from medportal.pki import ca as authority
from medportal.pki import certificates, errors, partners, rollover
from medportal.pki.layout import Layout
from medportal.pki.profiles import Purpose
from medportal.pki.signatures import sign_statement, verify_kept
from medportal.pki.verify import verify_authority, verify_leaf, verify_link

DAY = timedelta(days=1)
LABEL = "medportal test 1"


@pytest.fixture
def rolled(laboratory, now):
    """The laboratory, a day after its authority rolled over, with new certificates."""
    later = now + DAY
    secrets = laboratory.passphrases
    old = laboratory.ca
    made = rollover.roll(laboratory.pki, ca_passphrase=secrets["ca"], now=later)
    for purpose in rollover.certified_by_former(laboratory.pki):
        names = ["laboratory.localhost"] if purpose is Purpose.WEB else []
        group = {"web": "portal", "record": "portal", "head": "jobs", "head-pq": "jobs"}
        authority.issue(
            laboratory.pki,
            purpose,
            dns_names=names,
            ca_passphrase=secrets["ca"],
            group_passphrase=secrets[group.get(purpose, "exchange")],
            now=later,
        )
    assert made.former == old
    return laboratory


def leaf(anchors, held, purpose, now, limits, **more):
    return verify_leaf(
        held.chain_der,
        ca=anchors,
        crl_der=held.crl_der,
        purpose=purpose,
        institution="laboratory",
        now=now,
        crl_limits=limits,
        **more,
    )


def test_both_authorities_are_fit_and_bear_one_name(laboratory, rolled, founded, now):
    old, new = founded["laboratory"].ca, rolled.ca
    assert verify_authority(new, "laboratory", now + DAY) == new
    assert new.subject == old.subject
    assert new.public_key() != old.public_key()
    assert certificates.permitted_dns(new) == ("laboratory.localhost",)
    assert Layout(rolled.pki).ca_key.exists()


@pytest.mark.parametrize("purpose", [Purpose.EXCHANGE, Purpose.RECORD, Purpose.HEAD_PQ])
def test_who_trusts_either_key_accepts(founded, rolled, now, limits, purpose):
    signer, later = rolled.keys.signer(purpose), now + 2 * DAY
    by_old = leaf(founded["laboratory"].ca, signer, purpose, later, limits)
    assert by_old.link is not None
    assert by_old.link.public_key() == rolled.ca.public_key()
    by_new = leaf(rolled.ca, signer, purpose, later, limits)
    assert by_new.link is None
    tls = rolled.keys.credentials(Purpose.CHANNEL)
    assert leaf(founded["laboratory"].ca, tls, Purpose.CHANNEL, later, limits).link is not None


def test_the_former_authority_vouches_until_it_retires_and_no_longer(founded, rolled, now, limits):
    signer, old = rolled.keys.signer(Purpose.EXCHANGE), founded["laboratory"].ca
    ends = rollover.current(rolled.pki).retires
    assert ends == now + DAY + timedelta(days=90)
    authority.make_crl(rolled.pki, ca_passphrase=rolled.passphrases["ca"], now=ends)
    fresh = replace(signer, crl_der=rolled.keys.crl_der)
    assert leaf(old, fresh, Purpose.EXCHANGE, ends, limits).link is not None
    with pytest.raises(errors.Expired):
        leaf(old, fresh, Purpose.EXCHANGE, ends + timedelta(seconds=1), limits)
    assert leaf(rolled.ca, fresh, Purpose.EXCHANGE, ends + DAY, limits).link is None


def test_a_second_roll_waits_for_the_first(rolled, now):
    with pytest.raises(errors.AlreadyThere, match="has not retired"):
        rollover.roll(rolled.pki, ca_passphrase=rolled.passphrases["ca"], now=now + 2 * DAY)


@pytest.mark.parametrize("step", range(1, 12))
def test_a_crash_in_a_roll_leaves_the_old_state_or_one_to_go_on_from(
    laboratory, now, monkeypatch, step
):
    real, count = rollover.write_file, 0

    def dies(*arguments):
        nonlocal count
        count += 1
        if count == step:
            raise OSError("power lost")
        real(*arguments)

    secrets = laboratory.passphrases["ca"]
    monkeypatch.setattr(rollover, "write_file", dies)
    with pytest.raises(OSError, match="power lost"):
        rollover.roll(laboratory.pki, ca_passphrase=secrets, now=now)
    monkeypatch.setattr(rollover, "write_file", real)
    # Whatever there is signs, and with the list of who certified it.
    signer = laboratory.keys.signer(Purpose.RECORD)
    assert signer.crl_der
    made = rollover.roll(laboratory.pki, ca_passphrase=secrets, now=now)
    assert made.ca == laboratory.ca
    assert authority.read_crl(laboratory.pki) is not None
    authority.make_crl(laboratory.pki, ca_passphrase=secrets, now=now)
    assert len(authority.authorities(laboratory.pki)) == 2
    assert not (laboratory.pki / "rolling").exists()


def test_what_was_signed_before_keeps_verifying(laboratory, now, limits):
    signed = sign_statement(laboratory.keys.signer(Purpose.RECORD), LABEL, {"a": 1})
    secrets = laboratory.passphrases
    rollover.roll(laboratory.pki, ca_passphrase=secrets["ca"], now=now + DAY)
    keys = laboratory.keys
    assert verify_kept(
        signed,
        LABEL,
        ca=keys.authorities,
        purpose=Purpose.RECORD,
        institution="laboratory",
        crl_limits=limits,
        taken_in=now,
        known_crl_der=keys.lists,
    ) == {"a": 1}
    # Withdrawn later under the former key, dated back: then it no longer does.
    serial = x509.load_der_x509_certificate(signed.chain_der[0]).serial_number
    authority.revoke(
        laboratory.pki, serial, ca_passphrase=secrets["ca"], now=now + 2 * DAY, since=now
    )
    with pytest.raises(errors.Revoked):
        verify_kept(
            signed,
            LABEL,
            ca=keys.authorities,
            purpose=Purpose.RECORD,
            institution="laboratory",
            crl_limits=limits,
            taken_in=now,
            known_crl_der=laboratory.keys.lists,
        )


def test_a_key_not_renewed_yet_goes_with_the_list_of_who_certified_it(laboratory, now, limits):
    old = laboratory.ca
    rollover.roll(laboratory.pki, ca_passphrase=laboratory.passphrases["ca"], now=now)
    signer = laboratory.keys.signer(Purpose.EXCHANGE)
    assert len(signer.chain_der) == 1
    assert leaf(old, signer, Purpose.EXCHANGE, now, limits).link is None


def test_retiring_destroys_the_key_and_keeps_the_rest(rolled, now):
    secret, ends = rolled.passphrases["ca"], rollover.current(rolled.pki).retires
    assert rollover.retire(rolled.pki, ca_passphrase=secret, now=ends - DAY) == []
    [gone] = rollover.retire(rolled.pki, ca_passphrase=secret, now=ends + DAY)
    [former] = authority.former_layouts(Layout(rolled.pki))
    assert not former.ca_key.exists()
    assert authority.authorities(rolled.pki) == (rolled.ca, gone)
    assert len(rolled.keys.signer(Purpose.RECORD).chain_der) == 1
    # And then the next step may be made.
    rollover.roll(rolled.pki, ca_passphrase=secret, now=ends + 2 * DAY)
    assert len(authority.authorities(rolled.pki)) == 3


def test_nothing_retires_under_a_key_in_use(laboratory, now):
    secret = laboratory.passphrases["ca"]
    made = rollover.roll(laboratory.pki, ca_passphrase=secret, now=now)
    with pytest.raises(errors.KeyFileUnfit, match="renew them first"):
        rollover.retire(laboratory.pki, ca_passphrase=secret, now=made.retires + DAY)


# Attacks on the link.


@pytest.fixture
def forged(forger, stranger, now, limits):
    """Check a leaf of the stranger under the laboratory, over a link made as told."""

    def run(link, purpose=Purpose.RECORD):
        signer = stranger.signer(purpose)
        chain = (*signer.chain_der, link.public_bytes(Encoding.DER))
        return leaf(forger.ca, replace(signer, chain_der=chain), purpose, now, limits)

    return run


def test_a_link_has_to_be_by_the_authority(forged, forger, stranger, now):
    good = certificates.build_link(forger.key, forger.ca, stranger.ca, forger.validity())
    assert forged(good).link == good
    own = certificates.build_link(stranger.key, forger.ca, stranger.ca, forger.validity())
    with pytest.raises(errors.WrongAuthority):
        forged(own)
    with pytest.raises(errors.WrongAuthority):
        forged(stranger.ca)


def test_a_link_lengthens_no_path_and_leads_to_no_other_institution(forged, forger, new_forger):
    other = new_forger("hospital")
    link = certificates.build_link(forger.key, forger.ca, other.ca, forger.validity())
    with pytest.raises(errors.CertificateError):
        verify_link(link, ca=forger.ca, now=forger.ca.not_valid_before_utc)


def test_a_leaf_is_no_link(forged, forger, stranger):
    with pytest.raises(errors.BadChain):
        forged(forger.leaf(Purpose.RECORD))


def test_an_expired_link_is_none(forged, forger, stranger, now):
    short = certificates.Validity(now - 3 * DAY, now - DAY)
    with pytest.raises(errors.Expired):
        forged(certificates.build_link(forger.key, forger.ca, stranger.ca, short))


# Partners.


def follow(hospital, laboratory, now):
    """Take in the laboratory's handshake at the hospital, as the receiver does."""
    partner = partners.TrustStore(hospital.pki).get("laboratory")
    signer = laboratory.keys.signer(Purpose.EXCHANGE)
    found = verify_leaf(
        signer.chain_der,
        ca=partner.anchors(now),
        crl_der=signer.crl_der,
        purpose=Purpose.EXCHANGE,
        institution="laboratory",
        now=now,
        crl_limits=partners.load_profiles().crl_limits,
        crl_floor=partner.floors,
    )
    partners.remember_crl(hospital.pki, "laboratory", signer.crl_der, now, found.link)
    return partners.TrustStore(hospital.pki).get("laboratory")


@pytest.fixture
def befriended(hospital, laboratory, now):
    read = partners.read_descriptor(laboratory.descriptor(), now)
    return partners.trust(hospital.pki, read, now)


def test_a_partner_follows_and_its_people_decide(hospital, befriended, rolled, now):
    later = now + 2 * DAY
    partner = follow(hospital, rolled, later)
    assert partner.ca == befriended.ca
    assert partner.link.public_key() == rolled.ca.public_key()
    assert partner.retires == rollover.current(rolled.pki).retires
    read = partners.read_descriptor(rolled.descriptor(later), later)
    # The old key's word brings in no new trust: somebody may have stolen it.
    with pytest.raises(errors.PartnerChanged):
        partners.trust(hospital.pki, read, later)
    trusted = partners.trust(hospital.pki, read, later, replace=True)
    assert (trusted.ca, trusted.authorities) == (rolled.ca, (rolled.ca, befriended.ca))
    assert trusted.former[0].until == partner.retires
    assert trusted.anchors(partner.retires - DAY) == (rolled.ca, befriended.ca)
    assert trusted.anchors(partner.retires) == (rolled.ca,)


def test_after_the_day_nothing_new_of_the_retired_one_is_accepted(
    hospital, befriended, rolled, now, tmp_path
):
    partner = follow(hospital, rolled, now + 2 * DAY)
    assert befriended.anchors(partner.retires + DAY) == (befriended.ca,)
    assert partner.anchors(partner.retires - DAY) == (befriended.ca,)
    with pytest.raises(errors.AuthorityRetired):
        partner.anchors(partner.retires)


def test_a_second_successor_is_refused(hospital, befriended, founded, rolled, now, tmp_path):
    """A thief of the old key vouches for one of their own."""
    later = now + 2 * DAY
    follow(hospital, rolled, later)
    home = tmp_path / "thief"
    shutil.copytree(founded["laboratory"].home, home)
    thief = replace(founded["laboratory"], home=home)
    rollover.roll(thief.pki, ca_passphrase=thief.passphrases["ca"], now=later)
    authority.issue(
        thief.pki,
        Purpose.EXCHANGE,
        ca_passphrase=thief.passphrases["ca"],
        group_passphrase=thief.passphrases["exchange"],
        now=later,
    )
    with pytest.raises(errors.SuccessorChanged):
        follow(hospital, thief, later)


def test_the_floor_of_each_key_only_rises(hospital, befriended, rolled, now):
    later = now + 2 * DAY
    old = rolled.keys.signer(Purpose.EXCHANGE).crl_der
    authority.make_crl(rolled.pki, ca_passphrase=rolled.passphrases["ca"], now=later)
    partner = follow(hospital, rolled, later)
    with pytest.raises(errors.CrlRolledBack):
        partners.remember_crl(hospital.pki, "laboratory", old, later, partner.link)
    read = partners.read_descriptor(rolled.descriptor(later), later)
    trusted = partners.trust(hospital.pki, read, later, replace=True)
    assert trusted.crl_der == rolled.keys.crl_der


# Offline.


def test_a_bundle_carries_the_roll_to_a_machine_without_the_key(laboratory, now, tmp_path):
    away = tmp_path / "away"
    shutil.copytree(laboratory.pki, away)
    Layout(laboratory.pki).ca_key.unlink()
    rollover.roll(away, ca_passphrase=laboratory.passphrases["ca"], now=now)
    bundle = rollover.bundle(away)
    assert b"PRIVATE" not in bundle
    made = rollover.import_bundle(laboratory.pki, bundle, now)
    assert made.ca == authority.read_ca(away) == laboratory.ca
    assert not Layout(laboratory.pki).ca_key.exists()
    with pytest.raises(errors.AlreadyThere):
        rollover.import_bundle(laboratory.pki, bundle, now)


def test_nobody_else_can_bring_in_an_authority(laboratory, hospital, founded, now):
    rollover.roll(hospital.pki, ca_passphrase=hospital.passphrases["ca"], now=now)
    with pytest.raises(errors.PkiError):
        rollover.import_bundle(laboratory.pki, rollover.bundle(hospital.pki), now)
    for damaged in (b"", b"x", rollover.bundle(hospital.pki)[:-40]):
        with pytest.raises(errors.PkiError):
            rollover.import_bundle(laboratory.pki, damaged, now)
    assert laboratory.ca == founded["laboratory"].ca
