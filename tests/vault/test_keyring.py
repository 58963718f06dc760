"""Tenant keys by version and the patient keys under them."""

import pytest

from medportal.vault.errors import InvalidKey, Tampered, UnknownVersion
from medportal.vault.keyring import TenantKeyring, WrappedKey, new_key

PATIENT = "a" * 32
OTHER = "b" * 32


def test_a_patient_key_comes_back() -> None:
    ring = TenantKeyring.generate()
    key = new_key()
    wrapped = ring.wrap_patient_key(PATIENT, key)
    assert wrapped.version == 1
    assert ring.unwrap_patient_key(PATIENT, wrapped) == key


def test_a_wrapped_key_is_bound_to_its_patient() -> None:
    ring = TenantKeyring.generate()
    wrapped = ring.wrap_patient_key(PATIENT, new_key())
    with pytest.raises(Tampered):
        ring.unwrap_patient_key(OTHER, wrapped)


def test_a_wrapped_key_is_bound_to_its_version() -> None:
    key = new_key()
    ring = TenantKeyring({1: key, 2: key}, 2)
    wrapped = ring.wrap_patient_key(PATIENT, new_key())
    with pytest.raises(Tampered):
        ring.unwrap_patient_key(PATIENT, WrappedKey(1, wrapped.wrapped))


def test_a_wrapped_key_is_bound_to_its_tenant() -> None:
    wrapped = TenantKeyring.generate().wrap_patient_key(PATIENT, new_key())
    with pytest.raises(Tampered):
        TenantKeyring.generate().unwrap_patient_key(PATIENT, wrapped)


def test_every_flipped_bit_of_a_wrapped_key_is_noticed() -> None:
    ring = TenantKeyring.generate()
    wrapped = ring.wrap_patient_key(PATIENT, new_key())
    for place in range(len(wrapped.wrapped) * 8):
        changed = bytearray(wrapped.wrapped)
        changed[place // 8] ^= 1 << place % 8
        with pytest.raises(Tampered):
            ring.unwrap_patient_key(PATIENT, WrappedKey(1, bytes(changed)))


def test_rotation_keeps_old_keys_opening_and_wraps_with_the_new() -> None:
    ring = TenantKeyring.generate()
    key = new_key()
    old = ring.wrap_patient_key(PATIENT, key)
    rotated = ring.rotated()
    fresh = rotated.rewrap(PATIENT, old)
    assert (old.version, fresh.version) == (1, 2)
    assert rotated.unwrap_patient_key(PATIENT, old) == key
    assert rotated.unwrap_patient_key(PATIENT, fresh) == key
    slim = rotated.without(1)
    assert slim.unwrap_patient_key(PATIENT, fresh) == key
    with pytest.raises(UnknownVersion):
        slim.unwrap_patient_key(PATIENT, old)


def test_the_current_key_cannot_be_forgotten() -> None:
    with pytest.raises(InvalidKey):
        TenantKeyring.generate().without(1)


@pytest.mark.parametrize(
    ("versions", "current"),
    [({}, 1), ({1: bytes(32)}, 2), ({0: bytes(32)}, 0), ({1: bytes(31)}, 1)],
)
def test_an_unfit_ring_is_refused(versions: dict[int, bytes], current: int) -> None:
    with pytest.raises(InvalidKey):
        TenantKeyring(versions, current)


def test_a_ring_does_not_show_its_keys() -> None:
    key = b"0123456789abcdef0123456789abcdef"
    assert "0123" not in repr(TenantKeyring({1: key}, 1))
