"""Erased patients stay erased, whichever backup is restored."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from backup_helpers import Site
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from medportal.audit.events import Action, Event
from medportal.audit.models import AuditEvent
from medportal.backup.errors import LedgerBehind
from medportal.backup.restoring import Pair
from medportal.core.clock import utcnow
from medportal.core.ids import new_id
from medportal.erasure import ledger
from medportal.erasure.errors import LedgerDamaged
from medportal.erasure.ledger import Entry, ledger_path
from medportal.erasure.models import Erasure
from medportal.pki.profiles import Purpose
from medportal.records.models import Record
from medportal.vault.models import Document, PatientKey
from medportal.vault.stores import documents_of


def entry(patient: str) -> Entry:
    now = utcnow()
    return Entry(
        erasure_id=new_id(),
        patient_id=patient,
        reason="asked-by-patient",
        asked_by=new_id(),
        asked_at=now,
        offered_at=now,
        decided_by=new_id(),
        decided_at=now,
        erased_at=now,
    )


@pytest.fixture(scope="module")
def before(site: Site) -> Any:
    """A backup from before the erasure."""
    return site.create()


@pytest.fixture(scope="module")
def erased(site: Site, before: Any) -> Iterator[Path]:
    """Erase the patient; return the ledger as it is on the old machine."""
    assert before.counts.documents
    keys = site.portal.keys("hospital")
    path = ledger_path(keys.places.pki)
    done = entry(site.patient)
    ledger.append(path, keys.signer(Purpose.HEAD), done)
    with site.portal.session("hospital") as session, session.begin():
        ledger.replay(session, documents_of(keys.tenant, session), path)
    yield path


def left(engine: Any) -> tuple[int, int, int]:
    """Return living patient keys, records and documents."""
    living = PatientKey.wrapped.is_not(None)
    with Session(engine) as session:
        return (
            session.scalars(select(func.count()).select_from(PatientKey).where(living)).one(),
            session.scalars(select(func.count()).select_from(Record)).one(),
            session.scalars(select(func.count()).select_from(Document)).one(),
        )


def test_an_old_backup_with_the_ledger_of_the_lost_machine(
    site: Site, before: Any, erased: Path
) -> None:
    place = site.elsewhere()
    done = place.restore(before, ledger=erased)
    assert done.erased == 1
    assert left(place.engine) == (0, 0, 0)
    assert ledger_path(place.home / "pki").read_bytes() == erased.read_bytes()
    with Session(place.engine) as session:
        assert session.scalars(select(Erasure.patient_id)).all() == [site.patient]
        told = select(AuditEvent).where(AuditEvent.action == str(Action.RESTORED))
        row = session.scalars(told.where(AuditEvent.object == before.backup)).one()
    said = Event.from_bytes(row.body).details
    digest = hashlib.sha256(erased.read_bytes()).hexdigest()
    assert (said["ledger"], said["ledger-lines"]) == (digest, 1)
    assert said["ledger-from"] == "elsewhere"


def test_old_data_with_a_keys_file_from_after_the_erasure(
    site: Site, before: Any, erased: Path
) -> None:
    assert erased.exists()
    later = site.create()
    place = site.elsewhere()
    place.restore(before, pair=Pair(before.data, later.keys))
    assert left(place.engine) == (0, 0, 0)


def test_a_backup_from_after_the_erasure_holds_nothing_of_the_patient(
    site: Site, erased: Path
) -> None:
    assert erased.exists()
    after = site.create()
    assert (after.counts.documents, after.damaged) == (0, 0)
    place = site.elsewhere()
    assert place.restore(after).erased == 0
    assert left(place.engine) == (0, 0, 0)


def test_without_a_newer_ledger_the_old_backup_brings_the_patient_back(
    site: Site, before: Any, erased: Path
) -> None:
    """What the docs warn of: the ledger, or a later keys file, is part of a restore."""
    assert erased.exists()
    place = site.elsewhere()
    done = place.restore(before)
    assert (done.erased, done.lines, done.is_newer) == (0, 0, False)
    assert left(place.engine)[0] == 1
    # The log tells for good which list of the erased counted.
    with Session(place.engine) as session:
        told = select(AuditEvent.body).where(AuditEvent.action == str(Action.RESTORED))
        bodies = session.scalars(told.where(AuditEvent.object == before.backup)).all()
    (said,) = [Event.from_bytes(body).details for body in bodies]
    assert (said["ledger-from"], said["ledger-lines"]) == ("backup", 0)
    assert said["ledger"] == hashlib.sha256(b"").hexdigest()


def test_a_changed_ledger_stops_the_restore(
    site: Site, before: Any, erased: Path, tmp_path: Path
) -> None:
    changed = tmp_path / "erasures.ledger"
    line = bytearray(erased.read_bytes())
    line[len(line) // 2] ^= 1
    changed.write_bytes(bytes(line))
    changed.chmod(0o600)
    place = site.elsewhere()
    with pytest.raises(LedgerDamaged):
        place.restore(before, ledger=changed)
    assert not (place.home / "pki").exists()
    assert place.restore(before, ledger=erased).erased == 1


def test_a_ledger_older_than_the_backups_is_refused(
    site: Site, before: Any, erased: Path, tmp_path: Path
) -> None:
    assert erased.exists()
    later = site.create()
    empty = tmp_path / "erasures.ledger"
    empty.write_bytes(b"")
    place = site.elsewhere()
    with pytest.raises(LedgerBehind, match="does not continue"):
        place.restore(before, pair=Pair(before.data, later.keys), ledger=empty)
