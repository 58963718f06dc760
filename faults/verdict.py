"""What must hold: while things go wrong, and when all is healed."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from faults.clerk import FAMILY, NOTES, Clerk
from faults.houses import HOSPITAL, HOUSES, LABORATORY, House
from faults.world import WorldError
from medportal.audit.events import Action
from medportal.audit.models import AuditEvent
from medportal.delivery.models import Inbox, Outbox
from medportal.records.models import Record, RecordVersion

Houses = Mapping[str, House]
Entered = Mapping[tuple[str, int], bytes]
_SHOWN = 5
#: Logs of the servers, and what commands said to whoever typed them.
_OTHERS = ("postgresql-", "documents-", "commands-")


def receipts_without_record(houses: Houses) -> list[str] | None:
    """Return receipts at the laboratory for what the hospital does not hold, at this moment.

    The laboratory is read first: what it holds a receipt for then was durable before. ``None``
    where one of the databases cannot be asked now.
    """
    try:
        with houses[LABORATORY].reading() as session:
            query = select(Outbox.tid, Outbox.digest).where(Outbox.receipt.is_not(None))
            receipted = {row.tid: row.digest for row in session.execute(query)}
        with houses[HOSPITAL].reading() as session:
            held = {row.tid: row.digest for row in session.execute(select(Inbox.tid, Inbox.digest))}
    except SQLAlchemyError:
        return None
    return [
        f"transfer {tid} was receipted and is not there"
        for tid, digest in receipted.items()
        if held.get(tid) != digest
    ][:_SHOWN]


def is_settled(houses: Houses, entered: Entered) -> bool:
    """Tell whether everything is receipted, filed, and numbered in both logs."""
    try:
        return not _open(houses, entered)
    except SQLAlchemyError:
        return False


def _open(houses: Houses, entered: Entered) -> dict[str, int]:
    """Return how much is under way, by where."""
    with houses[LABORATORY].reading() as session:
        rows = session.scalar(select(func.count()).select_from(Outbox)) or 0
        waiting = _count(session, Outbox, Outbox.settled_at.is_(None))
        unsigned = _count(session, AuditEvent, AuditEvent.sequence.is_(None))
    with houses[HOSPITAL].reading() as session:
        unfiled = _count(session, Inbox, Inbox.filed_at.is_(None))
        unsigned += _count(session, AuditEvent, AuditEvent.sequence.is_(None))
    found = {
        "not queued": len(entered) - rows,
        "not receipted": waiting,
        "not filed": unfiled,
        "not in a signed log": unsigned,
    }
    return {what: number for what, number in found.items() if number}


def _count(
    session: Session, table: type[Outbox | Inbox | AuditEvent], condition: ColumnElement[bool]
) -> int:
    return session.scalar(select(func.count()).select_from(table).where(condition)) or 0


def what_is_stuck(houses: Houses, entered: Entered) -> list[str]:
    """Say in words what is under way, and why the laboratory says it waits."""
    try:
        found = [f"stuck: {number} {what}" for what, number in _open(houses, entered).items()]
        with houses[LABORATORY].reading() as session:
            query = select(Outbox.state, Outbox.reason, Outbox.attempts, Outbox.next_at)
            rows = session.execute(query.where(Outbox.settled_at.is_(None)).limit(_SHOWN))
            return found + [f"stuck: {tuple(map(str, row))}" for row in rows]
    except SQLAlchemyError as error:
        return [f"a database cannot be read after the run: {type(error).__name__}"]


def check(houses: Houses, clerk: Clerk) -> list[str]:
    """Return everything that is not as it must be, the processes being stopped."""
    return [
        *_laboratory(houses[LABORATORY], clerk.entered),
        *_inbox(houses),
        *_hospital(houses[HOSPITAL], clerk.entered),
        *(receipts_without_record(houses) or []),
        *_logs(houses),
        *_personal(houses, clerk),
    ]


def _laboratory(house: House, entered: Entered) -> list[str]:
    """Every version entered once, queued once, and receipted as registered."""
    with house.reading() as session:
        rows = session.execute(
            select(
                Outbox.record_id,
                Outbox.version,
                Outbox.digest,
                Outbox.state,
                Outbox.reason,
                Outbox.receipt,
                Outbox.receipt_sequence,
            )
        ).all()
    queued = {(row.record_id, row.version): row.digest for row in rows}
    problems = ["what was entered is not what was queued"] if queued != dict(entered) else []
    if len(rows) != len(queued):
        problems.append("a version was queued twice")
    states = Counter((row.state, row.reason) for row in rows)
    problems += [f"{n} are {state}" for state, n in states.items() if state[0] != "delivered"]
    problems += [f"{row.record_id} has no receipt" for row in rows if row.receipt is None][:_SHOWN]
    chains = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.version):
        chains[row.record_id].append(row.receipt_sequence or 0)
    problems += [
        f"corrections of {record} came out of order: {sequences}"
        for record, sequences in chains.items()
        if any(a >= b for a, b in pairwise(sequences))
    ][:_SHOWN]
    return problems


def _inbox(houses: Houses) -> list[str]:
    """Each transfer once at the hospital, numbered without gaps, as the laboratory's receipts."""
    with houses[LABORATORY].reading() as session:
        receipts = session.execute(select(Outbox.tid, Outbox.receipt_sequence))
        sent = {row.tid: row.receipt_sequence for row in receipts}
    with houses[HOSPITAL].reading() as session:
        rows = session.execute(select(Inbox.tid, Inbox.sequence, Inbox.outcome)).all()
    problems = []
    if Counter(row.tid for row in rows) != Counter(sent.keys()):
        problems.append("the hospital's transfers are not the laboratory's")
    if sorted(row.sequence for row in rows) != list(range(1, len(rows) + 1)):
        problems.append("the sequence of receipts has gaps")
    wrong = [row.tid for row in rows if sent.get(row.tid) != row.sequence]
    problems += [f"{tid} has another receipt here than there" for tid in wrong][:_SHOWN]
    outcomes = Counter(row.outcome for row in rows if row.outcome != "registered")
    return problems + [f"{number} are {outcome}" for outcome, number in outcomes.items()]


def _hospital(house: House, entered: Entered) -> list[str]:
    """Each version filed once, with its own content, after the one that it replaces."""
    with house.reading() as session:
        rows = session.execute(
            select(
                Record.origin_record_id,
                Record.current_version,
                RecordVersion.version,
                RecordVersion.content_digest,
                RecordVersion.replaces,
            ).join_from(Record, RecordVersion, Record.id == RecordVersion.record_id)
        ).all()
    filed = {(row.origin_record_id, row.version): row for row in rows}
    problems = [] if len(filed) == len(rows) else ["a version was filed twice"]
    if {key: row.content_digest for key, row in filed.items()} != dict(entered):
        missing = len(set(entered) - set(filed))
        problems.append(f"filed is not what was entered; missing: {missing}")
    for (record, version), row in filed.items():
        before = entered.get((record, version - 1))
        if row.replaces != before:
            problems.append(f"version {version} of {record} does not follow the one before")
        if row.current_version < version:
            problems.append(f"{record} shows an older version than {version}")
    return problems


def _logs(houses: Houses) -> list[str]:
    """Both audit logs whole, and every document as it was filed; by the product's commands."""
    asked = [
        (houses[name], words)
        for name in HOUSES
        for words in (("audit", "verify", name), ("store", "status", name, "--verify"))
    ]
    with ThreadPoolExecutor(len(HOUSES)) as pool:
        found = pool.map(lambda each: _whole(*each), asked)
    return [problem for problem in found if problem]


def _whole(house: House, words: tuple[str, ...]) -> str:
    """Run a command that checks something; return what is wrong, or nothing."""
    try:
        said = json.loads(house.command(*words))
    except WorldError as error:
        return f"medportal {' '.join(words)}: {error}"
    if said.get("finding", "whole") != "whole" or said.get("wrong") or said.get("why"):
        return f"medportal {' '.join(words)}: {said}"
    return ""


def _personal(houses: Houses, clerk: Clerk) -> list[str]:
    """Return logs, also those of the servers, that say something of a person.

    And those of the product that hold anything but a line of JSON for each event.
    """
    words = {FAMILY, NOTES, *FAMILY.split()}
    for patient in clerk.patients:
        words |= {patient.subject.number, patient.subject.birth_date.isoformat()}
    problems = []
    for log in sorted(houses[HOSPITAL].logs.iterdir()):
        text = log.read_text("utf-8", "replace")
        if any(word in text for word in words):
            problems.append(f"{log.name} says something of a person")
        if "Traceback" in text:
            problems.append(f"{log.name} holds a traceback")
        if not log.name.startswith(_OTHERS) and not all(map(_is_meant, text.splitlines())):
            problems.append(f"{log.name} holds a line of another form")
    return problems


def _is_meant(line: str) -> bool:
    # A process that finds no database when it starts says so to its operator, and is started again.
    if line.startswith("medportal: "):
        return True
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def duplicates_answered(hospital: House) -> int:
    """Return how often the hospital answered with a receipt that it had given before."""
    with hospital.reading() as session:
        bodies = session.scalars(
            select(AuditEvent.body).where(AuditEvent.action == Action.QUERY_RECEIVED)
        )
        return sum(b"Receipted" in body for body in bodies)
