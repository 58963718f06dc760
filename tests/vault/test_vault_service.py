"""Records under their patients' keys, on both kinds of database."""

import threading
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session

from medportal.vault.errors import (
    PatientKeyDestroyed,
    PatientKeyMissing,
    Tampered,
    UnknownVersion,
    WrongKey,
)
from medportal.vault.keyring import TenantKeyring
from medportal.vault.models import PatientKey
from medportal.vault.service import Vault

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PATIENT, OTHER = "a" * 32, "b" * 32
RECORD, OTHER_RECORD = "c" * 32, "d" * 32
RING = TenantKeyring.generate()


@pytest.fixture
def vault() -> Vault:
    return Vault("hospital", RING, lambda: NOW)


def test_a_record_comes_back(session: Session, vault: Vault) -> None:
    sealed = vault.seal_record(session, PATIENT, RECORD, 1, b"content")
    assert vault.open_record(session, PATIENT, RECORD, 1, sealed) == b"content"
    row = session.scalars(select(PatientKey)).one()
    assert (row.patient_id, row.tenant_key_version, row.created_at) == (PATIENT, 1, NOW)


def test_a_record_opens_in_a_later_transaction(engine: Engine, vault: Vault) -> None:
    with Session(engine) as session, session.begin():
        sealed = vault.seal_record(session, PATIENT, RECORD, 1, b"content")
    with Session(engine) as session:
        assert vault.open_record(session, PATIENT, RECORD, 1, sealed) == b"content"


def test_a_record_is_bound_to_record_and_version(session: Session, vault: Vault) -> None:
    sealed = vault.seal_record(session, PATIENT, RECORD, 1, b"content")
    with pytest.raises(Tampered):
        vault.open_record(session, PATIENT, OTHER_RECORD, 1, sealed)
    with pytest.raises(Tampered):
        vault.open_record(session, PATIENT, RECORD, 2, sealed)


def test_a_record_is_bound_to_its_patient(session: Session, vault: Vault) -> None:
    sealed = vault.seal_record(session, PATIENT, RECORD, 1, b"content")
    vault.seal_record(session, OTHER, OTHER_RECORD, 1, b"other")
    with pytest.raises(WrongKey):
        vault.open_record(session, OTHER, RECORD, 1, sealed)


def test_a_record_is_bound_to_its_tenant(session: Session, vault: Vault) -> None:
    sealed = vault.seal_record(session, PATIENT, RECORD, 1, b"content")
    # The same keys under another tenant's name: only the context differs.
    with pytest.raises(Tampered):
        Vault("laboratory", RING).open_record(session, PATIENT, RECORD, 1, sealed)
    with pytest.raises(Tampered):
        Vault("hospital", TenantKeyring.generate()).open_record(session, PATIENT, RECORD, 1, sealed)


def test_a_key_row_moved_to_another_patient_does_not_open(session: Session, vault: Vault) -> None:
    vault.patient_key(session, PATIENT, create=True)
    session.execute(update(PatientKey).values(patient_id=OTHER))
    with pytest.raises(Tampered):
        vault.patient_key(session, OTHER)


def test_reading_makes_no_key(session: Session, vault: Vault) -> None:
    with pytest.raises(PatientKeyMissing):
        vault.patient_key(session, PATIENT)
    with pytest.raises(PatientKeyMissing):
        vault.open_record(session, PATIENT, RECORD, 1, b"")
    assert session.scalars(select(PatientKey)).all() == []


def test_each_patient_has_a_key_of_their_own(session: Session, vault: Vault) -> None:
    first = vault.patient_key(session, PATIENT, create=True)
    assert vault.patient_key(session, PATIENT, create=True) == first
    assert vault.patient_key(session, OTHER, create=True) != first


def test_makers_at_once_end_with_one_key(engine: Engine, vault: Vault) -> None:
    keys: list[bytes] = []
    barrier = threading.Barrier(4)

    def make() -> None:
        barrier.wait()
        with Session(engine) as session, session.begin():
            keys.append(vault.patient_key(session, PATIENT, create=True))

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 4
    assert len(set(keys)) == 1


def test_a_destroyed_key_stays_destroyed(session: Session, vault: Vault) -> None:
    sealed = vault.seal_record(session, PATIENT, RECORD, 1, b"content")
    vault.destroy_patient_key(session, PATIENT, NOW)
    vault.destroy_patient_key(session, PATIENT, datetime(2027, 1, 1, tzinfo=UTC))
    with pytest.raises(PatientKeyDestroyed):
        vault.open_record(session, PATIENT, RECORD, 1, sealed)
    with pytest.raises(PatientKeyDestroyed):
        vault.seal_record(session, PATIENT, RECORD, 2, b"content")
    row = session.scalars(select(PatientKey)).one()
    assert (row.wrapped, row.destroyed_at) == (None, NOW)


def test_only_a_key_that_exists_can_be_destroyed(session: Session, vault: Vault) -> None:
    with pytest.raises(PatientKeyMissing):
        vault.destroy_patient_key(session, PATIENT, NOW)


def test_rotation_rewraps_in_steps_and_then_the_old_key_can_go(session: Session) -> None:
    old_ring = TenantKeyring.generate()
    old = Vault("hospital", old_ring, lambda: NOW)
    patients = [f"{number:032x}" for number in range(5)]
    sealed = {p: old.seal_record(session, p, RECORD, 1, p.encode()) for p in patients}
    old.destroy_patient_key(session, patients[4], NOW)

    ring = old_ring.rotated()
    new = Vault("hospital", ring, lambda: NOW)
    assert [new.rewrap_patient_keys(session, limit=3).done for _ in range(3)] == [3, 1, 0]

    slim = Vault("hospital", ring.without(1))
    for patient in patients[:4]:
        opened = slim.open_record(session, patient, RECORD, 1, sealed[patient])
        assert opened == patient.encode()
    with pytest.raises(UnknownVersion):
        old.patient_key(session, patients[0])
    with pytest.raises(PatientKeyDestroyed):
        slim.patient_key(session, patients[4])


def test_a_vault_does_not_show_its_keys(vault: Vault) -> None:
    assert not hasattr(vault, "__dict__")
    assert "versions" not in repr(vault)
