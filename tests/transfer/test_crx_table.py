"""Every state and every message: what the tables name happens, everything else is an error."""

import pytest
from crx_simulator import ALL_MESSAGES, World, field_names, record_of, sample

from medportal.core.ids import new_id
from medportal.transfer import events as ev
from medportal.transfer import messages, ports, protocol, receiving, sending
from medportal.transfer.errors import Code

TID = "0" * 32


def sender_in(phase: str) -> World:
    """Return a world whose sender is in a phase."""
    world = World()
    ours, theirs = world.channels()
    if phase == "start":
        return world
    if phase == "closed":
        world.at_sender(ev.Lost())
        return world
    world.at_receiver(ev.Opened(theirs))
    world.at_sender(ev.Opened(ours))
    if phase == "await-challenge":
        return world
    world.deliver("R", world.to_receiver.pop(0))
    if phase == "preparing":
        world.hold.add("prepare")
    world.deliver("S", world.to_sender.pop(0))
    if phase in ("preparing", "await-ready"):
        return world
    world.run()
    if phase == "draining":
        world.hold.add("answer")
        world.at_sender(ev.Submit(record_of(world.lab, tid=TID)))
        world.at_sender(ev.Stop())
    return world


def receiver_in(phase: str) -> World:
    """Return a world whose receiver is in a phase."""
    world = World()
    ours, theirs = world.channels()
    if phase == "start":
        return world
    if phase == "closed":
        world.at_receiver(ev.Lost())
        return world
    world.at_receiver(ev.Opened(theirs))
    world.at_sender(ev.Opened(ours))
    if phase == "await-hello":
        return world
    if phase == "welcoming":
        world.hold.add("greet")
    world.deliver("R", world.to_receiver.pop(0))
    if phase in ("welcoming", "await-proof"):
        return world
    world.run()
    if phase == "draining":
        world.storage.register()
        world.hold.add("commit")
        world.submit(record_of(world.lab, tid=TID))
        world.at_receiver(ev.Stop())
    return world


LOCAL = {
    "tick": ev.Tick(),
    "stop": ev.Stop(),
    "lost": ev.Lost(),
    "abort": ev.Abort(Code.INTERNAL),
    "prepared": ev.Prepared(ports.OwnHead()),
    "gathered": ev.Gathered(),
    "welcomed": ev.Welcomed(ports.Welcome(messages.Mark("a" * 32, 0))),
    "declined": ev.Declined(5),
    "looked": ev.Looked(()),
    "registered": ev.Registered(),
    "settled": ev.Settled(TID, b"x"),
    "unsettled": ev.Unsettled(TID, 5),
    "refused": ev.Refused(TID, Code.SEALED),
}


@pytest.mark.parametrize("phase", list(sending.Phase))
def test_makers_reach_each_phase_of_the_sender(phase):
    assert sender_in(phase).sender.phase == phase


@pytest.mark.parametrize("phase", list(receiving.Phase))
def test_makers_reach_each_phase_of_the_receiver(phase):
    assert receiver_in(phase).receiver.phase == phase


def _judge(table, phase, kind, after, closed):
    """Check the outcome of one cell of a table for a message of the peer."""
    if phase == "closed":
        assert closed == []
    elif (phase, kind) not in table:
        assert after.phase == "closed"
        assert closed[-1].code == Code.UNEXPECTED and not closed[-1].by_peer


@pytest.mark.parametrize("kind", ALL_MESSAGES)
@pytest.mark.parametrize("phase", list(sending.Phase))
def test_every_message_in_every_phase_of_the_sender(phase, kind):
    world = sender_in(phase)
    world.done.clear()
    world.feed("S", sample(kind, tid=new_id()))
    live = phase in ("open", "draining")
    table = {} if live and "tid" in field_names(kind) else protocol.SENDER
    _judge(table, phase, kind.TYPE, world.sender, world.of(ev.Close))


@pytest.mark.parametrize("kind", ALL_MESSAGES)
@pytest.mark.parametrize("phase", list(receiving.Phase))
def test_every_message_in_every_phase_of_the_receiver(phase, kind):
    world = receiver_in(phase)
    world.seen.clear()
    world.feed("R", sample(kind, tid=new_id()))
    table = dict(protocol.RECEIVER)
    if phase in ("open", "draining"):
        table |= {(phase, name): None for name in ("QUERY", "DELIVER")}
    _judge(table, phase, kind.TYPE, world.receiver, world.of(ev.Close, "seen"))


@pytest.mark.parametrize("kind", LOCAL)
@pytest.mark.parametrize("phase", list(sending.Phase))
def test_every_local_event_in_every_phase_of_the_sender(phase, kind):
    world = sender_in(phase)
    before = world.sender
    world.at_sender(LOCAL[kind])
    if (phase, kind) not in protocol.SENDER:
        assert world.sender == before


@pytest.mark.parametrize("kind", LOCAL)
@pytest.mark.parametrize("phase", list(receiving.Phase))
def test_every_local_event_in_every_phase_of_the_receiver(phase, kind):
    world = receiver_in(phase)
    before = world.receiver
    world.at_receiver(LOCAL[kind])
    record_row = phase == "draining" and kind in ("settled", "unsettled", "refused")
    if (phase, kind) not in protocol.RECEIVER and not record_row:
        assert world.receiver == before


@pytest.mark.parametrize("phase", sorted(set(sending.Phase) - {"open"}))
def test_a_record_submitted_while_none_pass_is_given_back(phase):
    world = sender_in(phase)
    world.done.clear()
    record = record_of(world.lab)
    world.at_sender(ev.Submit(record))
    assert world.done == [ev.Release(record)]


# Stages of one record.


def sender_at(stage: str) -> World:
    """Return a world whose sender has a record at a stage."""
    world = World().connect()
    world.storage.register()
    if stage != "none":
        world.hold.add({"queried": "answer", "offered": "gather"}.get(stage, "commit"))
        world.submit(record_of(world.lab, tid=TID))
    return world


def receiver_at(stage: str) -> World:
    """Return a world whose receiver has a record at a stage."""
    world = World().connect()
    world.storage.register()
    if stage == "asked":
        world.hold.add("answer")
    if stage == "delivered":
        world.hold.add("commit")
    if stage == "offered":
        world.tamper = lambda side, body: [] if side == "S" else [body]
    if stage != "none":
        world.submit(record_of(world.lab, tid=TID))
    return world


@pytest.mark.parametrize("kind", ["OFFER", "UNKNOWN", "BUSY", "RECEIPT", "STALE_OFFER"])
@pytest.mark.parametrize("stage", list(sending.Stage))
def test_every_answer_at_every_stage_of_the_sender(stage, kind):
    world = sender_at(stage)
    if stage != "none":
        assert world.sender.records[TID].stage == stage
    world.done.clear()
    world.feed("S", sample(messages.CLASSES[kind], tid=TID, about=TID))
    if (stage, kind) not in protocol.SENDER_RECORD:
        assert world.closed() == (Code.UNEXPECTED, False)


@pytest.mark.parametrize("kind", ["QUERY", "DELIVER"])
@pytest.mark.parametrize("stage", list(receiving.Stage))
def test_every_request_at_every_stage_of_the_receiver(stage, kind):
    world = receiver_at(stage)
    if stage != "none":
        assert world.receiver.records[TID].stage == stage
    world.seen.clear()
    world.feed("R", sample(messages.CLASSES[kind], tid=TID))
    if (stage, kind) not in protocol.RECEIVER_RECORD:
        assert world.closed("seen") == (Code.UNEXPECTED, False)
    elif kind == "QUERY" and stage != "none":
        assert world.closed("seen") == (Code.TID_IN_USE, False)


@pytest.mark.parametrize("kind", ["settled", "unsettled", "refused"])
@pytest.mark.parametrize("stage", list(receiving.Stage))
def test_every_result_at_every_stage_of_the_receiver(stage, kind):
    world = receiver_at(stage)
    before = world.receiver
    world.at_receiver(LOCAL[kind])
    if (stage, kind) not in protocol.RECEIVER_RECORD:
        assert world.receiver == before
    else:
        assert TID not in world.receiver.records


def test_every_row_names_a_message_or_event_that_exists():
    kinds = {*messages.CLASSES, "opened", "submit", *LOCAL}
    tables = (
        protocol.SENDER,
        protocol.SENDER_RECORD,
        protocol.RECEIVER,
        protocol.RECEIVER_RECORD,
    )
    assert {kind for table in tables for _, kind in table} <= kinds
