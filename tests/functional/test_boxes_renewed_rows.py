"""Items of inbox and outbox survive new keys of their boxes; a thief's copies open nothing new."""

import shutil
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from installation import Installation
from sqlalchemy import delete, select, update

from medportal.audit.events import Event
from medportal.audit.models import AuditEvent
from medportal.core.clock import utcnow
from medportal.core.errors import ConfigurationError
from medportal.core.ids import new_id
from medportal.delivery import boxkeys
from medportal.delivery.inbox import Arrival, register
from medportal.delivery.models import BoxKey, Inbox, Outbox
from medportal.delivery.parcel import inbox_info, outbox_info
from medportal.delivery.states import DeliveryReason, Outcome
from medportal.keys import TenantKeys
from medportal.ops import boxes
from medportal.ops.boxes import StillSealed
from medportal.pki.profiles import Group
from medportal.records.intake import Filed, take_in
from medportal.results.held import prepare
from medportal.vault import boxes as files
from medportal.vault.boxes import retired
from medportal.vault.errors import KeyFileError, Tampered
from medportal.vault.passphrase import Cost

HOSPITAL = "hospital"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def as_before(
    portal: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Give back key files and rows as they were: other tests share the installation.

    Passphrases are stretched less than in service, since many files are opened here.
    """
    home = portal.settings.home(HOSPITAL)
    for name in ("vault", "secrets"):
        shutil.copytree(home / name, tmp_path / "before" / name)
    protect = files.protect
    cheap = Cost(1, 1, 8)
    monkeypatch.setattr(files, "protect", lambda *a: protect(*a[:3], cheap))
    keys = portal.keys(HOSPITAL)
    for box, group in (("inbox", Group.JOBS), ("outbox", Group.OUTBOX)):
        passphrase = keys.passphrase(group)
        private = files.load_private(home / "vault", box, passphrase)
        secret = files.protect(files.purpose_of(box), private.to_bytes(), passphrase, cheap)
        files.keyfiles.replace(home / "vault" / f"{box}.key", secret)
    yield
    for name in ("vault", "secrets"):
        shutil.rmtree(home / name)
        shutil.copytree(tmp_path / "before" / name, home / name)
    with portal.session(HOSPITAL) as session, session.begin():
        for model in (BoxKey, Inbox, Outbox):
            session.execute(delete(model))


def add(portal: Installation, keys: TenantKeys) -> tuple[str, str]:
    """Put an item into each box."""
    arrived, waiting = new_id(), new_id()
    partner = "laboratory"
    common = {"pseudonym": bytes(32), "key_id": "k", "digest": bytes(32), "reason": ""}
    incoming = keys.sealer("inbox").seal(arrived.encode(), inbox_info(HOSPITAL, partner, arrived))
    outgoing = keys.seal_outgoing(waiting.encode(), outbox_info(HOSPITAL, partner, waiting))
    with portal.session(HOSPITAL) as session, session.begin():
        session.add(
            Inbox(
                sender=partner,
                tid=arrived,
                sealed=incoming,
                outcome="accepted",
                sequence=int(arrived[:7], 16),
                received_at=NOW,
                awaiting="person",
                **common,
            )
        )
        session.add(
            Outbox(
                tid=waiting,
                partner=partner,
                record_id=new_id(),
                version=1,
                chain=new_id(),
                patient_id=new_id(),
                sealed=outgoing,
                state="delivered",
                created_at=NOW,
                next_at=NOW,
                settled_at=NOW,
                **common,
            )
        )
    return arrived, waiting


def opened(portal: Installation, keys: TenantKeys, ids: tuple[str, str]) -> list[bytes]:
    arrived, waiting = ids
    with portal.session(HOSPITAL) as session:
        one = session.scalars(select(Inbox.sealed).where(Inbox.tid == arrived)).one()
        other = session.scalars(select(Outbox.sealed).where(Outbox.tid == waiting)).one()
    assert one is not None
    return [
        keys.open_incoming(one, inbox_info(HOSPITAL, "laboratory", arrived)),
        keys.open_outgoing(other, outbox_info(HOSPITAL, "laboratory", waiting)),
    ]


def words(ids: tuple[str, str]) -> list[bytes]:
    return [name.encode() for name in ids]


def renew(portal: Installation, run: str = "", **options: bool) -> list[boxes.Renewed]:
    database = portal.registry.database(HOSPITAL)
    return boxes.renew_all(portal.keys(HOSPITAL), database, lambda *_: None, utcnow, run, **options)


def finish(portal: Installation, **options: bool) -> boxes.Finished:
    database = portal.registry.database(HOSPITAL)
    return boxes.finish(portal.keys(HOSPITAL), database, lambda *_: None, utcnow, **options)


def said(portal: Installation) -> list[dict[str, str | int]]:
    """What the audit log has of boxes, in order."""
    with portal.session(HOSPITAL) as session:
        query = (
            select(AuditEvent.body)
            .where(AuditEvent.action == "keys-rotated")
            .order_by(AuditEvent.at, AuditEvent.id)
        )
        return [dict(Event.from_bytes(body).details) for body in session.scalars(query)]


def vault_of(portal: Installation) -> Path:
    return portal.settings.home(HOSPITAL) / "vault"


def public_halves(portal: Installation) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in vault_of(portal).glob("*.pub")}


def put(portal: Installation, model: type[Inbox | Outbox], tid: str, sealed: bytes | None) -> None:
    with portal.session(HOSPITAL) as session, session.begin():
        session.execute(update(model).where(model.tid == tid).values(sealed=sealed))


def test_everything_opens_and_the_old_keys_open_nothing(
    portal: Installation, tmp_path: Path
) -> None:
    vault = vault_of(portal)
    # A process that serves all the while, and a thief of the keys of this moment.
    serving = portal.keys(HOSPITAL)
    ids = [add(portal, serving) for _ in range(3)]
    shutil.copytree(vault.parent, tmp_path / "stolen")
    thief = TenantKeys(portal.settings.tenant(HOSPITAL), tmp_path / "stolen")
    assert opened(portal, thief, ids[0]) == words(ids[0])
    made = renew(portal)
    assert [(one.box, one.is_new, one.shut, one.problem) for one in made] == [
        ("inbox", True, (), ""),
        ("outbox", True, (), ""),
    ]
    # Sealed by a receiver to which nobody has carried the new public half.
    late = add(portal, thief)
    ids.append(add(portal, serving))
    assert opened(portal, serving, late) == words(late)
    assert finish(portal).destroyed == {"inbox": 1, "outbox": 1}
    for pair in (*ids, late):
        for keys in (serving, portal.keys(HOSPITAL)):
            assert opened(portal, keys, pair) == words(pair)
        with pytest.raises(Tampered):
            opened(portal, thief, pair)
    assert not list(vault.glob("*-*.key"))


def test_what_was_carried_to_a_receiver_stays_that_of_now(portal: Installation) -> None:
    renew(portal, "rekey 2")
    carried = public_halves(portal)
    add(portal, portal.keys(HOSPITAL))
    # The same rekey goes on, and boxes are asked for alone: both seal anew, and no more.
    assert [one.is_new for one in renew(portal, "rekey 2") + renew(portal)] == [False] * 4
    assert public_halves(portal) == carried
    finish(portal)
    assert public_halves(portal) == carried
    # Another rekey answers another theft, and so does a word.
    assert [one.is_new for one in renew(portal, "rekey 3")] == [True] * 2
    assert not set(public_halves(portal).values()) & set(carried.values())
    assert [one.is_new for one in renew(portal, is_fresh=True)] == [True] * 2
    assert finish(portal).destroyed == {"inbox": 2, "outbox": 2}


def test_every_deed_is_in_the_log_before_it_is_done(
    portal: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def steps() -> list[tuple[object, object]]:
        return [(one["step"], one.get("box")) for one in said(portal)[earlier:]]

    earlier = len(said(portal))
    seen: list[list[tuple[object, object]]] = []
    destroy, put_file = files.destroy, files.keyfiles.put
    monkeypatch.setattr(files, "destroy", lambda paths: (seen.append(steps()), destroy(paths)))
    monkeypatch.setattr(files.keyfiles, "put", lambda *a: (seen.append(steps()), put_file(*a)))
    renew(portal)
    assert seen[0] == [("begun", "inbox")]
    assert seen[3] == [("begun", "inbox"), ("renewed", "inbox"), ("begun", "outbox")]
    finish(portal)
    assert seen[-1][-2:] == [("destroying", "inbox"), ("destroying", "outbox")]
    assert steps()[-1] == ("finished", None)
    before = steps()
    # Nothing is left to be done: nothing is said.
    assert finish(portal).destroyed == {"inbox": 0, "outbox": 0}
    assert steps() == before


@pytest.mark.parametrize("box", ["inbox", "outbox"])
def test_what_does_not_open_is_named_and_given_up_by_name_alone(
    portal: Installation, box: str
) -> None:
    ids = add(portal, portal.keys(HOSPITAL))
    model, tid = {"inbox": (Inbox, ids[0]), "outbox": (Outbox, ids[1])}[box]
    broken = b"MPB1" + bytes(1300)
    put(portal, model, tid, broken)
    shut = {one.box: one.shut for one in renew(portal)}
    item = boxes.Item(box, "laboratory", tid)
    assert shut == {"inbox": (), "outbox": (), box: (item,)}
    with pytest.raises(StillSealed, match=f"{box} laboratory/{tid}"):
        finish(portal)
    assert len(retired(vault_of(portal), "inbox")) == 1
    with portal.session(HOSPITAL) as session:
        assert session.scalars(select(model.sealed).where(model.tid == tid)).one() == broken
    done = finish(portal, give_up_shut=True)
    assert (done.given_up, done.destroyed) == ((item,), {"inbox": 1, "outbox": 1})
    given_up = {"deed": "boxes", "step": "given-up", "box": box, "partner": "laboratory"}
    assert given_up in said(portal)
    # The next time it stands in nobody's way.
    assert [one.shut for one in renew(portal)] == [(), ()]
    assert finish(portal).given_up == ()


def test_many_items_are_sealed_anew_in_batches(
    portal: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boxes, "BATCH", 2)
    ids = [add(portal, portal.keys(HOSPITAL)) for _ in range(5)]
    assert min(one.items for one in renew(portal)) >= 5
    finish(portal)
    assert [opened(portal, portal.keys(HOSPITAL), pair) for pair in ids] == [*map(words, ids)]


# What is wrong with one box.


def spoil_passphrase(home: Path, fault: str) -> None:
    path = home / "secrets" / "outbox.passphrase"
    if fault == "missing":
        path.unlink()
    elif fault == "open":
        path.chmod(0o644)
    elif fault == "short":
        path.write_text("short\n")
    else:
        path.write_text("another passphrase altogether\n")


@pytest.mark.parametrize("fault", ["missing", "open", "short", "wrong"])
def test_a_fault_of_one_box_is_told_and_the_other_is_renewed(
    portal: Installation, fault: str
) -> None:
    before = public_halves(portal)
    spoil_passphrase(portal.settings.home(HOSPITAL), fault)
    inbox, outbox = renew(portal)
    assert (inbox.is_new, inbox.problem) == (True, "")
    assert (outbox.is_new, outbox.items) == (False, 0)
    assert "outbox" in outbox.problem
    after = public_halves(portal)
    assert (after["inbox.pub"] != before["inbox.pub"], after["outbox.pub"]) == (
        True,
        before["outbox.pub"],
    )


@pytest.mark.parametrize("box", ["inbox", "outbox"])
def test_of_both_boxes_all_is_destroyed_or_nothing(portal: Installation, box: str) -> None:
    renew(portal)
    vault = vault_of(portal)
    (vault / f"{box}.pub").write_bytes(files.BoxPrivateKey.generate().public.raw)
    events = len(said(portal))
    with pytest.raises(KeyFileError, match=rf"{box}\.pub was replaced"):
        finish(portal)
    assert [len(retired(vault, name)) for name in ("inbox", "outbox")] == [1, 1]
    assert len(said(portal)) == events
    with portal.session(HOSPITAL) as session:
        assert boxkeys.destroyed(session, "inbox") == boxkeys.destroyed(session, "outbox") == set()


def test_a_finish_that_was_killed_is_finished_by_the_next(
    portal: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    renew(portal)
    destroy = files.destroy

    class Killed(BaseException):
        pass

    def killed(paths: list[Path]) -> None:
        destroy(paths)
        raise Killed

    monkeypatch.setattr(files, "destroy", killed)
    with pytest.raises(Killed):
        finish(portal)
    monkeypatch.setattr(files, "destroy", destroy)
    # One box is done and the other not, and the log says what was begun.
    assert [one["step"] for one in said(portal)][-2:] == ["destroying", "destroying"]
    assert finish(portal).destroyed == {"inbox": 0, "outbox": 1}
    assert not list(vault_of(portal).glob("*-*.key"))


# Keys that were destroyed, and who still has their public halves.


def test_whoever_has_the_public_half_of_a_destroyed_key_puts_nothing_into_a_box(
    portal: Installation, tmp_path: Path
) -> None:
    home = portal.settings.home(HOSPITAL)
    shutil.copytree(home, tmp_path / "elsewhere")
    elsewhere = TenantKeys(portal.settings.tenant(HOSPITAL), tmp_path / "elsewhere")
    renew(portal)
    for box in ("inbox", "outbox"):
        with portal.session(HOSPITAL) as session, session.begin():
            assert boxkeys.seal(session, elsewhere, box, b"words", b"info")
    finish(portal)
    for box in ("inbox", "outbox"):
        with portal.session(HOSPITAL) as session, session.begin():
            with pytest.raises(ConfigurationError, match=rf"{box}\.pub is that of a key which"):
                boxkeys.seal(session, elsewhere, box, b"words", b"info")
            shutil.copy(home / "vault" / f"{box}.pub", tmp_path / "elsewhere" / "vault")
            assert boxkeys.seal(session, elsewhere, box, b"words", b"info")


def test_nothing_is_counted_while_somebody_is_putting_something_in(
    portal: Installation, tmp_path: Path
) -> None:
    """Who sealed and has not committed yet is waited for: the item is there, or is refused."""
    home = portal.settings.home(HOSPITAL)
    shutil.copytree(home, tmp_path / "elsewhere")
    elsewhere = TenantKeys(portal.settings.tenant(HOSPITAL), tmp_path / "elsewhere")
    renew(portal)
    held, tid = threading.Event(), new_id()
    problems: list[Exception] = []

    def finishing() -> None:
        held.wait(30)
        try:
            finish(portal)
        except Exception as error:
            problems.append(error)

    other = threading.Thread(target=finishing)
    other.start()
    with portal.session(HOSPITAL) as session, session.begin():
        info = inbox_info(HOSPITAL, "laboratory", tid)
        sealed = boxkeys.seal(session, elsewhere, "inbox", b"words", info)
        held.set()
        # The other is under way, and cannot be done as long as this transaction lasts.
        other.join(0.5)
        assert other.is_alive()
        assert len(retired(home / "vault", "inbox")) == 1
        session.add(
            Inbox(
                sender="laboratory",
                tid=tid,
                sealed=sealed,
                outcome="accepted",
                sequence=int(tid[:7], 16),
                received_at=NOW,
                awaiting="person",
                pseudonym=bytes(32),
                key_id="k",
                digest=bytes(32),
                reason="",
            )
        )
    other.join(60)
    assert not other.is_alive()
    assert problems == []
    with portal.session(HOSPITAL) as session:
        kept = session.scalars(select(Inbox.sealed).where(Inbox.tid == tid)).one()
    assert kept is not None
    assert portal.keys(HOSPITAL).open_incoming(kept, info) == b"words"
    assert retired(home / "vault", "inbox") == []


def test_the_database_knows_which_keys_are_kept(portal: Installation) -> None:
    renew(portal)
    renew(portal, is_fresh=True)
    finish(portal)
    with portal.session(HOSPITAL) as session:
        for box in ("inbox", "outbox"):
            current = files.key_of(portal.keys(HOSPITAL).sealer(box).header)
            rows = session.scalars(select(BoxKey).where(BoxKey.box == box)).all()
            assert {row.key_id for row in rows if row.destroyed_at is None} == {current}
            assert len(rows) == 3
            assert boxkeys.is_kept(session, box, current)
            assert not boxkeys.is_kept(session, box, "0" * 16)


def test_a_destroyed_pair_that_an_old_backup_brought_back_is_renewed(
    portal: Installation, tmp_path: Path
) -> None:
    vault = vault_of(portal)
    renew(portal)
    shutil.copytree(vault, tmp_path / "backup")
    renew(portal, is_fresh=True)
    finish(portal)
    shutil.rmtree(vault)
    shutil.copytree(tmp_path / "backup", vault)
    with (
        portal.session(HOSPITAL) as session,
        session.begin(),
        pytest.raises(ConfigurationError, match="was destroyed"),
    ):
        boxkeys.seal(session, portal.keys(HOSPITAL), "inbox", b"words", b"info")
    # Without a word about another theft.
    assert [one.is_new for one in renew(portal)] == [True, True]
    with portal.session(HOSPITAL) as session, session.begin():
        assert boxkeys.seal(session, portal.keys(HOSPITAL), "inbox", b"words", b"info")


# Intake: what is wrong with the files of this machine is no fault of an item.


def registered(portal: Installation, keys: TenantKeys, awaiting: Outcome) -> str:
    """Put an arrival that is no parcel, but sealed well, before intake or a person."""
    tid = new_id()
    arrival = Arrival(
        sender="laboratory",
        tid=tid,
        digest=tid.encode(),
        pseudonym=bytes(32),
        key_id="k",
        outcome=awaiting,
        reason=DeliveryReason.REGISTERED,
        patient_id=portal.person("patient"),
        sealed=keys.sealer("inbox").seal(b"no parcel", inbox_info(HOSPITAL, "laboratory", tid)),
    )
    with portal.session(HOSPITAL) as session, session.begin():
        register(session, [arrival], utcnow())
    return tid


def intake(portal: Installation, keys: TenantKeys) -> Filed:
    with portal.session(HOSPITAL) as session, session.begin():
        return take_in(session, lambda _: None, keys, utcnow())  # type: ignore[arg-type,return-value]


def row_of(portal: Installation, tid: str) -> Inbox:
    with portal.session(HOSPITAL) as session:
        return session.scalars(select(Inbox).where(Inbox.tid == tid)).one()


@pytest.mark.parametrize("fault", ["mode", "elsewhere"])
def test_intake_stops_and_blames_no_item_for_key_files(
    portal: Installation, tmp_path: Path, fault: str
) -> None:
    home = portal.settings.home(HOSPITAL)
    shutil.copytree(home, tmp_path / "elsewhere")
    serving = TenantKeys(portal.settings.tenant(HOSPITAL), home)
    serving.require_intake()
    if fault == "elsewhere":
        # Another copy of the keys, to which nobody has brought the new private half.
        serving = TenantKeys(portal.settings.tenant(HOSPITAL), tmp_path / "elsewhere")
    renew(portal)
    tid = registered(portal, portal.keys(HOSPITAL), Outcome.REGISTERED)
    held = registered(portal, portal.keys(HOSPITAL), Outcome.HELD_FOR_REVIEW)
    if fault == "mode":
        (home / "vault" / "inbox.key").chmod(0o644)
    with pytest.raises(ConfigurationError, match="inbox"):
        intake(portal, serving)
    with (
        portal.session(HOSPITAL) as session,
        session.begin(),
        pytest.raises(ConfigurationError, match="inbox"),
    ):
        prepare(session, serving)
    assert row_of(portal, tid).awaiting == "intake"
    assert row_of(portal, held).told is None
    if fault == "mode":
        (home / "vault" / "inbox.key").chmod(0o600)
    else:
        shutil.copy(home / "vault" / "inbox.key", tmp_path / "elsewhere" / "vault")
    # It is no parcel, which is the item's own fault.
    assert intake(portal, serving) == Filed(0, 1)
    with portal.session(HOSPITAL) as session, session.begin():
        assert prepare(session, serving) == 2


def test_an_item_that_names_a_key_of_nobody_holds_up_no_other(portal: Installation) -> None:
    keys = portal.keys(HOSPITAL)
    tid = registered(portal, keys, Outcome.REGISTERED)
    put(portal, Inbox, tid, b"MPB1" + bytes(1300))
    assert intake(portal, keys) == Filed(0, 1)
    assert row_of(portal, tid).reason == DeliveryReason.CANNOT_OPEN
