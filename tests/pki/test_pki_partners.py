"""Descriptors, trust and pair keys."""

import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from medportal.core import canonical
from medportal.core.clock import to_micros
from medportal.pki import ca as authority
from medportal.pki import errors, partners
from medportal.pki.descriptors import LABEL, MAX_DESCRIPTOR_BYTES, verify_descriptor
from medportal.pki.files import write_file
from medportal.pki.keystore import create_share
from medportal.pki.layout import Layout
from medportal.pki.pairing import pair_key
from medportal.pki.profiles import Group, Purpose
from medportal.pki.signatures import Signed, sign_statement

DAY = timedelta(days=1)
MOMENT = datetime(2026, 3, 1, tzinfo=UTC)
BEGIN, END = b"-----BEGIN MEDPORTAL PARTNER-----", b"-----END MEDPORTAL PARTNER-----"


def unarmoured(data: bytes) -> bytes:
    return base64.b64decode(b"".join(data.strip().splitlines()[1:-1]))


def armoured(data: bytes) -> bytes:
    return b"\n".join([BEGIN, base64.b64encode(data), END])


@pytest.fixture
def described(laboratory, now):
    return partners.read_descriptor(laboratory.descriptor(), now)


# Descriptors.


def test_a_descriptor_tells_what_was_exported(laboratory, described, now):
    assert (described.institution, described.kind) == ("laboratory", "laboratory")
    assert dict(described.names) == {"en": "Example Laboratory", "pt": "Laboratório Exemplo"}
    assert described.ca == laboratory.ca
    assert described.endpoint == "localhost:4000"
    assert described.share == laboratory.keys.share_public()
    assert described.created == now
    assert described.crl_der == laboratory.keys.crl_der


def test_a_descriptor_survives_mail(laboratory, now):
    data = laboratory.descriptor()
    mailed = b"\r\n" + b"\r\n".join(b"  " + line + b" " for line in data.splitlines()) + b"\r\n\r\n"
    assert partners.read_descriptor(mailed, now).institution == "laboratory"
    assert max(map(len, data.splitlines())) <= 64


def test_an_institution_that_only_sends_has_no_endpoint(laboratory, now):
    data = laboratory.descriptor(endpoint=None)
    assert partners.read_descriptor(data, now).endpoint is None


def test_the_fingerprint_is_stable_and_readable(laboratory, described, now):
    first = partners.fingerprint(described)
    assert [len(group) for group in first.split(" ")] == [4] * 8
    authority.make_crl(laboratory.pki, ca_passphrase=laboratory.passphrases["ca"], now=now + DAY)
    later = partners.read_descriptor(laboratory.descriptor(now + DAY), now + DAY)
    assert partners.fingerprint(later) == first


def test_the_fingerprint_covers_what_trust_rests_on(described, hospital):
    first = partners.fingerprint(described)
    changes = {
        "institution": "hospital",
        "kind": "hospital",
        "ca": hospital.ca,
        "endpoint": "elsewhere:4000",
        "share": bytes(32),
    }
    for name, value in changes.items():
        assert partners.fingerprint(replace(described, **{name: value})) != first
    assert partners.fingerprint(replace(described, created=described.created + DAY)) == first


def test_no_flipped_bit_changes_what_is_read(laboratory, described, now):
    data = unarmoured(laboratory.descriptor())
    for position in range(len(data)):
        bad = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        try:
            read = partners.read_descriptor(armoured(bad), now)
        except errors.PkiError:
            continue
        # The count of unused bits before an X.509 signature is outside what is signed.
        unsigned = {"crl_der": read.crl_der, "armoured": read.armoured}
        assert read == replace(described, **unsigned)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        BEGIN,
        BEGIN + b"\n" + END,
        BEGIN + b"\n!!!!\n" + END,
        BEGIN + b"\nAAAA\n" + END,
        b"\xff" * 100,
        "ã".encode(),
        b"x" * (MAX_DESCRIPTOR_BYTES + 1),
        b"\x00" * 50,
    ],
)
def test_garbage_is_no_descriptor(data, now):
    with pytest.raises(errors.PkiError):
        partners.read_descriptor(data, now)


def test_cut_short(laboratory, now):
    with pytest.raises(errors.DescriptorInvalid, match="cut short"):
        partners.read_descriptor(laboratory.descriptor()[:-40], now)


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_unnamed(data):
    for candidate in (data, armoured(data)):
        with pytest.raises(errors.PkiError):
            partners.read_descriptor(candidate, MOMENT)


def resigned(signing, now, **changes):
    """The institution's descriptor with members changed, properly signed by it."""
    signer = signing.keys.signer(Purpose.EXCHANGE)
    payload = {
        "institution": signing.id,
        "kind": "laboratory",
        "names": {"en": "A", "pt": "B"},
        "ca": signing.ca.public_bytes(Encoding.DER),
        "endpoint": "localhost:4000",
        "share": bytes(32),
        "created": to_micros(now),
    }
    payload |= changes
    present = {name: value for name, value in payload.items() if value is not ...}
    return armoured(sign_statement(signer, LABEL, present).to_bytes())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"institution": "../../etc"}, "institution"),
        ({"institution": 3}, "institution"),
        ({"kind": "Hospital"}, "kind"),
        ({"names": {"en": "A"}}, "names"),
        ({"names": "A"}, "names"),
        ({"names": {"en": "A", "pt": " "}}, "names"),
        ({"names": {"en": "A", "pt": "x" * 201}}, "names"),
        ({"names": {"en": "A\nB", "pt": "B"}}, "names"),
        ({"names": {"en": "A\u202eB", "pt": "B"}}, "names"),
        ({"names": {"en": "A", "pt": 1}}, "names"),
        ({"endpoint": "localhost"}, "endpoint"),
        ({"endpoint": "localhost:0"}, "endpoint"),
        ({"endpoint": "localhost:65536"}, "endpoint"),
        ({"endpoint": "http://localhost:1"}, "endpoint"),
        ({"endpoint": "local host:1"}, "endpoint"),
        ({"endpoint": 4000}, "endpoint"),
        ({"share": b"short"}, "share"),
        ({"share": "x" * 32}, "share"),
        ({"created": "today"}, "created"),
        ({"created": True}, "created"),
        ({"created": 2**63}, "impossible time"),
        ({"ca": "x"}, "ca"),
        ({"ca": b"x"}, "malformed"),
        ({"ca": ...}, "members"),
        ({"more": 1}, "members"),
    ],
)
def test_members_of_another_shape(laboratory, now, changes, says):
    with pytest.raises(errors.DescriptorInvalid, match=says):
        partners.read_descriptor(resigned(laboratory, now, **changes), now)


@pytest.mark.parametrize("endpoint", ["lab.example:4000", "127.0.0.1:1", "[::1]:65535", None])
def test_endpoints_that_are_fine(laboratory, now, endpoint):
    data = resigned(laboratory, now, endpoint=endpoint)
    assert partners.read_descriptor(data, now).endpoint == endpoint


def test_what_would_be_refused_is_not_exported(laboratory, now):
    with pytest.raises(errors.DescriptorInvalid, match="endpoint"):
        laboratory.descriptor(endpoint="nowhere")


@pytest.mark.parametrize("payload", [b"\xff", canonical.encode([1])])
def test_a_payload_that_is_no_descriptor(laboratory, now, payload):
    signed = Signed.from_bytes(unarmoured(laboratory.descriptor()))
    with pytest.raises(errors.DescriptorInvalid):
        partners.read_descriptor(armoured(replace(signed, payload=payload).to_bytes()), now)


def test_a_descriptor_in_anothers_name(laboratory, hospital, now):
    """The laboratory signs a descriptor that claims to be the hospital's."""
    with pytest.raises(errors.UnfitAuthority):
        partners.read_descriptor(resigned(laboratory, now, institution="hospital"), now)
    stolen = hospital.ca.public_bytes(Encoding.DER)
    data = resigned(laboratory, now, institution="hospital", ca=stolen)
    with pytest.raises(errors.WrongAuthority):
        partners.read_descriptor(data, now)


def test_a_descriptor_signed_with_another_key_of_the_institution(laboratory, now):
    signed = Signed.from_bytes(unarmoured(laboratory.descriptor()))
    fields = canonical.decode(signed.payload)
    other = sign_statement(laboratory.keys.signer(Purpose.RECORD), LABEL, fields)
    with pytest.raises(errors.WrongPurpose):
        partners.read_descriptor(armoured(other.to_bytes()), now)


def test_another_statement_of_the_same_key(laboratory, now):
    signed = Signed.from_bytes(unarmoured(laboratory.descriptor()))
    fields = canonical.decode(signed.payload)
    other = sign_statement(laboratory.keys.signer(Purpose.EXCHANGE), "CRX/1 delivery", fields)
    with pytest.raises(errors.WrongLabel):
        partners.read_descriptor(armoured(other.to_bytes()), now)


def test_an_old_descriptor_is_refused_when_its_list_is_stale(laboratory, now, limits):
    with pytest.raises(errors.CrlStale):
        verify_descriptor(laboratory.descriptor(), now + limits.refuse_after + DAY, limits)


# Trust.


def test_trust_is_kept_as_compared(hospital, described, now, limits):
    partner = partners.trust(hospital.pki, described, now)
    assert partner.fingerprint == partners.fingerprint(described)
    assert (partner.trusted_at, partner.revoked, partner.crl_floor) == (now, False, 1)
    store = partners.TrustStore(hospital.pki)
    assert store.partners() == [partner]
    assert store.get("laboratory") == store.find("laboratory") == partner
    assert store.is_trusted("laboratory")


def test_unknown_partners(hospital):
    store = partners.TrustStore(hospital.pki)
    assert store.partners() == []
    for name in ("laboratory", "../laboratory", "", "a\x00b", "x" * 1000):
        assert store.find(name) is None
        assert not store.is_trusted(name)
        with pytest.raises(errors.UnknownPartner):
            store.get(name)
        with pytest.raises(errors.UnknownPartner):
            partners.revoke_partner(hospital.pki, name, MOMENT, "test")


def test_an_institution_is_not_its_own_partner(laboratory, described, now):
    with pytest.raises(errors.DescriptorInvalid, match="own partner"):
        partners.trust(laboratory.pki, described, now)


def test_a_local_revocation_works_at_once_and_can_be_taken_back(hospital, described, now):
    partners.trust(hospital.pki, described, now)
    store = partners.TrustStore(hospital.pki)
    assert partners.revoke_partner(hospital.pki, "laboratory", now, "contract-ended").revoked
    assert store.get("laboratory").revoked
    assert not store.is_trusted("laboratory")
    partners.trust(hospital.pki, described, now)
    assert not store.is_trusted("laboratory")
    assert not partners.restore_partner(hospital.pki, "laboratory").revoked
    assert store.is_trusted("laboratory")


def test_the_reason_of_a_revocation_is_a_code(hospital, described, now):
    partners.trust(hospital.pki, described, now)
    with pytest.raises(ValueError, match="short code"):
        partners.revoke_partner(hospital.pki, "laboratory", now, "They were rude to Ana")


def test_names_and_endpoint_may_change(hospital, laboratory, described, now):
    partners.trust(hospital.pki, described, now)
    moved = laboratory.descriptor(now + DAY, endpoint="elsewhere:4001")
    partners.trust(hospital.pki, partners.read_descriptor(moved, now + DAY), now + DAY)
    assert partners.TrustStore(hospital.pki).get("laboratory").endpoint == "elsewhere:4001"


def test_another_authority_does_not_slip_in(hospital, described, now, tmp_path, founded):
    """Somebody else's laboratory, properly made, sends a descriptor of its own."""
    partners.trust(hospital.pki, described, now)
    impostor = impostor_of(founded, tmp_path, now)
    theirs = partners.read_descriptor(impostor, now)
    assert partners.fingerprint(theirs) != partners.fingerprint(described)
    with pytest.raises(errors.PartnerChanged):
        partners.trust(hospital.pki, theirs, now)
    assert partners.TrustStore(hospital.pki).get("laboratory").ca == described.ca
    replaced = partners.trust(hospital.pki, theirs, now, replace=True)
    assert (replaced.ca, replaced.crl_floor) == (theirs.ca, 1)


def impostor_of(founded, tmp_path, now) -> bytes:
    found = type(founded["laboratory"])
    home = tmp_path / "impostor"
    secrets = dict.fromkeys(Group, b"a passphrase for all")
    names = {"en": "Example Laboratory", "pt": "Laboratório Exemplo"}
    authority.init_ca(home / "pki", "laboratory", names, secrets["ca"], now)
    authority.issue_missing(
        home / "pki", dns_names=["laboratory.localhost"], passphrases=secrets, now=now
    )
    create_share(home / "pki", secrets["pair"])
    return found("laboratory", home, secrets).descriptor()


def test_a_changed_share_needs_a_new_comparison(hospital, laboratory, described, now):
    partners.trust(hospital.pki, described, now)
    changed = partners.read_descriptor(resigned(laboratory, now, share=b"\x09" * 32), now)
    with pytest.raises(errors.PartnerChanged):
        partners.trust(hospital.pki, changed, now)


def test_the_trusted_file_altered_by_hand(hospital, laboratory, described, now):
    partners.trust(hospital.pki, described, now)
    path = Layout(hospital.pki).partners / "laboratory.partner"
    store = partners.TrustStore(hospital.pki)
    for data in (b"", b"\xff", canonical.encode({}), canonical.encode([1])):
        write_file(path, data)
        with pytest.raises(errors.KeyFileUnfit, match="cannot be read"):
            store.get("laboratory")
    record = {"descriptor": laboratory.descriptor()[:-50], "trusted": to_micros(now)}
    write_file(path, canonical.encode(record))
    with pytest.raises(errors.DescriptorInvalid):
        store.get("laboratory")


def test_a_trusted_file_under_another_name(hospital, described, now):
    partners.trust(hospital.pki, described, now)
    folder = Layout(hospital.pki).partners
    (folder / "laboratory.partner").rename(folder / "pharmacy.partner")
    with pytest.raises(errors.KeyFileUnfit, match="another institution"):
        partners.TrustStore(hospital.pki).get("pharmacy")


def test_trust_outlives_the_descriptors_list(hospital, described, now):
    """What was trusted stays trusted when the list inside the descriptor is long stale."""
    partners.trust(hospital.pki, described, now)
    with pytest.raises(errors.CrlStale):
        partners.read_descriptor(described.armoured, now + 100 * DAY)
    with pytest.raises(errors.Expired):
        partners.read_descriptor(described.armoured, now + 1000 * DAY)
    assert partners.TrustStore(hospital.pki).get("laboratory").ca == described.ca


# The partner's revocation lists.


def next_crl(institution, moment) -> bytes:
    made = authority.make_crl(
        institution.pki, ca_passphrase=institution.passphrases["ca"], now=moment
    )
    return made.public_bytes(Encoding.DER)


def test_newer_lists_are_kept_and_older_ones_refused(hospital, laboratory, described, now):
    partners.trust(hospital.pki, described, now)
    first = laboratory.keys.crl_der
    second, third = next_crl(laboratory, now), next_crl(laboratory, now + DAY)
    later = now + DAY
    assert partners.remember_crl(hospital.pki, "laboratory", third, later) == 3
    assert partners.remember_crl(hospital.pki, "laboratory", third, later) == 3
    for old in (first, second):
        with pytest.raises(errors.CrlRolledBack):
            partners.remember_crl(hospital.pki, "laboratory", old, later)
    partner = partners.TrustStore(hospital.pki).get("laboratory")
    assert (partner.crl_floor, partner.crl_der) == (3, third)


@pytest.mark.parametrize("again", [False, True])
def test_trusting_again_does_not_roll_the_list_back(hospital, laboratory, described, now, again):
    partners.trust(hospital.pki, described, now)
    partners.remember_crl(hospital.pki, "laboratory", next_crl(laboratory, now), now)
    partners.trust(hospital.pki, described, now, replace=again)
    assert partners.TrustStore(hospital.pki).get("laboratory").crl_floor == 2


def test_trusting_a_newer_descriptor_takes_its_list(hospital, laboratory, described, now):
    partners.trust(hospital.pki, described, now)
    next_crl(laboratory, now)
    newer = partners.read_descriptor(laboratory.descriptor(now), now)
    assert partners.trust(hospital.pki, newer, now).crl_floor == 2


def test_a_list_of_another_authority_is_not_kept(hospital, described, now):
    partners.trust(hospital.pki, described, now)
    with pytest.raises(errors.CrlInvalid):
        partners.remember_crl(hospital.pki, "laboratory", hospital.keys.crl_der, now)


# Pair keys.


def raw_share() -> tuple[bytes, bytes]:
    private = X25519PrivateKey.generate()
    return private.private_bytes_raw(), private.public_key().public_bytes_raw()


def test_both_sides_derive_the_same_key():
    (a, a_public), (b, b_public) = raw_share(), raw_share()
    one = pair_key(a, b_public, "hospital", "laboratory")
    other = pair_key(b, a_public, "laboratory", "hospital")
    assert one == other
    assert (len(one.key), len(one.key_id)) == (32, 16)
    assert one.key.hex() not in repr(one) and repr(one.key) not in repr(one)


def test_names_and_shares_separate_keys():
    (a, _), (_, b_public), (_, c_public) = raw_share(), raw_share(), raw_share()
    keys = [
        pair_key(a, b_public, "hospital", "laboratory"),
        pair_key(a, b_public, "hospital", "pharmacy"),
        pair_key(a, b_public, "clinic", "laboratory"),
        pair_key(a, b_public, "laboratory", "hospital"),
        pair_key(a, c_public, "hospital", "laboratory"),
    ]
    assert len({key.key for key in keys}) == len({key.key_id for key in keys}) == len(keys)


@pytest.mark.parametrize("share", [bytes(32), b"\x01" + bytes(31), b"short", b""])
def test_a_share_of_small_order(share):
    with pytest.raises(errors.UnsafeShare):
        pair_key(raw_share()[0], share, "hospital", "laboratory")


def test_pair_keys_of_all_partners(hospital, laboratory, described, now):
    partners.trust(hospital.pki, described, now)
    ours = partners.read_descriptor(hospital.descriptor(), now)
    partners.trust(laboratory.pki, ours, now)
    one = partners.pair_keys(hospital.pki, hospital.passphrases)
    other = partners.pair_keys(laboratory.pki, laboratory.passphrases)
    assert one["laboratory"] == other["hospital"]
    partners.revoke_partner(hospital.pki, "laboratory", now, "test")
    assert partners.pair_keys(hospital.pki, hospital.passphrases) == {}
