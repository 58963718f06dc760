"""What must hold: while things go wrong, and when all is healed."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from faults.cast import Role, Way
from faults.clerk import FAMILY, NOTES, Patient, Version
from faults.houses import House
from faults.world import WorldError
from medportal.audit.events import Action
from medportal.audit.models import AuditEvent
from medportal.delivery.models import Inbox, Outbox
from medportal.records.models import Record, RecordVersion

Houses = Mapping[str, House]
#: The digest of every version that went in for a partner.
Versions = Mapping[Version, bytes]
Entered = Mapping[Way, Versions]
_SHOWN = 5
#: Logs of the servers, and what commands said to whoever typed them.
_OTHERS = (f"{Role.DATABASE}-", f"{Role.DOCUMENTS}-", "commands-")
_AT_ONCE = 2


def receipts_without_record(houses: Houses, way: Way) -> list[str] | None:
    """Return receipts at who sends for what who receives does not hold, at this moment.

    The sending side is read first: what it holds a receipt for then was durable before. ``None``
    where one of the databases cannot be asked now.
    """
    try:
        with houses[way.sender].reading() as session:
            query = select(Outbox.tid, Outbox.digest).where(
                Outbox.partner == way.receiver, Outbox.receipt.is_not(None)
            )
            receipted = {row.tid: row.digest for row in session.execute(query)}
        with houses[way.receiver].reading() as session:
            came = select(Inbox.tid, Inbox.digest).where(Inbox.sender == way.sender)
            held = {row.tid: row.digest for row in session.execute(came)}
    except SQLAlchemyError:
        return None
    return [
        f"{way}: transfer {tid} was receipted and is not there"
        for tid, digest in receipted.items()
        if held.get(tid) != digest
    ][:_SHOWN]


def is_settled(houses: Houses, entered: Entered) -> bool:
    """Tell whether everything is receipted, filed, and numbered in all logs."""
    try:
        return not _open(houses, entered)
    except SQLAlchemyError:
        return False


def _open(houses: Houses, entered: Entered) -> dict[str, int]:
    """Return how much is under way, by where."""
    found = {}
    for way, versions in entered.items():
        with houses[way.sender].reading() as session:
            queued = Outbox.partner == way.receiver
            found[f"not queued, {way}"] = len(versions) - _count(session, Outbox, queued)
            waiting = _count(session, Outbox, queued & Outbox.settled_at.is_(None))
            found[f"not receipted, {way}"] = waiting
        with houses[way.receiver].reading() as session:
            unfiled = (Inbox.sender == way.sender) & Inbox.filed_at.is_(None)
            found[f"not filed, {way}"] = _count(session, Inbox, unfiled)
    for name, house in houses.items():
        with house.reading() as session:
            unsigned = _count(session, AuditEvent, AuditEvent.sequence.is_(None))
            found[f"not in the signed log of the {name}"] = unsigned
    return {what: number for what, number in found.items() if number}


def _count(
    session: Session, table: type[Outbox | Inbox | AuditEvent], condition: ColumnElement[bool]
) -> int:
    return session.scalar(select(func.count()).select_from(table).where(condition)) or 0


def what_is_stuck(houses: Houses, entered: Entered) -> list[str]:
    """Say in words what is under way, and why whoever sends says it waits."""
    try:
        found = [f"stuck: {number} {what}" for what, number in _open(houses, entered).items()]
        for name in dict.fromkeys(way.sender for way in entered):
            with houses[name].reading() as session:
                columns = (Outbox.partner, Outbox.state, Outbox.reason, Outbox.attempts)
                query = select(*columns, Outbox.next_at).where(Outbox.settled_at.is_(None))
                rows = session.execute(query.limit(_SHOWN))
                found += [f"stuck: {(name, *map(str, row))}" for row in rows]
    except SQLAlchemyError as error:
        return [f"a database cannot be read after the run: {type(error).__name__}"]
    return found


def check(houses: Houses, entered: Entered, patients: Sequence[Patient]) -> list[str]:
    """Return everything that is not as it must be, the processes being stopped."""
    return [
        *(problem for way in entered for problem in _way(houses, way, entered[way])),
        *(problem for house in houses.values() for problem in _house(house, entered)),
        *_logs(houses),
        *_personal(houses, patients),
    ]


def _way(houses: Houses, way: Way, versions: Versions) -> list[str]:
    """Return what is not as it must be of what went one way."""
    problems = [
        *_sent(houses[way.sender], way.receiver, versions),
        *_came(houses, way),
        *_filed(houses[way.receiver], way.sender, versions),
    ]
    receipts = receipts_without_record(houses, way) or []
    return [*(f"{way}: {problem}" for problem in problems), *receipts]


def _sent(house: House, partner: str, versions: Versions) -> list[str]:
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
            ).where(Outbox.partner == partner)
        ).all()
    queued = {(row.record_id, row.version): row.digest for row in rows}
    problems = ["what was entered is not what was queued"] if queued != dict(versions) else []
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


def _came(houses: Houses, way: Way) -> list[str]:
    """Each transfer once where it goes, numbered without gaps, as the receipts where it is from."""
    with houses[way.sender].reading() as session:
        columns = select(Outbox.tid, Outbox.receipt_sequence)
        receipts = session.execute(columns.where(Outbox.partner == way.receiver))
        sent = {row.tid: row.receipt_sequence for row in receipts}
    with houses[way.receiver].reading() as session:
        came = select(Inbox.tid, Inbox.sequence, Inbox.outcome).where(Inbox.sender == way.sender)
        rows = session.execute(came).all()
    problems = []
    if Counter(row.tid for row in rows) != Counter(sent.keys()):
        problems.append("the transfers that came are not those that were sent")
    if sorted(row.sequence for row in rows) != list(range(1, len(rows) + 1)):
        problems.append("the sequence of receipts has gaps")
    wrong = [row.tid for row in rows if sent.get(row.tid) != row.sequence]
    problems += [f"{tid} has another receipt here than there" for tid in wrong][:_SHOWN]
    outcomes = Counter(row.outcome for row in rows if row.outcome != "registered")
    return problems + [f"{number} are {outcome}" for outcome, number in outcomes.items()]


def _filed(house: House, origin: str, versions: Versions) -> list[str]:
    """Each version from an institution filed once, as it was entered, after what it replaces."""
    with house.reading() as session:
        rows = session.execute(
            select(
                Record.origin_record_id,
                Record.current_version,
                RecordVersion.version,
                RecordVersion.content_digest,
                RecordVersion.replaces,
            )
            .join_from(Record, RecordVersion, Record.id == RecordVersion.record_id)
            .where(Record.origin == origin)
        ).all()
    filed = {(row.origin_record_id, row.version): row for row in rows}
    problems = []
    # What is filed twice is there under a record that nobody entered: one of an origin has one id.
    if {key: row.content_digest for key, row in filed.items()} != dict(versions):
        missing = len(set(versions) - set(filed))
        problems.append(f"filed is not what was entered; missing: {missing}")
    for (record, version), row in filed.items():
        before = versions.get((record, version - 1))
        if row.replaces != before:
            problems.append(f"version {version} of {record} does not follow the one before")
        if row.current_version < version:
            problems.append(f"{record} shows an older version than {version}")
    return problems


def _house(house: House, entered: Entered) -> list[str]:
    """An institution holds its own, and nothing of, or for, others than its partners."""
    own = {
        version: digest
        for way, versions in entered.items()
        if way.sender == house.id
        for version, digest in versions.items()
    }
    to = {way.receiver for way in entered if way.sender == house.id}
    of = {way.sender for way in entered if way.receiver == house.id}
    with house.reading() as session:
        strange = [
            ("is queued for", set(session.scalars(select(Outbox.partner).distinct())) - to),
            ("came from", set(session.scalars(select(Inbox.sender).distinct())) - of),
            ("is filed as from", set(session.scalars(select(Record.origin).distinct())) - of),
        ]
    return [
        *(f"{house.id}, its own: {problem}" for problem in _filed(house, house.id, own)),
        *(
            f"{house.id}: something {what} {other}"
            for what, others in strange
            for other in sorted(others - {house.id})
        ),
    ]


def _logs(houses: Houses) -> list[str]:
    """Every audit log whole, and every document as it was filed; by the product's commands."""
    asked = [
        (house, words)
        for name, house in houses.items()
        for words in (("audit", "verify", name), ("store", "status", name, "--verify"))
    ]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
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


def _personal(houses: Houses, patients: Sequence[Patient]) -> list[str]:
    """Return logs, also those of the servers, that say something of a person.

    And those of the product that hold anything but a line of JSON for each event.
    """
    words = {FAMILY, NOTES, *FAMILY.split()}
    for patient in patients:
        words |= {patient.subject.number, patient.subject.birth_date.isoformat()}
    problems = []
    for log in sorted({log for house in houses.values() for log in house.logs.iterdir()}):
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


def duplicates_answered(houses: Houses) -> int:
    """Return how often somebody answered with a receipt that they had given before."""
    query = select(AuditEvent.body).where(AuditEvent.action == Action.QUERY_RECEIVED)
    found = 0
    for house in houses.values():
        with house.reading() as session:
            found += sum(b"Receipted" in body for body in session.scalars(query))
    return found
