"""What operators do to the log, through the command line: restores, partners, pruning, heads."""

import json
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from installation import TENANTS, Installation, install
from sqlalchemy import delete, select, update

from medportal.audit.append import append
from medportal.audit.events import Action, Event
from medportal.audit.models import AuditEvent, AuditHead, AuditNode, AuditStatement
from medportal.cli import main
from medportal.cli.context import Context
from medportal.core.clock import utcnow
from medportal.delivery.models import PartnerHeadConflict, StorageEpoch
from medportal.delivery.receipts import held_head, storage_epoch
from medportal.jobs import Jobs
from medportal.ops.audit import verify_tenant_log
from medportal.ops.pinned import PinMissing, pinned_head
from medportal.transfer.stores import SqlReceiverStore, SqlSenderStore


@pytest.fixture
def place(tmp_path: Path, key_material: Path, new_database: Any) -> Any:
    """Give an installation of its own on SQLite, whose files can be copied."""
    urls = {tenant: new_database("sqlite") for tenant in TENANTS}
    made = install(tmp_path / "p", key_material, urls)
    made.raw["urls"] = json.dumps(urls)
    yield made
    made.registry.dispose()
    made.app.registry["tenants"].dispose()


def run(place: Installation, *words: str) -> Any:
    """Run the command line on this installation; return what it printed as rows."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Context, "settings", lambda self: place.settings)
        return CliRunner().invoke(main, ["--json", *words], catch_exceptions=False)


def rows(done: Any) -> list[dict[str, Any]]:
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def grow(place: Installation, tenant: str, days: int = 0) -> None:
    """Let something happen, as long ago as said, and have it signed."""
    with place.session(tenant) as session, session.begin():
        for _ in range(2):
            event = Event.create(Action.SIGN_IN, now=utcnow() - timedelta(days=days))
            append(session, event)
    jobs = place.jobs(tenant)
    while jobs._sequence(utcnow()):
        pass


def file_of(place: Installation, tenant: str) -> Path:
    return Path(json.loads(place.raw["urls"])[tenant].removeprefix("sqlite:///"))


def back_up(place: Installation, tenant: str, to: Path) -> None:
    engine = place.registry.database(tenant).engine
    with engine.connect() as connection:
        connection.exec_driver_sql("ROLLBACK")
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(file_of(place, tenant), to)


def restore(place: Installation, tenant: str, backup: Path) -> None:
    place.registry.database(tenant).dispose()
    path = file_of(place, tenant)
    for beside in path.parent.glob(f"{path.name}-*"):
        beside.unlink()
    # Another file: connections that a command line left open keep the old one.
    path.unlink()
    shutil.copy(backup, path)


def exchange(place: Installation, watcher: str, watched: str) -> bool:
    store = SqlReceiverStore(place.registry.database(watcher).engine, place.keys(watcher))
    held = store.welcome(watched, None, None, utcnow()).held
    shows = SqlSenderStore(place.registry.database(watched).engine, place.keys(watched), "one")
    own = shows.prepare(watcher, None, held, utcnow(), utcnow())
    return store.peer_head(watched, own.head, own.consistency, held, utcnow())


def verified(place: Installation, tenant: str, *heads: Path) -> Any:
    known = place.settings.tenant(tenant)
    return verify_tenant_log(place.settings, known, place.registry.database(tenant), heads)


def test_a_restore_from_the_first_alarm_to_the_partner_that_believes_it(
    place: Installation, tmp_path: Path
) -> None:
    grow(place, "hospital")
    back_up(place, "hospital", tmp_path / "backup")
    grow(place, "hospital")
    assert exchange(place, "laboratory", "hospital")
    restore(place, "hospital", tmp_path / "backup")
    # Nothing is signed over the gap: jobs says so at each try, and goes on with the rest.
    with place.session("hospital") as session, session.begin():
        epoch = storage_epoch(session, utcnow())
        append(session, Event.create(Action.SIGN_IN, now=utcnow()))
    jobs: Jobs = place.jobs("hospital")
    jobs.turn(utcnow())
    assert [step.name for step in jobs._steps if step.failures] == ["audit"]
    statement = tmp_path / "restore.statement"
    (row,) = rows(run(place, "audit", "accept-restore", "hospital", "--output", str(statement)))
    assert (row["kept"], row["lost"]) == (2, 2)
    with place.session("hospital") as session:
        assert session.scalars(select(StorageEpoch.epoch)).one() != epoch
    again: Jobs = place.jobs("hospital")
    grow(place, "hospital")
    again.turn(utcnow())
    assert [step.name for step in again._steps if step.failures] == []
    # The partner is alarmed, is given the statement by people, and believes it.
    assert not exchange(place, "laboratory", "hospital")
    head = tmp_path / "held.head"
    (row,) = rows(
        run(place, "audit", "head", "laboratory", "--partner", "hospital", "--output", str(head))
    )
    assert row["of"] == "hospital"
    done = run(place, "audit", "verify", "hospital", "--head", str(head))
    (row,) = map(json.loads, done.stdout.splitlines())
    assert done.exit_code == 3
    assert (row["finding"], row["heads_explained_by_a_restore"]) == (
        "whole-except-for-a-restore",
        1,
    )
    (row,) = rows(run(place, "audit", "accept-partner", "laboratory", str(statement)))
    assert row["partner"] == "hospital"
    assert exchange(place, "laboratory", "hospital")
    grow(place, "hospital")
    assert exchange(place, "laboratory", "hospital")
    with place.session("laboratory") as session:
        (kept,) = session.scalars(select(PartnerHeadConflict)).all()
        assert kept.settled_at is not None
        assert session.scalar(select(AuditEvent.id).where(AuditEvent.action == "restored"))
    # A second time the statement accounts for nothing.
    done = run(place, "audit", "accept-partner", "laboratory", str(statement))
    assert done.exit_code == 2 and "does not account" in done.stderr


def test_a_restore_that_took_the_pin_back_too_is_declared_with_the_partners_head(
    place: Installation, tmp_path: Path
) -> None:
    pin = place.settings.home("hospital") / "audit" / "last.head"
    grow(place, "hospital")
    back_up(place, "hospital", tmp_path / "backup")
    shutil.copy(pin, tmp_path / "pin")
    grow(place, "hospital")
    assert exchange(place, "laboratory", "hospital")
    held = tmp_path / "held.head"
    rows(run(place, "audit", "head", "laboratory", "--partner", "hospital", "--output", str(held)))
    restore(place, "hospital", tmp_path / "backup")
    shutil.copy(tmp_path / "pin", pin)
    grow(place, "hospital")
    assert not exchange(place, "laboratory", "hospital")
    done = run(place, "audit", "verify", "hospital", "--head", str(held))
    assert done.exit_code == 1 and json.loads(done.stdout)["finding"] == "forked"
    output = ["--output", str(tmp_path / "s")]
    command = ["audit", "accept-restore", "hospital", "--head", str(held), *output]
    done = run(place, *command)
    assert done.exit_code == 2 and "--kept" in done.stderr
    (row,) = rows(run(place, *command, "--kept", "2"))
    assert (row["kept"], row["lost"]) == (2, 2)
    assert verified(place, "hospital", held).report.explained == 1


def kept_by(place: Installation, watcher: str, watched: str) -> int:
    with place.session(watcher) as session:
        held = held_head(session, watched)
    assert held is not None
    return held.size


@pytest.mark.parametrize("seen_before", [True, False], ids=["seen-before", "first-seen-after"])
def test_after_a_restore_the_kept_part_still_has_to_be_the_same(
    place: Installation, tmp_path: Path, seen_before: bool
) -> None:
    """The partner believes that events were lost, not that those before were others."""
    grow(place, "hospital")
    if seen_before:
        assert exchange(place, "laboratory", "hospital")
    grow(place, "hospital")
    back_up(place, "hospital", tmp_path / "backup")
    grow(place, "hospital")
    assert exchange(place, "laboratory", "hospital")
    restore(place, "hospital", tmp_path / "backup")
    statement = tmp_path / "s"
    rows(run(place, "audit", "accept-restore", "hospital", "--output", str(statement)))
    back_up(place, "hospital", tmp_path / "declared")
    # Besides, the institution writes anew what it says it kept, and signs all of it.
    with place.session("hospital") as session, session.begin():
        for table in (AuditNode, AuditHead, AuditStatement):
            session.execute(delete(table))
        first = select(AuditEvent.id).order_by(AuditEvent.sequence).limit(1).scalar_subquery()
        session.execute(delete(AuditEvent).where(AuditEvent.id == first))
        session.execute(update(AuditEvent).values(sequence=None))
    pin = place.settings.home("hospital") / "audit" / "last.head"
    pin.rename(tmp_path / "pin")
    grow(place, "hospital")
    rows(run(place, "audit", "accept-partner", "laboratory", str(statement)))
    assert kept_by(place, "laboratory", "hospital") == (2 if seen_before else 4)
    assert not exchange(place, "laboratory", "hospital")
    # The log that was really restored is taken.
    restore(place, "hospital", tmp_path / "declared")
    (tmp_path / "pin").rename(pin)
    grow(place, "hospital")
    assert exchange(place, "laboratory", "hospital")
    assert kept_by(place, "laboratory", "hospital") == 7


def test_a_log_whose_pin_is_gone_is_not_signed_until_people_say_so(
    place: Installation, tmp_path: Path
) -> None:
    pin = place.settings.home("hospital") / "audit" / "last.head"
    grow(place, "hospital")
    assert exchange(place, "laboratory", "hospital")
    held = tmp_path / "held.head"
    rows(run(place, "audit", "head", "laboratory", "--partner", "hospital", "--output", str(held)))
    done = run(place, "audit", "pin", "hospital", "--yes")
    assert done.exit_code == 2 and "remembered already" in done.stderr
    pin.unlink()
    with place.session("hospital") as session, session.begin():
        append(session, Event.create(Action.SIGN_IN, now=utcnow()))
    jobs: Jobs = place.jobs("hospital")
    jobs.turn(utcnow())
    assert [step.name for step in jobs._steps if step.failures] == ["audit"]
    with pytest.raises(PinMissing, match="medportal audit pin"):
        jobs._sequence(utcnow())
    assert not pin.exists()
    before = f"{utcnow() - timedelta(days=400):%Y-%m-%d}"
    done = run(place, "audit", "prune", "hospital", "--before", before, "--yes")
    assert done.exit_code == 2 and "medportal audit pin" in done.stderr
    (row,) = rows(run(place, "audit", "pin", "hospital", "--head", str(held), "--yes"))
    assert row["events"] == 4
    again: Jobs = place.jobs("hospital")
    grow(place, "hospital")
    again.turn(utcnow())
    assert [step.name for step in again._steps if step.failures] == []
    assert exchange(place, "laboratory", "hospital")


def test_a_log_that_was_cut_is_not_pinned_against_a_head_that_somebody_holds(
    place: Installation, tmp_path: Path
) -> None:
    pin = place.settings.home("hospital") / "audit" / "last.head"
    grow(place, "hospital")
    back_up(place, "hospital", tmp_path / "backup")
    grow(place, "hospital")
    held = tmp_path / "held.head"
    rows(run(place, "audit", "head", "hospital", "--output", str(held)))
    restore(place, "hospital", tmp_path / "backup")
    pin.unlink()
    done = run(place, "audit", "pin", "hospital", "--head", str(held), "--yes")
    assert done.exit_code == 2 and "not whole: truncated" in done.stderr
    assert not pin.exists()


def test_the_first_head_is_remembered_before_it_is_signed(place: Installation) -> None:
    """A process that dies between the commit and the file leaves a log that goes on."""
    pin = place.settings.home("hospital") / "audit" / "last.head"
    assert not pin.exists()
    with place.session("hospital") as session, session.begin():
        append(session, Event.create(Action.SIGN_IN, now=utcnow()))
    with pytest.MonkeyPatch.context() as patched:
        jobs: Jobs = place.jobs("hospital")
        written = jobs._pinned.write
        patched.setattr(
            jobs._pinned, "write", lambda signed: None if signed.head.size else written(signed)
        )
        assert jobs._sequence(utcnow())
    read = pinned_head(place.settings, place.settings.tenant("hospital")).read()
    assert read is not None and read.size == 0
    grow(place, "hospital")
    assert verified(place, "hospital").is_whole


def test_where_nothing_was_lost_nothing_is_declared(place: Installation, tmp_path: Path) -> None:
    output = ["--output", str(tmp_path / "s")]
    done = run(place, "audit", "accept-restore", "hospital", *output)
    assert done.exit_code == 2 and "no head is remembered" in done.stderr
    grow(place, "hospital")
    done = run(place, "audit", "accept-restore", "hospital", *output)
    assert done.exit_code == 2 and "nothing was lost" in done.stderr
    assert not (tmp_path / "s").exists()


def test_a_log_that_is_not_whole_is_neither_restored_nor_pruned(
    place: Installation, tmp_path: Path
) -> None:
    for days in (500, 450, 0):
        grow(place, "hospital", days)
    with place.session("hospital") as session, session.begin():
        session.execute(update(AuditEvent).where(AuditEvent.sequence == 1).values(outcome="denied"))
    before = f"{utcnow() - timedelta(days=400):%Y-%m-%d}"
    done = run(place, "audit", "prune", "hospital", "--before", before, "--yes")
    assert done.exit_code == 2 and "not whole: mislabelled at event 1" in done.stderr


def test_pruning_by_day(place: Installation) -> None:
    for days in (500, 450, 0):
        grow(place, "hospital", days)
    before = f"{utcnow() - timedelta(days=400):%Y-%m-%d}"
    (row,) = rows(run(place, "audit", "prune", "hospital", "--before", before, "--yes"))
    assert row["forgotten"] == 4
    grow(place, "hospital")
    report = verified(place, "hospital").report
    assert report.ok and report.forgotten == 4
    with place.session("hospital") as session:
        oldest = session.scalars(select(AuditEvent.at).order_by(AuditEvent.at)).first()
    assert oldest is not None and oldest > utcnow() - timedelta(days=400)
    done = run(place, "audit", "prune", "hospital", "--before", before, "--yes")
    assert done.exit_code == 2 and "forgotten already" in done.stderr


def test_a_year_is_kept_whoever_asks(place: Installation) -> None:
    grow(place, "hospital", 500)
    for day in (f"{utcnow():%Y-%m-%d}", f"{utcnow() - timedelta(days=364):%Y-%m-%d}"):
        done = run(place, "audit", "prune", "hospital", "--before", day, "--yes")
        assert done.exit_code == 2 and "last 365 days" in done.stderr
    assert run(place, "audit", "prune", "hospital", "--before", day).exit_code == 130


def test_heads_are_written_and_those_that_are_not_there_named(
    place: Installation, tmp_path: Path
) -> None:
    output = ["--output", str(tmp_path / "h")]
    assert run(place, "audit", "head", "hospital", *output).exit_code == 2
    partner = ["--partner", "hospital"]
    assert run(place, "audit", "head", "laboratory", *partner, *output).exit_code == 2
    grow(place, "hospital")
    (row,) = rows(run(place, "audit", "head", "hospital", *output))
    assert (row["of"], row["events"]) == ("hospital", 2)
    assert pinned_head(place.settings, place.settings.tenant("hospital")).read() is not None


def test_a_statement_that_somebody_else_signed_is_not_believed(
    place: Installation, tmp_path: Path
) -> None:
    grow(place, "hospital")
    back_up(place, "hospital", tmp_path / "backup")
    grow(place, "hospital")
    assert exchange(place, "laboratory", "hospital")
    restore(place, "hospital", tmp_path / "backup")
    statement = tmp_path / "s"
    rows(run(place, "audit", "accept-restore", "hospital", "--output", str(statement)))
    data = bytearray(statement.read_bytes())
    data[-5] ^= 1
    (tmp_path / "forged").write_bytes(bytes(data))
    (tmp_path / "noise").write_bytes(b"noise")
    for name in ("forged", "noise"):
        done = run(place, "audit", "accept-partner", "laboratory", str(tmp_path / name))
        assert done.exit_code == 2
    with place.session("laboratory") as session:
        assert held_head(session, "hospital") is not None


def test_the_sql_of_a_role_can_be_read_before_it_is_run(place: Installation) -> None:
    words = ("tenant", "grants", "hospital", "--process", "portal", "--role", "p")
    statements = [row["statement"] for row in rows(run(place, *words, "--print"))]
    columns = "id, at, action, outcome, actor, patient, object, body"
    assert f'GRANT SELECT, INSERT ({columns}) ON "audit_event" TO "p"' in statements
    done = run(place, *words)
    assert done.exit_code == 2 and "no roles" in done.stderr
