"""Backup and restore of a whole institution: on each engine, and from one to the other."""

import errno
import os
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from backup_helpers import Site, rows
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session
from webtest import TestApp

from medportal.audit.events import Action
from medportal.audit.heads import SignedHead
from medportal.audit.models import AuditEvent
from medportal.audit.verifier import latest_head
from medportal.backup import checking, making
from medportal.backup.errors import KeysChanged, PartsDiffer, SamePlace, TargetNotEmpty
from medportal.backup.files import MARK
from medportal.backup.restoring import Pair
from medportal.config import make_app
from medportal.core.clock import utcnow
from medportal.delivery.receipts import storage_epoch
from medportal.identity.models import LoginSession, Totp
from medportal.ops.audit import verify_tenant_log
from medportal.ops.backup import Lost, verify
from medportal.ops.pinned import pinned_head
from medportal.ops.review import Whom
from medportal.ops.rotation import change_of, rotate
from medportal.tenancy.errors import TenantBehind
from medportal.tenancy.registry import Database


def events(engine: Any, action: Action) -> list[AuditEvent]:
    with Session(engine, expire_on_commit=False) as session:
        return list(session.scalars(select(AuditEvent).where(AuditEvent.action == str(action))))


def without(found: dict[str, set[Any]], *names: str) -> dict[str, set[Any]]:
    return {name: there for name, there in found.items() if name not in names}


CHANGED_BY_RESTORE = ("audit_event", "storage_epoch")


def test_everything_is_there_again_on_another_machine(site: Site) -> None:
    engine = site.portal.registry.database("hospital").engine
    before = rows(engine)
    made = site.create()
    assert (made.damaged, made.counts.documents) == (0, len(site.contents))
    place = site.elsewhere()
    done = place.restore(made, whom=Whom.NOBODY)
    assert done.erased == 0
    after = rows(place.engine)
    assert without(after, *CHANGED_BY_RESTORE) == without(before, *CHANGED_BY_RESTORE)
    assert place.contents() == site.contents
    assert not (place.home / MARK).exists()


def test_a_backup_of_one_engine_is_restored_into_the_other(site: Site) -> None:
    place = site.elsewhere("postgresql" if site.kind == "sqlite" else "sqlite")
    place.restore(site.create())
    assert place.contents() == site.contents


def test_people_sign_in_at_the_restored_portal_with_their_passwords_and_old_sessions_are_gone(
    site: Site,
) -> None:
    site.portal.signed_in("nurse")
    place = site.elsewhere()
    place.restore(site.create(), whom=Whom.NOBODY)
    with Session(place.engine) as session:
        assert session.scalar(select(func.count()).select_from(LoginSession)) == 0
    raw = {**place.raw, "medportal.tenants": "hospital"}
    app = make_app(raw)
    browser = site.portal.browser()
    browser.app = TestApp(app, extra_environ=browser.app.extra_environ)
    assert browser.sign_in("16240817").status_int == 303
    app.registry["tenants"].dispose()


def test_the_restore_is_audited_under_a_new_epoch_and_the_log_goes_on(site: Site) -> None:
    site.turn()
    engine = site.portal.registry.database("hospital").engine
    made = site.create()
    place = site.elsewhere()
    place.restore(made)
    told = [event for event in events(place.engine, Action.RESTORED) if event.object == made.backup]
    assert len(told) == 1
    with Session(engine) as old, Session(place.engine) as new:
        assert storage_epoch(old, utcnow()) != storage_epoch(new, utcnow())
        pinned = pinned_head(place.settings, place.tenant).signed()
        assert pinned == latest_head(new)
    portal = place.portal()
    site.turn(portal)
    result = verify_tenant_log(place.settings, place.tenant, portal.registry.database("hospital"))
    assert result.report.finding is None
    portal.registry.dispose()


def test_events_since_the_backup_are_declared_lost_with_a_head_that_a_partner_holds(
    site: Site, tmp_path: Any
) -> None:
    site.turn()
    made = site.create()
    site.portal.signed_in("doctor")
    site.turn()
    with Session(site.portal.registry.database("hospital").engine) as session:
        later = latest_head(session)
    (tmp_path / "head").write_bytes(later.to_bytes())
    place = site.elsewhere()
    place.restore(made, lost=Lost(tmp_path / "head", tmp_path / "statement"))
    assert (tmp_path / "statement").read_bytes()
    pinned = pinned_head(place.settings, place.tenant).signed()
    assert isinstance(pinned, SignedHead)
    portal = place.portal()
    database = portal.registry.database("hospital")
    held = verify_tenant_log(place.settings, place.tenant, database, [tmp_path / "head"])
    # The head lies in what was declared lost: whole, and the finding that the head is excused.
    assert held.report.finding is None
    portal.registry.dispose()


def test_a_later_keys_file_from_after_a_rotation_says_what_it_does_not_open(site: Site) -> None:
    """Records open; what the older data keeps under the tenant key itself does not."""
    doctor, keys = site.portal.person("doctor"), site.portal.keys("hospital")
    with site.portal.session("hospital") as session, session.begin():
        secret = keys.vault.seal_secret("totp", doctor, b"JBSWY3DPEHPK3PXP")
        session.merge(Totp(person_id=doctor, sealed_secret=secret, confirmed_at=utcnow()))
    try:
        before = site.create()
        tenant, database = keys.tenant, site.portal.registry.database("hospital")
        rotate(change_of(site.settings, tenant, database, lambda _progress: None, timedelta(0)))
        later = site.create()
    finally:
        with site.portal.session("hospital") as session, session.begin():
            session.delete(session.get(Totp, doctor))
    assert site.elsewhere().restore(before).shut == 0
    place = site.elsewhere()
    assert place.restore(before, pair=Pair(before.data, later.keys)).shut == 1
    assert place.contents() == site.contents


def test_a_backup_is_audited_before_it_is_there(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device", "audit")

    monkeypatch.setattr(making, "append", fails)
    with pytest.raises(OSError, match="No space"):
        site.create("data-unaudited", "keys-unaudited")
    for name in ("data-unaudited", "keys-unaudited"):
        assert list((site.directory / name).iterdir()) == []
    monkeypatch.undo()
    made = site.create()
    engine = site.portal.registry.database("hospital").engine
    assert made.backup in {event.object for event in events(engine, Action.BACKUP_MADE)}


def test_a_backup_made_while_others_write_is_of_one_moment(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records filed in the middle are wholly in it or not at all."""
    inner = making._write_documents

    def meanwhile(*arguments: Any) -> int:
        writer = threading.Thread(target=site.add_record)
        writer.start()
        writer.join()
        return inner(*arguments)

    monkeypatch.setattr(making, "_write_documents", meanwhile)
    before = dict(site.contents)
    made = site.create()
    assert len(site.contents) == len(before) + 1
    place = site.elsewhere()
    place.restore(made)
    assert place.contents() == before


def test_keys_renewed_in_the_middle_end_the_backup(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = making._write_rows
    path = site.settings.home("hospital") / "vault" / "tenant.keystore"
    kept = path.read_bytes()

    def meanwhile(*arguments: Any) -> int:
        path.write_bytes(kept + b"x")
        return inner(*arguments)

    monkeypatch.setattr(making, "_write_rows", meanwhile)
    try:
        with pytest.raises(KeysChanged, match="make it again"):
            site.create()
    finally:
        path.write_bytes(kept)


def test_a_damaged_document_is_counted_and_everything_else_is_there(site: Site) -> None:
    engine = site.portal.registry.database("hospital").engine
    with engine.begin() as connection:
        doc_id, sealed = connection.execute(text("SELECT id, sealed FROM document LIMIT 1")).one()
        update = text("UPDATE document SET sealed = :sealed WHERE id = :id")
        connection.execute(update, {"sealed": b"x" + bytes(sealed)[1:], "id": doc_id})
    try:
        made = site.create()
    finally:
        with engine.begin() as connection:
            connection.execute(update, {"sealed": bytes(sealed), "id": doc_id})
    assert (made.damaged, made.counts.documents) == (1, len(site.contents) - 1)


def test_data_and_keys_do_not_go_to_one_place(site: Site) -> None:
    with pytest.raises(SamePlace):
        site.create("together", "together/../together")


def test_neither_file_opens_anything_alone(site: Site) -> None:
    """The data file has no key; the keys file has no name, number or document."""
    made = site.create()
    opener = site.opener()
    from medportal.backup.checking import opened
    from medportal.backup.frames import File, Heading, SealedDocument

    seen = {}
    for path in (made.data, made.keys):
        with opened(path, opener) as (label, frames, _):
            seen[label.part] = list(frames)
    assert not any(isinstance(frame, File) for frame in seen["data"])
    assert not any(isinstance(frame, SealedDocument) for frame in seen["keys"])
    tables = {
        part: {frame.table for frame in frames if isinstance(frame, Heading)}
        for part, frames in seen.items()
    }
    assert tables["keys"] == {"patient_key"}
    assert "patient_key" not in tables["data"]
    assert "login_session" not in tables["data"]
    for path in (made.data, made.keys):
        assert b"Amanda" not in path.read_bytes()
        assert path.stat().st_mode & 0o777 == 0o600


def test_restoring_beside_something_is_refused(site: Site) -> None:
    made = site.create()
    place = site.elsewhere()
    place.restore(made)
    kept = rows(place.engine)
    with pytest.raises(TargetNotEmpty, match="restored beside nothing"):
        place.restore(made)
    assert rows(place.engine) == kept


def test_a_database_with_tables_is_refused_and_no_key_stays(site: Site) -> None:
    made = site.create()
    place = site.elsewhere()
    with place.engine.begin() as connection:
        connection.execute(text("CREATE TABLE something (id INTEGER)"))
    with pytest.raises(TargetNotEmpty, match="database is not empty"):
        place.restore(made)
    assert not any((place.home / name).exists() for name in ("pki", "vault", "secrets", MARK))


def test_a_restore_that_dies_leaves_nothing_that_serves_and_can_be_repeated(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = site.create()
    place = site.elsewhere()

    def dies(*_: object, **__: object) -> None:
        raise RuntimeError("the machine stops")

    monkeypatch.setattr("medportal.backup.restoring.renew_epoch", dies)
    with pytest.raises(RuntimeError, match="the machine stops"):
        place.restore(made)
    assert not (place.home / "vault").exists()
    database = Database(place.tenant)
    with pytest.raises(TenantBehind):
        database.require_current()
    monkeypatch.undo()
    # A killed process takes nothing away: keys and the mark are still there.
    (place.home / "vault").mkdir(parents=True)
    (place.home / "vault" / "stale.key").write_bytes(b"left behind")
    (place.home / MARK).write_bytes(b"")
    place.restore(made)
    assert place.contents() == site.contents
    assert not (place.home / "vault" / "stale.key").exists()


def test_data_needs_keys_at_least_as_new(site: Site) -> None:
    older = site.create()
    site.add_record()
    newer = site.create()
    place = site.elsewhere()
    with pytest.raises(PartsDiffer, match="older than the data file"):
        place.restore(older, pair=Pair(newer.data, older.keys))
    place.restore(older, pair=Pair(older.data, newer.keys))
    assert set(place.contents()) == set(site.contents) - {list(site.contents)[-1]}


def test_another_institutions_backup_is_refused(site: Site) -> None:
    made = site.create()
    place = site.elsewhere()
    place.tenant = place.settings.tenant("laboratory")
    with pytest.raises(PartsDiffer, match="not both backups of laboratory"):
        place.restore(made)


def test_a_backup_of_the_future_is_not_the_newest_of_today(site: Site) -> None:
    """Else a clock that was ahead once hides for days that nothing new arrives."""
    made = site.create()
    found = verify([made.data, made.keys], site.opener(), utcnow() - timedelta(days=3))
    assert len(found.whole) == len(found.wrong) == 2
    assert all("of the future" in words for words in found.wrong)


def test_a_file_that_the_disk_does_not_give_is_said_and_the_others_are_looked_at(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = site.create()
    check = checking.check

    def worn(path: Path, opener: Any) -> Any:
        if path == made.data:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return check(path, opener)

    monkeypatch.setattr(checking, "check", worn)
    found = verify([made.data, made.keys], site.opener(), utcnow())
    assert [each.label.part for each in found.whole] == ["keys"]
    assert found.wrong == (f"{made.data} cannot be read: Input/output error",)


def test_checking_tells_what_is_in_the_files(site: Site) -> None:
    made = site.create()
    data, keys = verify([made.data, made.keys], site.opener(), utcnow()).whole
    assert (data.label.part, keys.label.part) == ("data", "keys")
    assert data.counts == made.counts
    assert keys.counts.rows == 1
    assert keys.counts.files > 10
