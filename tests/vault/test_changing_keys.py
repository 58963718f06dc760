"""Keys that change while others use them: what the rows, the file and the locks guarantee."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from medportal.vault import keystore, store
from medportal.vault.errors import (
    InvalidKey,
    KeyFileError,
    KeysBusy,
    PatientKeyDestroyed,
    Tampered,
    UnknownVersion,
    WrongKey,
)
from medportal.vault.keyring import TenantKeyring
from medportal.vault.keystore import KEEP_SECONDS, KeyringFile
from medportal.vault.models import PatientKey
from medportal.vault.passphrase import Cost, protect, unprotect
from medportal.vault.service import Vault

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PATIENT, OTHER = "a" * 32, "b" * 32
RECORD = "c" * 32
PASSPHRASE = b"a passphrase of the tests"


@pytest.fixture
def path(tmp_path: Path, cheap: Cost) -> Path:
    made = tmp_path / "tenant.keystore"
    keystore.create(made, PASSPHRASE, cheap, NOW)
    return made


def test_a_ring_keeps_dates_and_distrust(path: Path, cheap: Cost) -> None:
    ring = keystore.load(path, PASSPHRASE)
    assert ring.made == {1: NOW}
    later = ring.distrusting(datetime(2026, 4, 1, tzinfo=UTC))
    keystore.save(path, later, PASSPHRASE, cheap)
    again = keystore.load(path, PASSPHRASE)
    assert (again, again.current, again.distrusted, again.older) == (later, 2, 1, (1,))
    assert set(again.made) == {1, 2}
    slim = again.without(1).trusted()
    assert (slim.distrusted, set(slim.made), slim.older) == (0, {2}, ())


def test_a_ring_that_trusts_what_it_should_not_is_none() -> None:
    ring = TenantKeyring.generate()
    with pytest.raises(InvalidKey):
        TenantKeyring(ring.versions, 1, distrusted=1)
    with pytest.raises(InvalidKey):
        ring.distrusting().trusted()


def test_a_process_takes_up_a_new_key_without_a_restart(path: Path, cheap: Cost) -> None:
    rings = KeyringFile(path, PASSPHRASE)
    first = rings()
    assert rings() is first
    keystore.save(path, first.rotated(NOW), PASSPHRASE, cheap)
    assert rings().current == 2
    assert "versions" not in repr(rings)


def test_what_the_file_forgot_still_opens_for_a_while(path: Path, cheap: Cost) -> None:
    time = [0.0]
    rings = KeyringFile(path, PASSPHRASE, lambda: time[0])
    old = rings()
    wrapped = old.wrap_patient_key(PATIENT, b"k" * 32)
    keystore.save(path, old.rotated(NOW).without(1), PASSPHRASE, cheap)
    assert rings().unwrap_patient_key(PATIENT, wrapped) == b"k" * 32
    time[0] = KEEP_SECONDS + 1
    with pytest.raises(UnknownVersion):
        rings().unwrap_patient_key(PATIENT, wrapped)


def test_a_keystore_that_vanishes_or_breaks_is_said_at_once(path: Path, cheap: Cost) -> None:
    rings = KeyringFile(path, PASSPHRASE)
    rings()
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(KeyFileError):
        rings()
    path.unlink()
    with pytest.raises(KeyFileError):
        rings()


def test_two_commands_do_not_change_keys_at_once(path: Path) -> None:
    with keystore.changing(path), pytest.raises(KeysBusy), keystore.changing(path):
        pass
    # Done or failed, the first lets the next one in.
    with keystore.changing(path):
        pass


class Rings:
    """A ring that others change; ``before_next`` happens before it is looked at again."""

    def __init__(self) -> None:
        self.ring = TenantKeyring.generate(NOW)
        self.before: list[Callable[[], None]] = []

    def __call__(self) -> TenantKeyring:
        if self.before:
            self.before.pop(0)()
        return self.ring

    def rotate(self) -> None:
        self.ring = self.ring.rotated(NOW)


def test_a_key_made_while_the_tenant_key_changes_is_wrapped_again(session: Session) -> None:
    rings = Rings()
    vault = Vault("hospital", rings, lambda: NOW)
    # The first look wraps the new key; before the second, after the insert, the key changes.
    rings.before = [lambda: None, rings.rotate]
    made = vault.patient_key(session, PATIENT, create=True)
    row = session.scalars(select(PatientKey)).one()
    assert row.tenant_key_version == 2
    slim = Vault("hospital", rings.ring.without(1))
    assert slim.patient_key(session, PATIENT) == made


@contextmanager
def in_thread(work: Callable[[], None]) -> Iterator[threading.Event]:
    done = threading.Event()
    thread = threading.Thread(target=lambda: (work(), done.set()))
    thread.start()
    try:
        yield done
    finally:
        thread.join()


def test_whoever_changes_keys_waits_for_whoever_makes_one(engine: Engine) -> None:
    vault = Vault("hospital", TenantKeyring.generate(NOW), lambda: NOW)
    seen: list[int] = []

    def settle() -> None:
        with Session(engine) as session, session.begin():
            store.settle_patient_keys(session)
            seen.append(store.count_stale(session, 2))

    with Session(engine) as session, session.begin():
        vault.patient_key(session, PATIENT, create=True)
        with in_thread(settle) as done:
            assert not done.wait(0.3)
            session.commit()
    assert seen == [1]


def test_a_new_key_waits_for_what_is_being_sealed_under_the_old(engine: Engine) -> None:
    ring = TenantKeyring.generate(NOW)
    vault = Vault("hospital", ring, lambda: NOW)
    with Session(engine) as session, session.begin():
        vault.patient_key(session, PATIENT, create=True)
    later = Vault("hospital", ring.distrusting(NOW))
    order: list[str] = []

    def rekey() -> None:
        with Session(engine) as session, session.begin():
            rekeying = later.begin_rekey(session, PATIENT)
            assert rekeying is not None
            order.append("rekeyed")
            rekeying.finish(session)

    with Session(engine) as session, session.begin():
        vault.seal_record(session, PATIENT, RECORD, 1, b"content")
        with in_thread(rekey) as done:
            assert not done.wait(0.3)
            order.append("sealed")
            session.commit()
    assert order == ["sealed", "rekeyed"]


def test_erasure_waits_for_what_is_being_sealed(engine: Engine) -> None:
    vault = Vault("hospital", TenantKeyring.generate(NOW), lambda: NOW)
    with Session(engine) as session, session.begin():
        vault.patient_key(session, PATIENT, create=True)

    def erase() -> None:
        with Session(engine) as session, session.begin():
            store.destroy_patient_key(session, PATIENT, NOW)

    with Session(engine) as session, session.begin():
        vault.seal_record(session, PATIENT, RECORD, 1, b"content")
        with in_thread(erase) as done:
            assert not done.wait(0.3)
            session.commit()
    with Session(engine) as session, pytest.raises(PatientKeyDestroyed):
        vault.patient_key(session, PATIENT)


def test_a_key_that_never_was_is_never_made_after_an_erasure(session: Session) -> None:
    vault = Vault("hospital", TenantKeyring.generate(NOW), lambda: NOW)
    assert store.destroy_patient_key(session, PATIENT, NOW) is False
    assert store.destroy_patient_key(session, PATIENT, NOW) is False
    with pytest.raises(PatientKeyDestroyed):
        vault.seal_record(session, PATIENT, RECORD, 1, b"content")
    assert store.count_by_version(session) == {}
    assert store.ages(session) == (None, None, 1)


def test_a_patient_moves_to_another_key(session: Session) -> None:
    ring = TenantKeyring.generate(NOW)
    old = Vault("hospital", ring, lambda: NOW)
    document = old.seal_record(session, PATIENT, RECORD, 1, b"content")
    note = old.seal_note(session, PATIENT, "purpose", "n", b"words")
    before = old.patient_key(session, PATIENT)

    now = Vault("hospital", ring.distrusting(NOW))
    rekeying = now.begin_rekey(session, PATIENT)
    assert rekeying is not None
    assert before.hex() not in repr(rekeying)
    fresh = rekeying.document(RECORD, 1, document), rekeying.note("purpose", "n", note)
    with pytest.raises(Tampered):
        rekeying.document(RECORD, 2, document)
    rekeying.finish(session)

    assert now.patient_key(session, PATIENT) != before
    assert now.open_record(session, PATIENT, RECORD, 1, fresh[0]) == b"content"
    assert now.open_note(session, PATIENT, "purpose", "n", fresh[1]) == b"words"
    # What a thief of the old keys has opens nothing any more, and theirs nothing new.
    with pytest.raises(WrongKey):
        now.open_record(session, PATIENT, RECORD, 1, document)
    with pytest.raises(UnknownVersion):
        old.patient_key(session, PATIENT)
    assert now.begin_rekey(session, PATIENT) is None
    assert now.begin_rekey(session, OTHER) is None


def test_a_damaged_key_is_counted_and_left(session: Session) -> None:
    ring = TenantKeyring.generate(NOW)
    old = Vault("hospital", ring, lambda: NOW)
    for patient in (PATIENT, OTHER):
        old.patient_key(session, patient, create=True)
    row = store.find_patient_key(session, OTHER)
    assert row is not None and row.wrapped is not None
    broken = bytes(40)
    assert store.swap_patient_key(session, OTHER, row.wrapped, {"wrapped": broken})
    new = Vault("hospital", ring.rotated(NOW))
    batch = new.rewrap_patient_keys(session)
    assert (batch.done, batch.damaged, batch.last) == (1, 1, OTHER)
    assert store.count_by_version(session) == {1: 1, 2: 1}


def test_a_row_that_somebody_holds_is_left_for_the_next_time(engine: Engine) -> None:
    ring = TenantKeyring.generate(NOW)
    vault = Vault("hospital", ring, lambda: NOW)
    with Session(engine) as session, session.begin():
        for patient in (PATIENT, OTHER):
            vault.patient_key(session, patient, create=True)
    if engine.dialect.name == "sqlite":
        # One writer at a time: nobody holds a row while another writes.
        with Session(engine) as session, session.begin():
            new = Vault("hospital", ring.rotated(NOW))
            assert new.rewrap_patient_keys(session).done == 2
        return
    new = Vault("hospital", ring.rotated(NOW))
    with Session(engine) as holder, holder.begin():
        vault.seal_record(holder, PATIENT, RECORD, 1, b"content")
        with Session(engine) as session, session.begin():
            assert new.rewrap_patient_keys(session).done == 1
    with Session(engine) as session, session.begin():
        assert new.rewrap_patient_keys(session).done == 1


def test_a_secret_of_an_account_moves_to_the_new_key() -> None:
    ring = TenantKeyring.generate(NOW)
    sealed = Vault("hospital", ring).seal_secret("totp", PATIENT, b"secret")
    new = Vault("hospital", ring.rotated(NOW))
    fresh = new.reseal_secret("totp", PATIENT, sealed)
    assert fresh is not None
    slim = Vault("hospital", ring.rotated(NOW).without(1))
    assert new.reseal_secret("totp", PATIENT, fresh) is None
    with pytest.raises(UnknownVersion):
        slim.open_secret("totp", PATIENT, sealed)
    with pytest.raises(Tampered):
        new.reseal_secret("totp", OTHER, sealed)


def test_only_the_owner_reads_a_keystore(path: Path) -> None:
    os.chmod(path, 0o640)
    with pytest.raises(KeyFileError):
        KeyringFile(path, PASSPHRASE)()


@pytest.mark.timeout(60)
def test_several_threads_open_keystores_at_once() -> None:
    """Two derivations at once in one process hung for ever, or failed for want of memory."""
    secret = protect("test", b"secret", PASSPHRASE)
    opened: list[bytes] = []

    def work() -> None:
        opened.extend(unprotect("test", secret, PASSPHRASE) for _ in range(3))

    # Daemons: if they hang, this test fails instead of the run.
    threads = [threading.Thread(target=work, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert opened == [b"secret"] * 9
