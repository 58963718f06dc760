"""A record's way over the simulated wire, and what each answer of the receiver leads to."""

import pytest
from crx_simulator import NUMBER, World, altered, record_of, sample, type_of

from medportal.core.ids import new_id
from medportal.delivery.states import Outcome
from medportal.transfer import events as ev
from medportal.transfer.errors import Code
from medportal.transfer.messages import Deliver, ErrorMessage, Mark, Ping, Query, decode
from medportal.transfer.ports import OwnHead


def test_a_record_of_a_known_patient_is_registered_once_and_receipted():
    world = World().connect()
    world.storage.register()
    record = record_of(world.lab)
    world.submit(record)
    assert [kind for _, kind in world.log] == [
        *("HELLO", "CHALLENGE", "PROOF", "READY"),
        *("QUERY", "OFFER", "DELIVER", "RECEIPT"),
    ]
    (got,) = world.of(ev.HaveReceipt)
    assert (got.record, got.receipt.outcome, got.receipt.sequence, got.conflict) == (
        record,
        Outcome.REGISTERED,
        1,
        False,
    )
    assert list(world.storage.inbox) == [record.tid]
    assert world.sender.records == world.receiver.records == {}


def test_both_sides_derive_the_same_session_and_the_receiver_proves_itself_first():
    world = World().connect()
    assert world.sender.session == world.receiver.session != b""
    assert [who for who, _ in world.log] == ["S", "R", "S", "R"]


def test_a_hospital_may_send_and_a_laboratory_receive():
    world = World(sender="hospital", receiver="laboratory").connect()
    world.storage.register()
    world.submit(record_of(world.lab))
    assert world.of(ev.HaveReceipt)[0].receipt.outcome is Outcome.REGISTERED


def test_an_unknown_patient_and_one_whose_rules_say_no_get_the_same_answer():
    world = World().connect()
    record = record_of(world.lab)
    world.submit(record)
    assert world.log[-1] == ("R", "UNKNOWN")
    assert world.of(ev.Unheard) == [ev.Unheard(record)]
    assert world.receiver.allowance.misses.tokens == world.limits.misses_burst - 1


def test_an_incomplete_index_answers_busy_and_never_unknown():
    world = World().connect()
    world.storage.ready = False
    record = record_of(world.lab)
    world.submit(record)
    assert world.of(ev.Again) == [ev.Again(record, 7, "busy")]


def test_a_second_query_gets_the_receipt_already_issued_and_nothing_is_registered_twice():
    world = World().connect()
    world.storage.register()
    record = record_of(world.lab)
    world.submit(record)
    world.reconnect()
    world.connect().submit(record)
    first, second = world.of(ev.HaveReceipt)
    assert first.receipt == second.receipt
    assert len(world.storage.inbox) == 1
    assert world.log[-2:] == [("S", "QUERY"), ("R", "RECEIPT")]


def test_another_content_under_the_same_tid_is_a_conflict_not_a_duplicate():
    world = World().connect()
    world.storage.register()
    record = record_of(world.lab)
    world.submit(record)
    world.submit(record_of(world.lab, b"another", tid=record.tid))
    assert [got.conflict for got in world.of(ev.HaveReceipt)] == [False, True]


def test_a_conflict_that_only_the_commit_sees_is_a_rejection_of_which_nothing_is_stored():
    world = World().connect()
    world.storage.register()
    record = record_of(world.lab)
    world.submit(record)
    del world.storage.receipts[record.tid]
    world.submit(record_of(world.lab, b"another", tid=record.tid))
    last = world.of(ev.HaveReceipt)[-1]
    assert (last.receipt.outcome, last.receipt.sequence, last.conflict) == (
        Outcome.REJECTED,
        0,
        False,
    )
    assert world.storage.inbox[record.tid].digest == record.digest


def test_another_name_is_held_for_a_person():
    world = World().connect()
    world.storage.register()
    world.submit(record_of(world.lab, name="Rui Sousa"))
    assert world.of(ev.HaveReceipt)[0].receipt.outcome is Outcome.HELD_FOR_REVIEW


def test_storage_that_is_full_keeps_nothing_and_the_record_waits():
    world = World().connect()
    world.storage.register()
    world.storage.full = True
    record = record_of(world.lab)
    world.submit(record)
    assert world.of(ev.Again) == [ev.Again(record, 9, "busy")]
    world.storage.full = False
    world.submit(record)
    assert len(world.storage.inbox) == 1


# Offers.


def test_an_offer_that_ran_out_is_asked_for_again_at_once():
    world = World().connect()
    world.storage.register()
    world.tamper = lambda side, body: [] if type_of(body) == "DELIVER" else [body]
    record = record_of(world.lab)
    world.submit(record)
    world.tamper = lambda side, body: [body]
    offer = world.receiver.records[record.tid].offer
    world.tick(world.limits.offer_ttl / 3)
    world.clock += world.limits.offer_ttl
    # The DELIVER that was lost on the way arrives after its time, before the clock has ticked.
    world.feed("R", sample(Deliver, tid=record.tid, offer=offer))
    assert world.receiver.records == {}
    world.run()
    assert world.of(ev.HaveReceipt)[0].record == record


def test_offers_are_forgotten_with_their_keys_when_they_run_out():
    world = World(ev.Limits(answer=1_000, idle=1_000)).connect()
    world.storage.register()
    world.tamper = lambda side, body: [] if type_of(body) == "DELIVER" else [body]
    world.submit(record_of(world.lab))
    world.hold.add("answer")
    world.submit(record_of(world.lab))
    assert len(world.receiver.records) == 2
    world.tick(world.limits.offer_ttl)
    assert [item.stage for item in world.receiver.records.values()] == ["asked"]


def test_an_offer_that_goes_stale_again_and_again_lets_the_record_wait():
    world = World().connect()
    world.storage.register()

    def age(side, body):
        if type_of(body) == "DELIVER":
            return [altered(body, offer="f" * 32)]
        return [body]

    world.tamper = age
    record = record_of(world.lab)
    world.submit(record)
    assert world.of(ev.Again) == [ev.Again(record, 1_000, "stale-offer")]
    assert [kind for _, kind in world.log].count("QUERY") == 3


def test_offers_that_come_together_share_a_signature():
    world = World().connect()
    world.storage.register()
    world.hold.add("answer")
    records = [record_of(world.lab, f"{n}".encode()) for n in range(40)]
    world.submit(*records)
    world.hold.clear()
    answers = [(r.tid, next(iter(world.storage.patients.values()))) for r in records]
    world.at_receiver(ev.Looked(tuple(answers)))
    offers = [decode(body) for body in world.to_sender]
    assert sorted({offer.size for offer in offers}) == [8, 32]
    assert len({offer.signature for offer in offers}) == 2
    world.run()
    assert len(world.storage.inbox) == 40


# Limits.


def test_the_window_is_kept_and_what_exceeds_it_is_given_back():
    world = World(ev.Limits(window=2)).connect()
    world.hold.add("answer")
    records = [record_of(world.lab) for _ in range(3)]
    world.submit(*records)
    assert world.of(ev.Release) == [ev.Release(records[2])]
    assert world.sender.room == 0


def test_a_sender_that_ignores_the_window_loses_the_connection():
    world = World(ev.Limits(window=2)).connect()
    world.hold.add("answer")
    for _ in range(3):
        world.feed("R", sample(Query, tid=new_id()))
    assert world.closed("seen") == (Code.WINDOW, False)


def test_a_record_under_way_is_not_submitted_twice():
    world = World().connect()
    world.hold.add("answer")
    record = record_of(world.lab)
    world.submit(record, record)
    assert world.of(ev.Release) == [ev.Release(record)]


def test_queries_beyond_the_limit_are_answered_busy_before_anything_is_looked_up():
    world = World(ev.Limits(queries_rate=0.5, queries_burst=1)).connect()
    world.submit(record_of(world.lab))
    record = record_of(world.lab)
    world.submit(record)
    assert world.of(ev.Again) == [ev.Again(record, 2_000, "busy")]
    assert len(world.of(ev.Ask, "seen")) == 1
    world.clock += 2
    world.submit(record)
    assert len(world.of(ev.Ask, "seen")) == 2


def test_trying_out_numbers_runs_into_the_limit_on_misses():
    world = World(ev.Limits(misses_rate=1, misses_burst=2)).connect()
    world.storage.register("99999999")
    for number in ("11111111", "22222222"):
        world.submit(record_of(world.lab, number=number))
    world.submit(record_of(world.lab, number="99999999"))
    assert [kind for _, kind in world.log[-6:]] == ["QUERY", "UNKNOWN"] * 2 + ["QUERY", "BUSY"]


def test_a_burst_of_misses_costs_as_much_as_misses_one_by_one():
    """What is under way counts: a full window asked at once must not slip through."""
    world = World(ev.Limits(misses_rate=1, misses_burst=2)).connect()
    world.hold.add("answer")
    world.submit(*(record_of(world.lab, number=f"1111111{n}") for n in range(5)))
    assert len(world.of(ev.Ask, "seen")) == 2
    assert len(world.of(ev.Again)) == 3


def test_a_known_patient_asked_about_again_and_again_runs_into_a_limit():
    """Each such question is an event in the patient's audit; none leads to a record."""
    world = World(ev.Limits(unused_rate=0.5, unused_burst=2)).connect()
    world.storage.register()
    world.tamper = lambda side, body: [] if type_of(body) == "OFFER" else [body]
    world.submit(*(record_of(world.lab) for _ in range(3)))
    assert len(world.of(ev.Ask, "seen")) == 2
    assert [each.after_ms for each in world.of(ev.Again)] == [2_000]


@pytest.mark.parametrize("full", [False, True])
def test_what_is_delivered_costs_no_more_than_a_query(full):
    """Neither does it where the receiver itself could not keep the record."""
    world = World(ev.Limits(unused_burst=1, misses_burst=1)).connect()
    world.storage.register()
    world.storage.full = full
    for _ in range(5):
        world.submit(record_of(world.lab))
    assert len(world.of(ev.Again if full else ev.HaveReceipt)) == 5
    assert len(world.of(ev.Accept, "seen")) == 5


def test_a_receipt_given_again_and_an_index_that_is_not_ready_cost_no_more_than_a_query():
    world = World(ev.Limits(unused_burst=1, misses_burst=1)).connect()
    world.storage.register()
    record = record_of(world.lab)
    world.storage.ready = False
    for _ in range(3):
        world.submit(record)
        world.submit(record_of(world.lab, number="11111111"))
    assert len(world.of(ev.Ask, "seen")) == 6


def test_a_record_that_fits_no_frame_waits_for_a_person_and_holds_up_nothing():
    world = World().connect()
    world.storage.register()
    large, small = record_of(world.lab, bytes(1_000_001)), record_of(world.lab)
    world.submit(large, small)
    assert world.of(ev.Again) == [ev.Again(large, 3_600_000, "too-large")]
    assert [got.record for got in world.of(ev.HaveReceipt)] == [small]


def test_the_largest_payload_fits_a_frame():
    world = World().connect()
    world.storage.register()
    content = bytes(999_000)
    record = record_of(world.lab, content)
    world.submit(record)
    assert world.of(ev.HaveReceipt)[0].receipt.digest == record.digest


# Keeping up, and ending.


def test_silence_is_asked_about_and_then_given_up():
    limits = ev.Limits(idle=10)
    world = World(limits).connect()
    world.tick(10)
    assert sorted(world.log[-4:]) == [("R", "PING"), ("R", "PING"), ("S", "PING"), ("S", "PING")]
    assert world.sender.ping == world.receiver.ping == b""
    world.tamper = lambda side, body: []
    world.tick(10)
    asked = len(world.log)
    world.tick(1)
    assert len(world.log) == asked
    world.tick(9)
    assert world.closed() == world.closed("seen") == (Code.TIMEOUT, False)


def test_an_echo_nobody_asked_for_is_an_error():
    for side, where in (("S", "done"), ("R", "seen")):
        world = World().connect()
        world.feed(side, sample(Ping, reply=True))
        assert world.closed(where) == (Code.UNEXPECTED, False)


def test_a_handshake_that_takes_too_long_is_given_up_on_both_sides():
    world = World()
    ours, theirs = world.channels()
    world.at_sender(ev.Opened(ours))
    world.at_receiver(ev.Opened(theirs))
    world.to_receiver.clear()
    world.tick(world.limits.handshake / 2)
    assert world.of(ev.Close) == world.of(ev.Close, "seen") == []
    world.tamper = lambda side, body: []
    world.tick(world.limits.handshake / 2)
    assert world.closed() == world.closed("seen") == (Code.TIMEOUT, False)


def test_a_record_that_gets_no_answer_rests_and_the_others_go_on():
    world = World(ev.Limits(answer=5)).connect()
    world.hold.add("answer")
    late = record_of(world.lab)
    world.submit(late)
    world.clock += 1
    other = record_of(world.lab)
    world.submit(other)
    world.tick(4)
    assert world.closed() == (Code.TIMEOUT, False)
    assert world.of(ev.Again) == [ev.Again(late, 60_000, Code.TIMEOUT)]
    assert world.of(ev.Release) == [ev.Release(other)]


def test_an_old_connection_ends_in_good_order():
    world = World(ev.Limits(max_age=5, idle=100)).connect()
    world.tick(5)
    assert world.closed() == ("", False)
    assert world.closed("seen") == ("", True)


def test_stopping_waits_for_the_answers_that_are_due():
    world = World().connect()
    world.storage.register()
    world.hold.add("commit")
    record = record_of(world.lab)
    world.submit(record)
    world.at_sender(ev.Stop())
    assert world.sender.phase == "draining" and world.sender.room == 0
    world.tick(1)
    (accept,) = world.of(ev.Accept, "seen")
    world.at_receiver(world.commit(accept))
    world.run()
    assert world.of(ev.HaveReceipt)[0].record == record
    assert world.closed() == ("", False)


def test_stopping_does_not_wait_for_ever():
    world = World().connect()
    world.hold.add("answer")
    record = record_of(world.lab)
    world.submit(record)
    world.at_sender(ev.Stop())
    world.tick(world.limits.drain)
    assert world.of(ev.Release) == [ev.Release(record)]
    assert world.closed() == ("", False)


def test_a_receiver_that_stops_receipts_what_was_delivered_and_takes_nothing_new():
    world = World().connect()
    world.storage.register()
    world.hold.add("commit")
    world.submit(record_of(world.lab))
    world.at_receiver(ev.Stop())
    late = record_of(world.lab, b"late")
    world.submit(late)
    assert world.of(ev.Again) == [ev.Again(late, 2_000, "busy")]
    (accept,) = world.of(ev.Accept, "seen")
    world.at_receiver(world.commit(accept))
    world.run()
    assert len(world.of(ev.HaveReceipt)) == 1
    assert world.closed() == ("", True)


@pytest.mark.parametrize("result", [ev.Unsettled, None])
def test_a_receiver_that_stops_ends_when_nothing_is_under_way(result):
    world = World().connect()
    world.storage.register()
    world.hold.add("commit")
    record = record_of(world.lab)
    world.submit(record)
    world.at_receiver(ev.Stop())
    world.tick(1)
    assert world.of(ev.Close, "seen") == []
    if result:
        world.at_receiver(ev.Unsettled(record.tid, 5))
    else:
        world.tick(world.limits.drain)
    assert world.closed("seen") == ("", False)


def test_a_partner_with_too_many_connections_is_told_when_to_come_back():
    world = World()
    world.hold.add("greet")
    world.connect()
    world.at_receiver(ev.Declined(7_000))
    world.run()
    close = world.of(ev.Close)[-1]
    assert (close.code, close.by_peer, close.after_ms) == ("busy", True, 7_000)


def test_a_registration_is_told_without_content():
    world = World().connect()
    world.at_receiver(ev.Registered())
    world.run()
    assert world.of(ev.PartnerChanged) == [ev.PartnerChanged()]


def test_an_error_about_one_record_lets_it_rest_and_gives_the_others_back():
    world = World().connect()
    world.hold.add("answer")
    bad, good = record_of(world.lab), record_of(world.lab)
    world.submit(bad, good)
    world.feed("S", sample(ErrorMessage, code="sealed-content", about=bad.tid))
    assert world.of(ev.Again) == [ev.Again(bad, 60_000, "sealed-content")]
    assert world.of(ev.Release) == [ev.Release(good)]
    assert world.closed() == ("sealed-content", True)


def test_a_lost_connection_gives_everything_back():
    world = World().connect()
    world.hold.add("answer")
    record = record_of(world.lab)
    world.submit(record)
    world.at_sender(ev.Lost())
    assert world.of(ev.Release) == [ev.Release(record)]
    assert world.closed() == ("lost", False)


# Marks and heads.


def test_marks_and_heads_are_exchanged_in_the_handshake():
    world = World(mark=Mark("a" * 32, 3))
    world.own = OwnHead(b"head", (b"p" * 32,))
    world.connect()
    (greet,) = world.of(ev.Greet, "seen")
    assert greet.mark == Mark("a" * 32, 3)
    (prepare,) = world.of(ev.Prepare)
    assert prepare.mark == Mark(world.storage.epoch, 0)
    for where in ("done", "seen"):
        assert world.of(ev.PeerHead, where) == [ev.PeerHead(b"head", (b"p" * 32,), None)]


def test_repr_of_states_and_records_shows_no_content():
    world = World().connect()
    world.hold.add("answer")
    world.submit(record_of(world.lab))
    assert NUMBER not in repr(world.sender) + repr(world.receiver) + repr(world.seen)
    assert "Ana" not in repr(world.sender)
