"""A tenant's keys change under a portal that serves: rotation, the answer to a theft, killed
midway at every place, and what a thief of the old keys still gets."""

import re
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
from installation import Installation
from sqlalchemy import LargeBinary, func, select, update

from medportal.access.models import BrokenGlass, Complaint, PatientRule
from medportal.core.clock import utcnow
from medportal.core.ids import new_id
from medportal.delivery.models import Inbox
from medportal.identity.models import Totp
from medportal.models import Base
from medportal.ops import resealing
from medportal.ops.rotation import (
    Change,
    DoesNotOpen,
    Progress,
    RekeyUnderWay,
    change_of,
    rekey,
    rotate,
)
from medportal.patients.models import SupportNeeds
from medportal.pki.profiles import Group
from medportal.records.models import RecordVersion
from medportal.results import held
from medportal.vault import keystore
from medportal.vault.errors import KeysBusy, UnknownVersion, VaultError
from medportal.vault.models import Document, PatientKey
from medportal.vault.passphrase import Cost
from medportal.vault.service import Vault

HOSPITAL = "hospital"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def enter(portal: Installation) -> str:
    """Let the doctor write a record; return its page."""
    browser = portal.signed_in("doctor")
    patient = portal.person("patient")
    form = browser.get(f"/patients/{patient}/records/new").forms["form"]
    form["effective"], form["body-temperature"] = "03/02/2026", "38.4"
    answer = form.submit()
    assert answer.status_int == 303
    return re.sub(r"^https?://[^/]+", "", answer.location)


def seal_everything(portal: Installation) -> None:
    """Put one of each kind of sealed words about the patient into the database."""
    patient, doctor = portal.person("patient"), portal.person("doctor")
    vault = portal.keys(HOSPITAL).vault
    with portal.session(HOSPITAL) as session, session.begin():

        def note(purpose: str, note_id: str) -> bytes:
            return vault.seal_note(session, patient, purpose, note_id, purpose.encode())

        def of(model: Any) -> dict[str, bytes]:
            kinds = [kind for kind in resealing.NOTES if kind.model is model]
            return {kind.column: note(kind.purpose, made) for kind in kinds}

        common = {"patient_id": patient}
        made = new_id()
        session.add(SupportNeeds(id=made, at=NOW, by=doctor, **common, **of(SupportNeeds)))
        made = new_id()
        who = {"whom": "person", "whom_id": doctor, "what": "everything", "what_id": ""}
        session.add(
            PatientRule(
                id=made,
                effect="allow",
                **who,
                since=NOW,
                made_at=NOW,
                made_by=patient,
                ended_at=NOW,
                **common,
                **of(PatientRule),
            )
        )
        made = new_id()
        session.add(
            BrokenGlass(
                id=made,
                staff_id=doctor,
                reason="emergency",
                since=NOW,
                until=NOW,
                reviewed_at=NOW,
                **common,
                **of(BrokenGlass),
            )
        )
        made = new_id()
        session.add(
            Complaint(
                id=made,
                event_id=new_id(),
                made_at=NOW,
                made_by=patient,
                answered_at=NOW,
                **common,
                **of(Complaint),
            )
        )
        secret = vault.seal_secret("totp", doctor, b"JBSWY3DPEHPK3PXP")
        session.merge(Totp(person_id=doctor, pending_secret=secret, pending_at=NOW))


def opened(portal: Installation) -> dict[str, list[bytes]]:
    """Open everything that is sealed with the keys as they are on disk now."""
    patient, doctor = portal.person("patient"), portal.person("doctor")
    vault = portal.keys(HOSPITAL).vault
    found: dict[str, list[bytes]] = {}
    with portal.session(HOSPITAL) as session:
        for kind in resealing.NOTES:
            table = kind.model.__table__
            for row in session.scalars(select(kind.model).where(table.c.patient_id == patient)):
                sealed = getattr(row, kind.column)
                if sealed:
                    name = kind.name(row)
                    plain = vault.open_note(session, patient, kind.purpose, name, sealed)
                    found.setdefault(kind.purpose, []).append(plain)
        rows = session.execute(
            select(RecordVersion, Document.sealed).join(
                Document, Document.id == RecordVersion.document_id
            )
        )
        for version, sealed in rows:
            plain = vault.open_record(session, patient, version.record_id, version.version, sealed)
            found.setdefault("record", []).append(plain)
        totp = session.get(Totp, doctor)
        assert totp is not None and totp.pending_secret is not None
        found["totp"] = [vault.open_secret("totp", doctor, totp.pending_secret)]
    return {name: sorted(each) for name, each in found.items()}


def stolen(portal: Installation) -> SimpleNamespace:
    """Return what a thief of today has: the opened keyring, and the whole patient's key."""
    keys = portal.keys(HOSPITAL)
    ring = keystore.load(keys.places.keyring, keys.passphrase(Group.PORTAL))
    with portal.session(HOSPITAL) as session:
        key = keys.vault.patient_key(session, portal.person("patient"))
    return SimpleNamespace(ring=ring, key=key)


@pytest.fixture
def change(portal: Installation) -> Callable[..., Change]:
    """Give what makes a change of the hospital's keys; nothing has to be waited for."""

    def make(say: Callable[[Progress], None] = lambda _progress: None, **more: Any) -> Change:
        made = change_of(
            portal.settings,
            portal.settings.tenant(HOSPITAL),
            portal.registry.database(HOSPITAL),
            say,
            timedelta(0),
        )
        return Change(
            **{
                **{name: getattr(made, name) for name in Change.__dataclass_fields__},
                "wait": lambda _seconds: None,
                "cost": Cost(iterations=1, lanes=1, memory_kib=8),
                **more,
            }
        )

    return make


def ring_of(portal: Installation) -> Any:
    keys = portal.keys(HOSPITAL)
    return keystore.load(keys.places.keyring, keys.passphrase(Group.PORTAL))


@pytest.fixture
def page(portal: Installation) -> Iterator[str]:
    seal_everything(portal)
    yield enter(portal)


def test_a_rotation_leaves_everything_readable_and_no_old_key(portal, change, page):
    before, browser = opened(portal), portal.signed_in("doctor")
    shown = browser.get(page).text
    version = ring_of(portal).current
    said: list[Progress] = []

    done = rotate(change(said.append))

    ring = ring_of(portal)
    assert (ring.current, ring.older, ring.distrusted) == (version + 1, (), 0)
    assert done.version == ring.current
    assert done.patients >= 1 and done.secrets >= 1
    assert opened(portal) == before
    # The portal that was serving all the time took the new key up by itself.
    assert "38.4" in shown and "38.4" in browser.get(page).text
    assert {each.step for each in said} >= {"patient keys"}
    actions = [event[0] for event in portal.events(HOSPITAL)]
    assert actions.count("keys-rotated") >= 2
    enter(portal)


def test_a_rekey_takes_everything_from_the_thief(portal, change, page):
    before, thief = opened(portal), stolen(portal)
    with portal.session(HOSPITAL) as session:
        old_documents = {row.id: row.sealed for row in session.scalars(select(Document))}

    done = rekey(change())

    assert done.damaged == 0
    assert opened(portal) == before
    with portal.session(HOSPITAL) as session:
        now = {row.id: row.sealed for row in session.scalars(select(Document))}
        # No document, and no key, is what the thief could open.
        assert not set(now) & set(old_documents)
        assert len(now) == len(old_documents)
        with pytest.raises(UnknownVersion):
            Vault(HOSPITAL, thief.ring).patient_key(session, portal.person("patient"))
        fresh = portal.keys(HOSPITAL).vault.patient_key(session, portal.person("patient"))
    assert fresh != thief.key
    assert "38.4" in portal.signed_in("doctor").get(page).text
    enter(portal)


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("deed", [rotate, rekey])
def test_killed_at_any_place_it_goes_on(portal, change, page, deed):
    before = opened(portal)
    told: list[Progress] = []
    deed(change(told.append, batch=1))
    for place in range(len(told)):
        left = place

        def die(_progress: Progress) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed

        with pytest.raises(Killed):
            deed(change(die, batch=1))
        under_way = ring_of(portal)
        assert under_way.older
        # Half done, everything opens all the same: by a new process too.
        assert opened(portal) == before
        done = deed(change(batch=1))
        # It went on with the key that was made; no third one.
        assert done.version == under_way.current
        assert ring_of(portal).older == ()
        assert opened(portal) == before


def test_killed_between_the_file_and_the_commit_nothing_is_lost(portal, change, page, monkeypatch):
    before = opened(portal)
    saved = keystore.save
    calls = count()

    def die_after_the_second(*arguments: Any) -> None:
        saved(*arguments)
        if next(calls) == 1:
            raise Killed

    monkeypatch.setattr(keystore, "save", die_after_the_second)
    with pytest.raises(Killed):
        rotate(change())
    assert ring_of(portal).older == ()
    assert opened(portal) == before


def test_a_rekey_goes_before_a_rotation_and_takes_one_along(portal, change, page):
    def die(_progress: Progress) -> None:
        raise Killed

    before = opened(portal)
    with pytest.raises(Killed):
        rotate(change(die))
    with pytest.raises(Killed):
        rekey(change(die))
    assert ring_of(portal).distrusted == ring_of(portal).current - 1
    with pytest.raises(RekeyUnderWay):
        rotate(change())
    rekey(change())
    assert (ring_of(portal).older, ring_of(portal).distrusted) == ((), 0)
    assert opened(portal) == before


@pytest.mark.parametrize("deed", [rotate, rekey])
def test_what_a_partner_says_of_a_held_transfer_stays_readable(portal, change, deed):
    tid, vault = new_id(), portal.keys(HOSPITAL).vault
    owner = held.owner_of("laboratory", tid)
    with portal.session(HOSPITAL) as session, session.begin():
        last = session.scalar(select(func.max(Inbox.sequence))) or 0
        session.add(
            Inbox(
                sender="laboratory",
                tid=tid,
                digest=b"d" * 32,
                pseudonym=b"p" * 32,
                key_id="k",
                outcome="held-for-review",
                reason="demographics-differ",
                sequence=last + 1,
                received_at=NOW,
                awaiting="person",
                told=vault.seal_secret(held.PURPOSE, owner, b"who"),
            )
        )
    deed(change())
    with portal.session(HOSPITAL) as session:
        told = session.get(Inbox, ("laboratory", tid)).told
    # With the keys as they are on disk, by a process that never had the old one.
    assert portal.keys(HOSPITAL).vault.open_secret(held.PURPOSE, owner, told) == b"who"


def test_one_command_at_a_time(portal, change):
    with keystore.changing(change().path), pytest.raises(KeysBusy):
        rotate(change())


@pytest.mark.parametrize("deed", [rotate, rekey])
def test_a_damaged_patient_key_keeps_the_old_tenant_key(portal, change, page, deed):
    stranger = new_id()
    vault = portal.keys(HOSPITAL).vault
    with portal.session(HOSPITAL) as session, session.begin():
        vault.patient_key(session, stranger, create=True)
        whole = session.get(PatientKey, stranger).wrapped
        session.execute(
            update(PatientKey).where(PatientKey.patient_id == stranger).values(wrapped=bytes(40))
        )
    before, version = opened(portal), ring_of(portal).current
    with pytest.raises(DoesNotOpen, match=r"^1 patient keys do not open"):
        deed(change())
    assert ring_of(portal).older == (version,)
    assert opened(portal) == before
    # Brought back from a backup, the change ends as it should.
    with portal.session(HOSPITAL) as session, session.begin():
        session.execute(
            update(PatientKey).where(PatientKey.patient_id == stranger).values(wrapped=whole)
        )
    deed(change())
    assert ring_of(portal).older == ()


def test_a_damaged_secret_of_an_account_keeps_the_old_tenant_key(portal, change, page):
    nurse = portal.person("nurse")
    version = ring_of(portal).current
    with portal.session(HOSPITAL) as session, session.begin():
        broken = version.to_bytes(4, "big") + bytes(100)
        session.merge(Totp(person_id=nurse, sealed_secret=broken, confirmed_at=NOW))
    with pytest.raises(DoesNotOpen, match=r"^1 secrets of accounts or held"):
        rotate(change())
    assert ring_of(portal).older == (version,)
    with portal.session(HOSPITAL) as session, session.begin():
        session.delete(session.get(Totp, nurse))
    rotate(change())


def test_a_patient_of_whom_something_does_not_open_keeps_the_key(portal, change, page):
    """A store that answers wrongly for an hour costs nobody a record."""
    before, record, version = opened(portal), page.rsplit("/", 1)[-1], ring_of(portal).current
    with portal.session(HOSPITAL) as session, session.begin():
        row = session.scalars(select(RecordVersion).where(RecordVersion.record_id == record)).one()
        kept = session.scalars(select(Document).where(Document.id == row.document_id)).one()
        whole = (kept.id, kept.sealed, kept.created_at)
        session.delete(kept)
        pins = set(session.scalars(select(RecordVersion.document_id)))
        key = session.get(PatientKey, portal.person("patient")).wrapped
    with pytest.raises(DoesNotOpen, match=r"^1 documents or notes of 1 patients do not open"):
        rekey(change())
    ring = ring_of(portal)
    assert (ring.older, ring.distrusted) == ((version,), version)
    with portal.session(HOSPITAL) as session, session.begin():
        # Nothing of this patient was changed: neither the key nor what did open.
        assert session.get(PatientKey, portal.person("patient")).wrapped == key
        assert set(session.scalars(select(RecordVersion.document_id))) == pins
        session.add(Document(id=whole[0], sealed=whole[1], created_at=whole[2]))
    assert opened(portal) == before
    done = rekey(change())
    assert (done.damaged, ring_of(portal).older) == (0, ())
    assert opened(portal) == before


def test_a_document_that_was_changed_is_given_up_by_name_only_and_not_made_right(
    portal, change, page
):
    record = page.rsplit("/", 1)[-1]
    with portal.session(HOSPITAL) as session, session.begin():
        version = session.scalars(
            select(RecordVersion).where(RecordVersion.record_id == record)
        ).one()
        # One that opens under the patient's key, but is not what the index pins.
        other = portal.keys(HOSPITAL).vault.seal_record(
            session, portal.person("patient"), record, 1, b"rolled back"
        )
        session.execute(
            update(Document).where(Document.id == version.document_id).values(sealed=other)
        )
        pinned = version.document_digest
    with pytest.raises(DoesNotOpen):
        rekey(change())
    done = rekey(change(give_up_damaged=True))
    assert (done.damaged, ring_of(portal).older) == (1, ())
    with portal.session(HOSPITAL) as session, session.begin():
        version = session.scalars(
            select(RecordVersion).where(RecordVersion.record_id == record)
        ).one()
        assert version.document_digest == pinned
        session.execute(RecordVersion.__table__.delete().where(RecordVersion.record_id == record))


def test_old_documents_stay_for_as_long_as_a_request_may_last(portal, change, page):
    """Whoever read the index just before finds the document that it names."""
    time = [utcnow()]
    with portal.session(HOSPITAL) as session:
        old = set(session.scalars(select(RecordVersion.document_id)))
    still: list[set[str]] = []

    def wait(seconds: float) -> None:
        with portal.session(HOSPITAL) as session:
            still.append(set(session.scalars(select(Document.id).where(Document.id.in_(old)))))
        time[0] += timedelta(seconds=seconds)

    began = time[0]
    rekey(change(clock=lambda: time[0], wait=wait, settle=timedelta(seconds=120), batch=1))
    assert still and all(each == old for each in still)
    assert time[0] - began >= timedelta(seconds=120)
    with portal.session(HOSPITAL) as session:
        assert session.scalars(select(Document.id).where(Document.id.in_(old))).all() == []


def test_who_reads_sees_one_moment_while_keys_change(portal, change, page):
    """Index, document and key of before, or of after: never one of each."""
    patient, keys = portal.person("patient"), portal.keys(HOSPITAL)
    with portal.registry.database(HOSPITAL).reader() as session:
        row = session.scalars(
            select(RecordVersion).where(RecordVersion.record_id == page.rsplit("/", 1)[-1])
        ).one()
        # A process that serves has the keyring of before in memory.
        with portal.session(HOSPITAL) as other:
            keys.vault.patient_key(other, patient)
        rekey(change())
        sealed = session.scalars(
            select(Document.sealed).where(Document.id == row.document_id)
        ).one()
        opened_now = keys.vault.open_record(session, patient, row.record_id, 1, sealed)
    assert b"38.4" in opened_now


def test_people_read_and_write_meanwhile(portal, change, page):
    """A portal of two people, and a change of keys a patient at a time: nobody meets an error."""
    browser, stop, statuses = portal.signed_in("doctor"), threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            statuses.append(browser.get(page, expect_errors=True).status_int)
            # SQLite has no queue of writers: without a pause one of them gets every turn.
            stop.wait(0.05)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        pages = []
        for deed in (rotate, rekey, rotate):
            deed(change(batch=1))
            pages.append(enter(portal))
    finally:
        stop.set()
        reader.join()
    assert set(statuses) == {200}
    doctor = portal.signed_in("doctor")
    assert all("38.4" in doctor.get(each).text for each in pages)


def test_no_sealed_column_about_a_patient_is_forgotten(portal):
    """A column of bytes in a table about patients is resealed, or is named here with its reason."""
    known = {(kind.model.__tablename__, kind.column) for kind in resealing.NOTES}
    other_keys = {
        ("patient_key", "wrapped"),  # the key itself
        ("outbox", "sealed"),
        ("inbox", "sealed"),  # boxes with keys of their own
        ("inbox", "told"),
    }
    not_sealed = {("outbox", name) for name in ("pseudonym", "digest", "receipt")} | {
        ("inbox", name) for name in ("pseudonym", "digest", "receipt")
    }
    found = {
        (table.name, column.name)
        for table in Base.metadata.sorted_tables
        if "patient_id" in table.c
        for column in table.c
        if isinstance(column.type, LargeBinary)
    }
    # What partners are indexed by, and events about patients, hold digests and no sealed words.
    found = {each for each in found if not each[0].startswith(("partner_index", "audit_"))}
    assert found - other_keys - not_sealed == known


def test_a_vault_error_is_what_a_lost_old_key_gives(portal, change, page):
    """What a backup of the keystore is for: without it, an old backup of the data says nothing."""
    thief = stolen(portal)
    with portal.session(HOSPITAL) as session:
        row = session.get(PatientKey, portal.person("patient"))
        old = (row.tenant_key_version, row.wrapped)
    rotate(change())
    with portal.session(HOSPITAL) as session, session.begin():
        session.execute(
            update(PatientKey)
            .where(PatientKey.patient_id == portal.person("patient"))
            .values(tenant_key_version=old[0], wrapped=old[1])
        )
    with portal.session(HOSPITAL) as session, pytest.raises(VaultError):
        portal.keys(HOSPITAL).vault.patient_key(session, portal.person("patient"))
    # With the keyring of its time it opens, and is brought under the key of today.
    with portal.session(HOSPITAL) as session, session.begin():
        ring = ring_of(portal).with_older(thief.ring)
        assert Vault(HOSPITAL, ring).rewrap_patient_keys(session).done == 1
    assert opened(portal)
