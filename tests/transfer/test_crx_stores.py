"""The adapters onto delivery, patients and audit: what is written, and what is refused."""

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from crx_institutions import BIRTH, NUMBER, SCHEME, House, clinical_record, enrol, found
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from medportal.audit import sequence as sequencer
from medportal.audit.append import append
from medportal.audit.events import Action, Event
from medportal.audit.heads import HeadSigner, SignedHead
from medportal.audit.models import AuditEvent
from medportal.audit.verifier import latest_head
from medportal.core import canonical
from medportal.core.clock import utcnow
from medportal.core.errors import ConfigurationError
from medportal.core.ids import new_id
from medportal.core.reasons import Reason
from medportal.delivery import boxkeys, holds
from medportal.delivery.models import BoxKey, Inbox, Outbox, ReceiptCounter
from medportal.delivery.parcel import inbox_info
from medportal.delivery.states import DeliveryReason, Outcome
from medportal.keys import TenantKeys
from medportal.patients.partner_index import unindex_patient
from medportal.patients.pseudonyms import demographic_tag, pseudonym
from medportal.pki import ca as authority
from medportal.pki import partners
from medportal.pki.errors import Revoked
from medportal.pki.passphrases import load_passphrases
from medportal.pki.profiles import Purpose
from medportal.pki.signatures import sign_statement
from medportal.records import statement
from medportal.records.service import verify_author, with_newest_list
from medportal.records.statement import SealedContent
from medportal.transfer import transcript
from medportal.transfer.batches import Batched
from medportal.transfer.credentials import PairNames, peer_of
from medportal.transfer.errors import Code, ReceiverBusy, Untrusted
from medportal.transfer.messages import HeldHead, Mark
from medportal.transfer.ports import (
    AcceptedRecord,
    Known,
    NotKnown,
    NotReady,
    Question,
    Receipt,
    Receipted,
    Result,
    ResultKind,
)
from medportal.transfer.stores import (
    LEASE,
    SqlReceiverStore,
    SqlSenderStore,
    receipt_facts,
    retry_reason,
)
from medportal.vault import boxes
from medportal.vault.errors import Tampered


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def founded(request, tmp_path_factory, new_database) -> Iterator[tuple[House, House]]:
    state = tmp_path_factory.mktemp("var")
    hospital, laboratory = (
        found(state, name, database=new_database(request.param))
        for name in ("hospital", "laboratory")
    )
    enrol(hospital, laboratory)
    yield hospital, laboratory
    hospital.engine.dispose()
    laboratory.engine.dispose()


@pytest.fixture
def houses(founded: tuple[House, House]) -> Iterator[tuple[House, House]]:
    hospital, laboratory = founded
    for house in founded:
        with Session(house.engine) as session, session.begin():
            for table in (Outbox, Inbox, ReceiptCounter, BoxKey):
                session.execute(delete(table))
    yield hospital, laboratory
    partners.restore_partner(hospital.pki, "laboratory")


@pytest.fixture
def patient(houses: tuple[House, House]) -> Iterator[str]:
    hospital, _ = houses
    patient_id = hospital.register()
    yield patient_id
    with Session(hospital.engine) as session, session.begin():
        unindex_patient(session, patient_id)


def asked(houses: tuple[House, House], number: str = NUMBER, key_id: str = "") -> Question:
    key = houses[1].keys.partner_key("hospital")
    return Question(new_id(), key_id or key.key_id, pseudonym(key.key, SCHEME, number))


def accepted(question: Question, patient: str, **changed: object) -> AcceptedRecord:
    values = {
        "sender": "laboratory",
        "tid": question.tid,
        "digest": hashlib.sha256(question.tid.encode()).digest(),
        "patient": patient,
        "key_id": question.key_id,
        "pseudonym": question.pseudonym,
        "fits": True,
        "refusal": "",
        "payload": b"parcel",
    }
    return AcceptedRecord(**{**values, **changed})


def said(signed: bytes) -> dict[str, object]:
    return dict(canonical.decode(Batched.from_bytes(signed).payload))


def last_event(house: House, action: Action) -> AuditEvent:
    with Session(house.engine, expire_on_commit=False) as session:
        query = select(AuditEvent).where(AuditEvent.action == action.value)
        return session.scalars(query.order_by(AuditEvent.at.desc())).first()


def receiver(house: House) -> SqlReceiverStore:
    return SqlReceiverStore(house.engine, house.keys)


def sender(house: House, worker: str = "one") -> SqlSenderStore:
    return SqlSenderStore(house.engine, house.keys, worker)


# The receiver's store.


def test_queries_are_answered_and_audited_with_the_patient_they_hit(houses, patient):
    hospital, _ = houses
    hit, miss = asked(houses), asked(houses, "55566677")
    stranger = asked(houses, key_id="0" * 16)
    answers = receiver(hospital).answer("laboratory", [hit, miss, stranger], utcnow())
    assert isinstance(answers[hit.tid], Known) and answers[hit.tid].patient == patient
    assert isinstance(answers[miss.tid], NotKnown)
    assert isinstance(answers[stranger.tid], NotReady)
    with Session(hospital.engine) as session:
        query = select(AuditEvent.object, AuditEvent.patient, AuditEvent.outcome)
        rows = session.execute(query.where(AuditEvent.object.in_(list(answers)))).all()
    assert set(rows) == {
        (hit.tid, patient, "allowed"),
        (miss.tid, None, "denied"),
        (stranger.tid, None, "denied"),
    }


def test_two_connections_that_ask_under_one_tid_get_each_its_own_answer(houses, patient):
    """One group answers all connections: neither the answer nor the audit takes the other's."""
    hospital, _ = houses
    hit, miss = asked(houses), asked(houses, "55566677")
    miss = replace(miss, tid=hit.tid)
    for both in ((hit, miss), (miss, hit)):
        answers = receiver(hospital).answer_all({"laboratory": both}, utcnow())["laboratory"]
        assert isinstance(answers[hit], Known) and answers[hit].patient == patient
        assert isinstance(answers[miss], NotKnown)
    with Session(hospital.engine) as session:
        query = select(AuditEvent.patient, AuditEvent.outcome)
        rows = session.execute(query.where(AuditEvent.object == hit.tid)).all()
    assert sorted(rows, key=str) == sorted([(patient, "allowed"), (None, "denied")] * 2, key=str)


def test_a_commit_gives_receipts_in_order_and_repeats_them(houses, patient):
    hospital, _ = houses
    store = receiver(hospital)
    records = [accepted(asked(houses), patient) for _ in range(3)]
    first = store.commit(records, utcnow())
    assert [said(each)["sequence"] for each in first] == [1, 2, 3]
    assert store.commit(records, utcnow()) == first
    question = Question(records[0].tid, records[0].key_id, records[0].pseudonym)
    answers = store.answer("laboratory", [question], utcnow())
    assert answers == {question.tid: Receipted(first[0])}


def test_a_receipt_whose_certificate_was_replaced_is_signed_afresh(houses, patient):
    hospital, _ = houses
    store = receiver(hospital)
    record = accepted(asked(houses), patient)
    (old,) = store.commit([record], utcnow())
    passphrases = load_passphrases(hospital.home / "secrets")
    authority.issue(
        hospital.pki,
        Purpose.RECEIPT,
        ca_passphrase=passphrases["ca"],
        group_passphrase=passphrases["exchange"],
        now=utcnow(),
    )
    (new,) = store.commit([record], utcnow())
    assert new != old and said(new) == said(old)


def test_a_receipt_kept_in_a_form_of_before_is_signed_afresh(houses, patient):
    hospital, _ = houses
    store = receiver(hospital)
    record = accepted(asked(houses), patient)
    (made,) = store.commit([record], utcnow())
    with Session(hospital.engine) as session, session.begin():
        session.execute(update(Inbox).values(receipt=b"of before"))
    question = Question(record.tid, record.key_id, record.pseudonym)
    answers = store.answer("laboratory", [question], utcnow())
    assert said(answers[question.tid].receipt) == said(made)


def test_another_digest_is_rejected_without_a_sequence(houses, patient):
    hospital, _ = houses
    store = receiver(hospital)
    record = accepted(asked(houses), patient)
    other = accepted(
        Question(record.tid, record.key_id, record.pseudonym), patient, digest=b"d" * 32
    )
    _, conflict = store.commit([record, other], utcnow())
    fields = said(conflict)
    assert (fields["outcome"], fields["reason"], fields["sequence"]) == (
        "rejected",
        "digest-conflict",
        0,
    )
    assert [row.digest for row in hospital.inbox()] == [record.digest]


def test_a_patient_who_is_gone_at_the_commit_leaves_it_to_a_person(houses, patient):
    hospital, _ = houses
    record = accepted(asked(houses), patient)
    other = accepted(asked(houses), new_id())
    with Session(hospital.engine) as session, session.begin():
        unindex_patient(session, patient)
    for each in receiver(hospital).commit([record, other], utcnow()):
        assert said(each)["outcome"] == "held-for-review"


def test_a_partner_revoked_before_the_commit_registers_nothing(houses, patient):
    hospital, _ = houses
    partners.revoke_partner(hospital.pki, "laboratory", utcnow(), "test")
    (outcome,) = receiver(hospital).commit([accepted(asked(houses), patient)], utcnow())
    assert isinstance(outcome, Untrusted) and outcome.code is Code.REVOKED_PARTNER
    assert hospital.inbox() == []


def test_a_mark_ahead_of_ours_is_audited_as_a_restore(houses):
    hospital, _ = houses
    store = receiver(hospital)
    own = store.welcome("laboratory", None, None, utcnow()).mark
    assert store.welcome("laboratory", None, Mark(own.epoch, 9), utcnow()).mark == own
    assert last_event(hospital, Action.RESTORED).outcome == "failed"


def test_refusals_are_audited(houses):
    hospital, _ = houses
    receiver(hospital).refused("laboratory", Code.SIGNATURE, utcnow())
    assert last_event(hospital, Action.PEER_REFUSED).actor == "partner:laboratory"


def behind(house: House, directory: Path) -> tuple[TenantKeys, Path]:
    """Return the keys of a receiver that still has a key which was destroyed, and the new file.

    The key of the institution is another since: here that of the copy is.
    """
    home = house.keys.places.home
    shutil.copytree(home, directory / "copy")
    fresh = directory / "fresh"
    fresh.mkdir()
    boxes.create_box_keys(fresh, "inbox", b"a passphrase of the group")
    old = boxes.key_of(house.keys.sealer("inbox").header)
    new = boxes.key_id(boxes.load_public(fresh, "inbox")).hex()
    with Session(house.engine) as session, session.begin():
        boxkeys.note_destroyed(session, "inbox", [old], new, utcnow())
    return TenantKeys(house.tenant, directory / "copy"), fresh / "inbox.pub"


def test_nothing_is_acknowledged_that_is_sealed_to_a_destroyed_key(houses, patient, tmp_path):
    hospital, _ = houses
    keys, fresh = behind(hospital, tmp_path)
    record, store = accepted(asked(houses), patient), SqlReceiverStore(hospital.engine, keys)
    (busy,) = store.commit([record], utcnow())
    assert isinstance(busy, ReceiverBusy)
    assert hospital.inbox() == []
    shutil.copy(fresh, keys.places.vault)
    (receipt,) = store.commit([record], utcnow())
    assert said(receipt)
    (row,) = hospital.inbox()
    assert boxes.key_of(row.sealed) == boxes.key_of(keys.sealer("inbox").header)


@pytest.mark.parametrize("count", [1, 3])
def test_what_was_sealed_just_before_its_key_was_destroyed_is_sealed_anew(
    houses, patient, tmp_path, monkeypatch, count
):
    hospital, _ = houses
    keys, fresh = behind(hospital, tmp_path)
    store = SqlReceiverStore(hospital.engine, keys)
    register = store._register

    def later(group, now):
        # Sealed already, and the new public half comes only now.
        shutil.copy(fresh, keys.places.vault)
        return register(group, now)

    monkeypatch.setattr(store, "_register", later)
    records = [accepted(asked(houses), patient) for _ in range(count)]
    assert all(said(receipt) for receipt in store.commit(records, utcnow()))
    rows = hospital.inbox()
    assert [boxes.key_of(row.sealed) for row in rows] == [
        boxes.key_of(keys.sealer("inbox").header)
    ] * count


def test_what_is_committed_together_opens_one_by_one_and_only_in_its_own_place(houses, patient):
    """One encapsulation for the group; of what is refused nothing is sealed."""
    hospital, _ = houses
    records = [
        accepted(asked(houses), patient, payload=b"first"),
        accepted(asked(houses), patient, refusal="signature-invalid", payload=b""),
        accepted(asked(houses), patient, payload=b"second"),
    ]
    receipts = receiver(hospital).commit(records, utcnow())
    assert [said(each)["outcome"] for each in receipts] == ["registered", "rejected", "registered"]
    sealed = {row.tid: row.sealed for row in hospital.inbox()}
    infos = {r.tid: inbox_info("hospital", "laboratory", r.tid) for r in records}
    first, refused, second = (record.tid for record in records)
    assert sealed[refused] is None
    for tid, payload in ((first, b"first"), (second, b"second")):
        assert boxes.key_of(sealed[tid]) == boxes.key_of(hospital.keys.sealer("inbox").header)
        assert sealed[tid][boxes.HEADER_LENGTH :].startswith(boxes.GROUPED)
        assert hospital.keys.open_incoming(sealed[tid], infos[tid]) == payload
    with pytest.raises(Tampered):
        hospital.keys.open_incoming(sealed[first], infos[second])


# The sender's store.


def test_a_fault_of_the_outbox_key_leases_nothing(houses, tmp_path):
    hospital, laboratory = houses
    (tid,) = laboratory.queue("hospital")
    shutil.copytree(laboratory.keys.places.home, tmp_path / "copy")
    keys = TenantKeys(laboratory.tenant, tmp_path / "copy")
    (keys.places.vault / "outbox.key").chmod(0o644)
    store = SqlSenderStore(laboratory.engine, keys, "one")
    with pytest.raises(ConfigurationError, match="keys of the outbox do not open"):
        store.claim("hospital", 8, utcnow())
    row = laboratory.outbox()[tid]
    assert (row.attempts, row.lease_owner) == (0, None)
    (keys.places.vault / "outbox.key").chmod(0o600)
    assert [record.tid for record in store.claim("hospital", 8, utcnow())] == [tid]


def claimed(laboratory: House, **record: object) -> tuple[SqlSenderStore, list]:
    laboratory.queue("hospital", **record)
    store = sender(laboratory)
    return store, list(store.claim("hospital", 10, utcnow()))


def row(laboratory: House) -> tuple[str, str]:
    (only,) = laboratory.outbox().values()
    return only.state, only.reason


def receipt(record, **changed: object) -> Receipt:
    values = {
        "tid": record.tid,
        "outcome": Outcome.REGISTERED,
        "digest": record.digest,
        "sequence": 1,
        "at": utcnow(),
        "reason": "registered",
        "final": True,
        "signed": b"signed",
    }
    return Receipt(**{**values, **changed})


def test_of_a_group_of_results_what_another_worker_holds_is_neither_written_nor_told(houses):
    _, laboratory = houses
    laboratory.queue("hospital", count=3)
    store = sender(laboratory)
    records = list(store.claim("hospital", 10, utcnow()))
    lost = records[1].tid
    with Session(laboratory.engine) as session, session.begin():
        session.execute(update(Outbox).where(Outbox.tid == lost).values(fence=Outbox.fence + 1))
    results = [Result(each, ResultKind.RECEIPTED, receipt(each)) for each in records]
    store.finished("hospital", results, utcnow())
    settled = {tid for tid, row in laboratory.outbox().items() if row.state == "delivered"}
    assert settled == {each.tid for each in records} - {lost}
    with Session(laboratory.engine) as session:
        objects = [row.claim.record_id for row in records if row.tid != lost]
        told = session.scalars(
            select(AuditEvent.object).where(
                AuditEvent.action == Action.DELIVERY_RECEIPTED.value,
                AuditEvent.object.in_([row.claim.record_id for row in records]),
            )
        ).all()
    assert sorted(told) == sorted(objects)


def test_of_a_group_of_two_senders_a_revoked_one_gets_no_receipt(houses, patient):
    hospital, _ = houses
    good, strange = accepted(asked(houses), patient), accepted(asked(houses), patient)
    strange = replace(strange, sender="clinic")
    first, second = receiver(hospital).commit([good, strange], utcnow())
    assert said(first)["tid"] == good.tid
    assert isinstance(second, Untrusted) and second.code is Code.REVOKED_PARTNER
    assert [row.sender for row in hospital.inbox()] == ["laboratory"]


def test_an_item_that_cannot_be_opened_says_so_and_waits(houses):
    _, laboratory = houses
    laboratory.queue("hospital")
    with Session(laboratory.engine) as session, session.begin():
        session.execute(update(Outbox).values(sealed=b"spoilt"))
    # A moment later it may be due again.
    store, now = sender(laboratory), utcnow()
    assert store.due(now) == ["hospital"]
    assert store.claim("hospital", 10, now) == []
    assert row(laboratory) == ("retrying", "cannot-open")
    assert store.due(now) == []


@pytest.mark.parametrize(
    ("kind", "changed", "expected"),
    [
        (ResultKind.RECEIPTED, {}, ("delivered", "registered")),
        (
            ResultKind.RECEIPTED,
            {"outcome": Outcome.DUPLICATE, "reason": ""},
            ("delivered", "duplicate"),
        ),
        (
            ResultKind.RECEIPTED,
            {"outcome": Outcome.REJECTED, "reason": "content-invalid", "final": False},
            ("retrying", "content-invalid"),
        ),
        (
            ResultKind.RECEIPTED,
            {"outcome": Outcome.REJECTED, "reason": "never heard of"},
            ("rejected", "unspecified"),
        ),
        (ResultKind.CONFLICT, {}, ("rejected", "digest-conflict")),
    ],
)
def test_receipts_settle_what_they_may_settle(houses, kind, changed, expected):
    _, laboratory = houses
    store, (record,) = claimed(laboratory)
    store.finished("hospital", [Result(record, kind, receipt(record, **changed))], utcnow())
    assert row(laboratory) == expected


def test_a_release_a_miss_and_a_retry_each_leave_the_record_waiting(houses):
    _, laboratory = houses
    store, (record,) = claimed(laboratory)
    store.finished("hospital", [Result(record, ResultKind.RELEASED)], utcnow())
    assert row(laboratory) == ("waiting", "created")
    (record,) = store.claim("hospital", 1, utcnow())
    store.finished("hospital", [Result(record, ResultKind.UNKNOWN)], utcnow())
    assert row(laboratory) == ("unknown-patient", "patient-unknown")
    store.changed("hospital", utcnow())
    (record,) = store.claim("hospital", 1, utcnow())
    later = Result(record, ResultKind.RETRY, reason="busy", after_ms=600_000)
    now = utcnow()
    store.finished("hospital", [later], now)
    (only,) = laboratory.outbox().values()
    assert (only.reason, only.next_at >= now + timedelta(minutes=10)) == ("busy", True)


def test_a_result_whose_lease_was_lost_changes_nothing(houses):
    _, laboratory = houses
    first, (record,) = claimed(laboratory)
    later = utcnow() + 2 * LEASE
    (again,) = sender(laboratory, "two").claim("hospital", 1, later)
    first.renew([record], later)
    first.finished("hospital", [Result(record, ResultKind.UNKNOWN)], later)
    assert row(laboratory) == ("waiting", "created")
    sender(laboratory, "two").renew([again], later)


def test_a_record_of_another_store_is_refused(houses):
    _, laboratory = houses
    store, (record,) = claimed(laboratory)
    with pytest.raises(TypeError):
        store.finished(
            "hospital", [Result(replace(record, claim=None), ResultKind.UNKNOWN)], utcnow()
        )
    with pytest.raises(TypeError):
        store.finished("hospital", [Result(record, ResultKind.RECEIPTED)], utcnow())


def test_what_waited_for_a_connection_is_due_when_there_is_one(houses):
    _, laboratory = houses
    laboratory.queue("hospital", count=2)
    store, now = sender(laboratory), utcnow()
    store.stalled("hospital", DeliveryReason.UNREACHABLE, now)
    assert {each.reason for each in laboratory.outbox().values()} == {"unreachable"}
    assert store.due(now) == []
    store.reachable("hospital", now)
    assert store.due(now) == ["hospital"]


def test_every_partner_with_something_due_is_named_once(houses):
    _, laboratory = houses
    store, now = sender(laboratory), utcnow()
    of_whom = ["clinic", "clinic", "hospital", "maternity", "ward"]
    tids = laboratory.queue("hospital", count=len(of_whom))
    with Session(laboratory.engine) as session, session.begin():
        for tid, partner in zip(tids, of_whom, strict=True):
            row = session.get_one(Outbox, tid)
            row.partner = partner
            row.next_at = now + timedelta(hours=partner == "ward")
        assert holds.hold(session, "maternity", "f" * 32, Reason.OTHER, now)
    assert store.due(now) == ["clinic", "hospital"]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("busy", DeliveryReason.BUSY),
        ("stale-offer", DeliveryReason.STALE_OFFER),
        ("timeout", DeliveryReason.NO_ANSWER),
        ("receipt", DeliveryReason.RECEIPT_INVALID),
        ("signature", DeliveryReason.PROTOCOL_ERROR),
        ("<script>", DeliveryReason.PROTOCOL_ERROR),
    ],
)
def test_codes_of_the_wire_become_reasons_that_people_are_shown(code, reason):
    assert retry_reason(code) is reason


def test_a_conflicting_receipt_counts_for_no_mark(houses):
    _, laboratory = houses
    _, (record,) = claimed(laboratory)
    facts = receipt_facts(receipt(record, sequence=7), conflict=True)
    assert facts is not None and facts.sequence == 0


# Heads of logs.


def sign_head(house: House) -> SignedHead:
    """Let the house's sequencer do its work over one new event."""
    signer = HeadSigner(
        house.id,
        house.keys.signer(Purpose.HEAD),
        house.keys.signer(Purpose.HEAD_PQ),
    )
    with Session(house.engine) as session, session.begin():
        append(session, Event.create(Action.AUDIT_VIEWED, now=utcnow()))
        sequencer.sequence(session, signer, utcnow())
    with Session(house.engine) as session:
        head = latest_head(session)
    assert head is not None
    return head


def take(house: House, partner: str, own, since: HeldHead | None) -> bool:
    return receiver(house).peer_head(partner, own.head, own.consistency, since, utcnow())


def test_heads_grow_with_a_proof_and_a_fork_is_refused_and_audited(houses):
    hospital, laboratory = houses
    store = sender(laboratory)
    sign_head(laboratory)
    own = store.prepare("hospital", None, None, utcnow(), utcnow())
    assert take(hospital, "laboratory", own, None)
    held = receiver(hospital).welcome("laboratory", None, None, utcnow()).held
    assert held is not None
    sign_head(laboratory)
    grown = store.prepare("hospital", None, held, utcnow(), utcnow())
    assert grown.consistency
    assert take(hospital, "laboratory", grown, held)
    now_held = receiver(hospital).welcome("laboratory", None, None, utcnow()).held
    assert now_held is not None and now_held.size > held.size
    # A log that was rewritten, and one that became shorter.
    fork = HeldHead(held.size, b"f" * 32)
    assert not take(hospital, "laboratory", grown, fork)
    assert not take(hospital, "laboratory", own, now_held)
    assert last_event(hospital, Action.PEER_REFUSED).actor == "partner:laboratory"


def test_a_head_of_another_institution_or_with_a_bit_changed_is_refused(houses):
    hospital, laboratory = houses
    head = sign_head(hospital).to_bytes()
    assert not receiver(hospital).peer_head("laboratory", head, (), None, utcnow())
    theirs = bytearray(sign_head(laboratory).to_bytes())
    theirs[len(theirs) // 2] ^= 1
    assert not receiver(hospital).peer_head("laboratory", bytes(theirs), (), None, utcnow())


def test_a_partner_that_holds_more_than_we_have_gets_our_head_without_proof(houses):
    _, laboratory = houses
    sign_head(laboratory)
    own = sender(laboratory).prepare(
        "hospital", None, HeldHead(10_000, b"h" * 32), utcnow(), utcnow()
    )
    assert own.head is not None and own.consistency == ()


def test_a_log_without_events_has_no_head(tmp_path: Path):
    empty = found(tmp_path, "laboratory")
    own = sender(empty).prepare("hospital", None, None, utcnow(), utcnow())
    assert (own.head, own.consistency) == (None, ())


def test_a_newer_crl_is_remembered_and_an_older_one_refused_afterwards(houses):
    hospital, laboratory = houses
    old = laboratory.store.crl_der
    passphrases = load_passphrases(laboratory.home / "secrets")
    authority.make_crl(laboratory.pki, ca_passphrase=passphrases["ca"], now=utcnow())
    receiver(hospital).remember_crl("laboratory", laboratory.store.crl_der, None, utcnow())
    peer = peer_of(hospital.keys.trusted, hospital.keys.crl_limits)("laboratory")
    assert peer is not None
    chain = laboratory.keys.signer(Purpose.EXCHANGE).chain_der
    with pytest.raises(Untrusted) as error:
        peer.exchange(chain, old, utcnow())
    assert "crl-rolled-back" in str(error.value)
    peer.exchange(chain, laboratory.store.crl_der, utcnow())


# Credentials.


def test_an_author_whose_certificate_has_lapsed_is_still_read_but_not_one_withdrawn(tmp_path):
    hospital, laboratory = found(tmp_path, "hospital"), found(tmp_path, "laboratory")
    enrol(hospital, laboratory)
    signed = sign_statement(laboratory.keys.signer(Purpose.RECORD), statement.LABEL, {"a": 1})
    later = utcnow() + timedelta(days=400)
    passphrases = load_passphrases(laboratory.home / "secrets")
    authority.make_crl(laboratory.pki, ca_passphrase=passphrases["ca"], now=later)
    peer = peer_of(hospital.keys.trusted, hospital.keys.crl_limits)("laboratory")
    assert peer is not None
    assert peer.author(signed.to_bytes(), laboratory.store.crl_der, later) == {"a": 1}
    leaf = laboratory.keys.signer(Purpose.RECORD).certificate
    authority.revoke(laboratory.pki, leaf.serial_number, ca_passphrase=passphrases["ca"], now=later)
    with pytest.raises(Untrusted):
        peer.author(signed.to_bytes(), laboratory.store.crl_der, later)


def test_a_record_that_waited_past_its_signers_end_is_read_alike_now_and_later(tmp_path):
    """The receiver's word is intake's: what is receipted as registered can be filed and read."""
    hospital, laboratory = found(tmp_path, "hospital"), found(tmp_path, "laboratory")
    enrol(hospital, laboratory)
    record, content = clinical_record("laboratory"), b"content"
    fields = statement.statement_fields(
        content, record.id, 1, "laboratory", record.author_id, record.category, utcnow()
    )
    signer = laboratory.keys.signer(Purpose.RECORD)
    signed = sign_statement(signer, statement.LABEL, fields).to_bytes()
    later = utcnow() + timedelta(days=400)
    passphrases = load_passphrases(laboratory.home / "secrets")
    authority.make_crl(laboratory.pki, ca_passphrase=passphrases["ca"], now=later)
    crl = laboratory.store.crl_der
    partners.remember_crl(hospital.pki, "laboratory", crl, later)
    peer = peer_of(hospital.keys.trusted, hospital.keys.crl_limits)("laboratory")
    assert peer is not None
    assert peer.author(signed, crl, later)["record"] == record.id
    kept = SealedContent(content, with_newest_list(signed, hospital.keys.authority("laboratory")))
    stated = verify_author(hospital.keys, kept, record, origin="laboratory", at=later)
    assert stated.record_id == record.id
    # Withdrawn as of a time before it was taken in: nobody reads it any more.
    leaf = signer.certificate.serial_number
    authority.revoke(laboratory.pki, leaf, ca_passphrase=passphrases["ca"], now=later)
    partners.remember_crl(hospital.pki, "laboratory", laboratory.store.crl_der, later)
    with pytest.raises(Untrusted):
        peer.author(signed, laboratory.store.crl_der, later)
    with pytest.raises(Revoked):
        verify_author(hospital.keys, kept, record, origin="laboratory", at=later)


def test_malformed_numbers_names_and_keys_are_nobodys(houses):
    hospital, laboratory = houses
    names = PairNames(hospital.keys.partner_keys)
    key = laboratory.keys.partner_key("hospital")
    assert names.pseudonym("laboratory", key.key_id, SCHEME, "") == b""
    assert names.tag("laboratory", key.key_id, "Ana", "yesterday") == b""
    assert names.tag("laboratory", key.key_id, "Ana", BIRTH.isoformat()) == demographic_tag(
        key.key, "Ana", BIRTH
    )
    with pytest.raises(Untrusted):
        names.pseudonym("laboratory", "0" * 16, SCHEME, NUMBER)
    with pytest.raises(Untrusted):
        names.pseudonym("clinic", key.key_id, SCHEME, NUMBER)


def test_a_receipt_or_statement_that_is_no_statement_is_not_trusted(houses):
    hospital, laboratory = houses
    peer = peer_of(laboratory.keys.trusted, laboratory.keys.crl_limits)("hospital")
    assert peer is not None
    for check in (peer.receipt, peer.author):
        with pytest.raises(Untrusted):
            check(b"nothing", hospital.store.crl_der, utcnow())
    key = peer.exchange(
        hospital.keys.signer(Purpose.EXCHANGE).chain_der, hospital.store.crl_der, utcnow()
    )
    with pytest.raises(Untrusted):
        key.statement(b"nothing", transcript.DELIVERY)
    with pytest.raises(Untrusted):
        key.verify(bytes(64), b"data")
