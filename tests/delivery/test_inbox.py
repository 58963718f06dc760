"""Registering groups, conflicts as data, receipts, intake and review, on both engines."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy.orm import Session, sessionmaker

from medportal.core.ids import new_id
from medportal.delivery import inbox, receipts
from medportal.delivery.errors import MalformedDelivery, NotAwaiting
from medportal.delivery.inbox import Arrival, Awaiting, Grant, Registration, Result
from medportal.delivery.states import DeliveryReason, Outcome

Make = Callable[..., Arrival]
Begin = sessionmaker[Session]


def sign(grants: Sequence[Grant]) -> list[bytes]:
    said = [(each.sender, each.tid, each.sequence, each.outcome, each.at) for each in grants]
    return [" ".join(map(str, each)).encode() for each in said]


def register(begin: Begin, clock: Any, *arrivals: Arrival) -> list[Registration]:
    with begin.begin() as session:
        return inbox.register(session, arrivals, clock.now, sign)


def results(registrations: list[Registration]) -> list[str]:
    return [one.result.value for one in registrations]


def test_a_group_gets_results_in_its_order_and_sequences_without_gaps(
    begin: Begin, clock: Any, arrival: Make
) -> None:
    senders = ["laboratory", "clinic", "laboratory", "laboratory"]
    group = [arrival(sender=sender) for sender in senders]
    registered = register(begin, clock, *group)
    assert [(one.sender, one.tid) for one in registered] == [(one.sender, one.tid) for one in group]
    assert [one.grant.sequence for one in registered if one.grant] == [1, 1, 2, 3]
    (again,) = register(begin, clock, arrival())
    assert again.grant
    assert again.grant.sequence == 4


def test_the_receipt_found_later_is_the_one_signed_then(
    begin: Begin, clock: Any, arrival: Make
) -> None:
    first = arrival()
    (made,) = register(begin, clock, first)
    assert made.grant
    assert [made.grant.receipt] == sign([made.grant])
    clock.forward(days=1)
    with begin.begin() as session:
        assert inbox.find_receipt(session, first.sender, first.tid) == made.grant
        assert inbox.find_receipt(session, "clinic", first.tid) is None
        assert inbox.find_receipt(session, first.sender, new_id()) is None
    (repeated,) = register(begin, clock, first)
    assert repeated == replace(made, result=Result.ALREADY)


def test_without_a_signer_the_facts_are_kept_to_sign_later(
    begin: Begin, clock: Any, arrival: Make
) -> None:
    first = arrival()
    with begin.begin() as session:
        inbox.register(session, [first], clock.now)
    with begin.begin() as session:
        found = inbox.find_receipt(session, first.sender, first.tid)
    assert found
    assert (found.receipt, found.sequence, found.digest, found.at) == (
        None,
        1,
        first.digest,
        clock.now,
    )


def test_another_digest_under_the_same_transfer_is_a_conflict_and_changes_nothing(
    begin: Begin, clock: Any, arrival: Make
) -> None:
    first = arrival()
    (made,) = register(begin, clock, first)
    forged = replace(first, digest=bytes(32), sealed=b"forged", patient_id=new_id())
    neighbour = arrival()
    conflict, fine = register(begin, clock, forged, neighbour)
    assert (conflict.result, conflict.grant) == (Result.CONFLICT, None)
    assert fine.grant
    assert fine.grant.sequence == 2
    with begin.begin() as session:
        assert inbox.find_receipt(session, first.sender, first.tid) == made.grant
        assert {item.sealed for item in inbox.pending(session, clock.now)} == {first.sealed}


def test_one_group_may_repeat_and_contradict_itself(
    begin: Begin, clock: Any, arrival: Make
) -> None:
    first = arrival()
    registered = register(begin, clock, first, first, replace(first, digest=bytes(32)))
    assert results(registered) == ["new", "new", "conflict"]
    assert registered[0] == registered[1]
    with begin.begin() as session:
        assert len(inbox.pending(session, clock.now)) == 1
        assert receipts.mark(session, "laboratory", clock.now).sequence == 1


def test_two_senders_may_use_the_same_transfer_id(begin: Begin, clock: Any, arrival: Make) -> None:
    first = arrival()
    other = replace(first, sender="clinic", digest=bytes(32))
    assert results(register(begin, clock, first, other)) == ["new", "new"]


def test_the_same_content_under_another_transfer_id_is_receipted_and_not_filed_again(
    begin: Begin, clock: Any, arrival: Make
) -> None:
    first = arrival()
    in_group, later = (replace(first, tid=new_id()) for _ in range(2))
    registered = [*register(begin, clock, first, in_group), *register(begin, clock, later)]
    outcomes = [one.grant.outcome for one in registered if one.grant]
    assert outcomes == [Outcome.REGISTERED, Outcome.DUPLICATE, Outcome.DUPLICATE]
    with begin.begin() as session:
        assert [item.tid for item in inbox.pending(session, clock.now)] == [first.tid]


def test_what_was_only_held_or_rejected_does_not_make_a_duplicate(
    begin: Begin, clock: Any, arrival: Make
) -> None:
    held = arrival(outcome=Outcome.HELD_FOR_REVIEW, reason=DeliveryReason.DEMOGRAPHICS_DIFFER)
    refused = arrival(
        outcome=Outcome.REJECTED, reason=DeliveryReason.SIGNATURE_INVALID, sealed=None
    )
    register(begin, clock, held, refused)
    again = [arrival(digest=one.digest) for one in (held, refused)]
    registered = register(begin, clock, *again)
    assert {one.grant.outcome for one in registered if one.grant} == {Outcome.REGISTERED}


@pytest.mark.parametrize(
    "wrong",
    [
        {"tid": "nonsense"},
        {"digest": b""},
        {"pseudonym": bytes(31)},
        {"sealed": None},
        {"sealed": b""},
        {"outcome": Outcome.REJECTED},
        {"patient_id": None},
    ],
)
def test_a_malformed_arrival_is_refused_before_anything_is_written(
    begin: Begin, clock: Any, arrival: Make, wrong: dict[str, Any]
) -> None:
    with pytest.raises(MalformedDelivery):
        register(begin, clock, arrival(), arrival(**wrong))
    with begin.begin() as session:
        assert inbox.awaiting_counts(session) == {}
        assert receipts.mark(session, "laboratory", clock.now).sequence == 0


def test_a_rolled_back_group_gives_its_sequences_back(
    begin: Begin, clock: Any, arrival: Make
) -> None:
    with pytest.raises(OSError, match="disk"), begin.begin() as session:
        inbox.register(session, [arrival(), arrival()], clock.now)
        raise OSError("disk full")
    (made,) = register(begin, clock, arrival())
    assert made.grant
    assert made.grant.sequence == 1


def test_an_empty_group_is_nothing(begin: Begin, clock: Any) -> None:
    assert register(begin, clock) == []


def test_groups_that_overlap_at_the_same_time_register_each_transfer_once(
    begin: Begin, clock: Any, arrival: Make
) -> None:
    senders = ["laboratory", "clinic"]
    arrivals = [arrival(sender=senders[number % 2]) for number in range(40)]
    groups = [arrivals[at : at + 16] for at in range(0, 32, 4)]
    groups += [group[::-1] for group in groups]
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda group: register(begin, clock, *group), groups))
    new = [one for group in done for one in group if one.result is Result.NEW]
    known = {(one.sender, one.tid) for group in done for one in group}
    assert len(new) == len(known)
    for sender in senders:
        sequences = sorted(one.grant.sequence for one in new if one.sender == sender and one.grant)
        assert sequences == list(range(1, len(sequences) + 1))


def test_intake_files_once_and_keeps_no_second_copy(
    begin: Begin, clock: Any, arrival: Make
) -> None:
    first = arrival()
    register(begin, clock, first)
    record_id = new_id()
    with begin.begin() as session:
        (item,) = inbox.pending(session, clock.now)
        assert (item.patient_id, item.sealed) == (first.patient_id, first.sealed)
        inbox.mark_filed(session, item.sender, item.tid, record_id, clock.now)
    with begin.begin() as session:
        assert inbox.pending(session, clock.now) == []
        assert inbox.awaiting_counts(session) == {}
        assert inbox.find_receipt(session, first.sender, first.tid)
    for step in (
        lambda s: inbox.mark_filed(s, first.sender, first.tid, record_id, clock.now),
        lambda s: inbox.set_aside(s, first.sender, first.tid, DeliveryReason.CONTENT_INVALID),
        lambda s: inbox.approve(s, first.sender, first.tid, new_id()),
        lambda s: inbox.decline(s, first.sender, first.tid, clock.now),
    ):
        with pytest.raises(NotAwaiting), begin.begin() as session:
            step(session)


def test_an_intake_that_fails_leaves_the_item_waiting(
    begin: Begin, clock: Any, arrival: Make
) -> None:
    first = arrival()
    register(begin, clock, first)
    with pytest.raises(OSError, match="vault"), begin.begin() as session:
        inbox.mark_filed(session, first.sender, first.tid, new_id(), clock.now)
        raise OSError("vault unreachable")
    with begin.begin() as session:
        assert [item.tid for item in inbox.pending(session, clock.now)] == [first.tid]


def test_a_held_item_is_filed_only_after_a_person_said_whose_it_is(
    begin: Begin, clock: Any, arrival: Make
) -> None:
    reason = DeliveryReason.DEMOGRAPHICS_DIFFER
    mine, nobodys = (arrival(outcome=Outcome.HELD_FOR_REVIEW, reason=reason) for _ in range(2))
    register(begin, clock, mine, nobodys)
    patient = new_id()
    with begin.begin() as session:
        assert inbox.pending(session, clock.now) == []
        assert [item.tid for item in inbox.held(session)] == [mine.tid, nobodys.tid]
        inbox.approve(session, mine.sender, mine.tid, patient)
        inbox.decline(session, nobodys.sender, nobodys.tid, clock.now)
    with begin.begin() as session:
        assert inbox.awaiting_counts(session) == {Awaiting.INTAKE: 1, Awaiting.UNDOING: 1}
        (item,) = inbox.pending(session, clock.now)
        assert (item.tid, item.patient_id) == (mine.tid, patient)


def test_what_intake_cannot_file_goes_to_a_person_and_its_receipt_stays(
    begin: Begin, clock: Any, arrival: Make
) -> None:
    first = arrival()
    (made,) = register(begin, clock, first)
    with begin.begin() as session:
        inbox.set_aside(session, first.sender, first.tid, DeliveryReason.CORRECTION_UNFIT)
    with begin.begin() as session:
        (item,) = inbox.held(session)
        found = inbox.find_receipt(session, first.sender, first.tid)
    assert (item.reason, item.outcome) == ("correction-unfit", "registered")
    assert found
    assert made.grant
    assert found.receipt == made.grant.receipt


def test_pending_comes_in_order_of_arrival_and_in_portions(
    begin: Begin, clock: Any, arrival: Make
) -> None:
    expected = []
    for _ in range(3):
        group = [arrival(), arrival()]
        register(begin, clock, *group)
        expected += [one.tid for one in group]
        clock.forward(seconds=1)
    with begin.begin() as session:
        assert [item.tid for item in inbox.pending(session, clock.now, limit=5)] == expected[:5]
