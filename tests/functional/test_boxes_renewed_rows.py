"""Items of inbox and outbox survive new keys of their boxes; a thief's copies open nothing new."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from installation import Installation
from sqlalchemy import select, update

from medportal.audit.models import AuditEvent
from medportal.core.clock import utcnow
from medportal.core.ids import new_id
from medportal.delivery.models import Inbox, Outbox
from medportal.delivery.parcel import inbox_info, outbox_info
from medportal.keys import TenantKeys
from medportal.ops import boxes
from medportal.ops.boxes import StillSealed
from medportal.vault.errors import Tampered

HOSPITAL = "hospital"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def add(portal: Installation, keys: TenantKeys) -> tuple[str, str]:
    """Put an item into each box."""
    arrived, waiting = new_id(), new_id()
    partner = "laboratory"
    common = {"pseudonym": bytes(32), "key_id": "k", "digest": bytes(32), "reason": ""}
    incoming = keys.seal_incoming(arrived.encode(), inbox_info(HOSPITAL, partner, arrived))
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


def renew(portal: Installation) -> list[boxes.Renewed]:
    database = portal.registry.database(HOSPITAL)
    return boxes.renew_all(portal.keys(HOSPITAL), database, lambda *_: None, utcnow)


def finish(portal: Installation) -> dict[str, int]:
    return boxes.finish(portal.keys(HOSPITAL), portal.registry.database(HOSPITAL), utcnow)


def test_everything_opens_and_the_old_keys_open_nothing(
    portal: Installation, tmp_path: Path
) -> None:
    vault = portal.settings.home(HOSPITAL) / "vault"
    # A process that serves all the while, and a thief of the keys of this moment.
    serving = portal.keys(HOSPITAL)
    ids = [add(portal, serving) for _ in range(3)]
    shutil.copytree(vault.parent, tmp_path / "stolen")
    thief = TenantKeys(portal.settings.tenant(HOSPITAL), tmp_path / "stolen")
    assert opened(portal, thief, ids[0]) == words(ids[0])
    assert [(one.box, one.shut) for one in renew(portal)] == [("inbox", 0), ("outbox", 0)]
    # Sealed by a receiver to which nobody has carried the new public half.
    late = add(portal, thief)
    ids.append(add(portal, serving))
    with pytest.raises(StillSealed, match="1 items of the inbox and 1 items of the outbox"):
        finish(portal)
    assert opened(portal, serving, late) == words(late)
    renew(portal)
    assert set(finish(portal).values()) == {2}
    for pair in (*ids, late):
        for keys in (serving, portal.keys(HOSPITAL)):
            assert opened(portal, keys, pair) == words(pair)
        with pytest.raises(Tampered):
            opened(portal, thief, pair)
    assert not list(vault.glob("*-*.key"))
    with portal.session(HOSPITAL) as session:
        said = session.scalars(select(AuditEvent.action)).all()
    assert said.count("keys-rotated") == 3


def test_what_does_not_open_is_counted_and_left(portal: Installation) -> None:
    arrived, _waiting = add(portal, portal.keys(HOSPITAL))
    broken = b"MPB1" + bytes(1300)

    def put(sealed: bytes | None) -> None:
        with portal.session(HOSPITAL) as session, session.begin():
            session.execute(update(Inbox).where(Inbox.tid == arrived).values(sealed=sealed))

    put(broken)
    assert {one.box: one.shut for one in renew(portal)} == {"inbox": 1, "outbox": 0}
    with pytest.raises(StillSealed, match="1 items of the inbox are"):
        finish(portal)
    with portal.session(HOSPITAL) as session:
        assert session.scalars(select(Inbox.sealed).where(Inbox.tid == arrived)).one() == broken
    put(None)
    finish(portal)


def test_many_items_are_sealed_anew_in_batches(
    portal: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boxes, "BATCH", 2)
    ids = [add(portal, portal.keys(HOSPITAL)) for _ in range(5)]
    assert min(one.items for one in renew(portal)) >= 5
    finish(portal)
    assert [opened(portal, portal.keys(HOSPITAL), pair) for pair in ids] == [*map(words, ids)]
