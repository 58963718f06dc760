"""Checking a whole log, wherever it comes from (PURE).

A log is a stream of entries in order: each position (the event with that number and the
stored leaf hash), and each head after the last event that it covers. Reading is one pass
in constant memory; only once something is wrong is the rest read for naming it well.

What the checks rest on: the heads' signatures, and heads that somebody else kept (``held``).
Whoever can write to the database can make leaves fit a forged event, but not a signed head.

What an institution has lost or forgotten honestly it declares in signed statements, which come
first in the stream (:mod:`medportal.audit.statements`). They excuse just what they name, and a
restore only beside the event of the log that tells of it, at or after what was kept.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from medportal.audit import merkle
from medportal.audit.errors import MalformedEvent
from medportal.audit.events import Action, Event, Outcome
from medportal.audit.heads import Head, SignedHead, TrustChain, verify_head
from medportal.audit.statements import Checkpoint, Restore, SignedStatement, verify_statement
from medportal.core.clock import to_micros
from medportal.core.errors import MedportalError


@dataclass(frozen=True, slots=True)
class Labels:
    """The parts of an event that are repeated beside it for searching; ``at`` in microseconds."""

    id: str
    at: int
    action: str
    outcome: str
    actor: str | None
    patient: str | None
    object: str | None

    @classmethod
    def of(cls, event: Event) -> "Labels":
        """Return the labels that an event must have."""
        return cls(
            id=event.id,
            at=to_micros(event.at),
            action=str(event.action),
            outcome=str(event.outcome),
            actor=event.actor,
            patient=event.patient,
            object=event.object,
        )


@dataclass(frozen=True, slots=True)
class Position:
    """What is stored under one number; ``body`` or ``leaf`` may be missing."""

    sequence: int
    body: bytes | None
    leaf: bytes | None
    labels: Labels | None = None


@dataclass(frozen=True, slots=True)
class LoggedHead:
    """A stored head; ``signed`` is ``None`` if it cannot be read."""

    size: int
    signed: SignedHead | None


@dataclass(frozen=True, slots=True)
class LoggedStatement:
    """A stored statement; ``signed`` is ``None`` if it cannot be read."""

    signed: SignedStatement | None


Entry = Position | LoggedHead | LoggedStatement


class Kind(StrEnum):
    """What is wrong with a log."""

    EDITED = "edited"
    DELETED = "deleted"
    INSERTED = "inserted"
    REORDERED = "reordered"
    TRUNCATED = "truncated"
    MISLABELLED = "mislabelled"
    UNREADABLE = "unreadable"
    REWRITTEN = "rewritten"
    UNSIGNED = "unsigned"
    BAD_HEAD = "bad-head"
    BAD_STATEMENT = "bad-statement"
    FORKED = "forked"


@dataclass(frozen=True, slots=True)
class Finding:
    """The first thing wrong: at the event with number ``sequence``, or, where only heads
    tell, somewhere from there up to ``until`` (excluded). ``why`` is for operators.
    """

    kind: Kind
    sequence: int
    until: int
    event_id: str | None
    why: str


@dataclass(frozen=True, slots=True)
class Report:
    """The result. ``size`` and ``root`` are of what was good; ``head`` is the last good head.

    ``pending`` counts events that no head covers yet (the stated window), if known.
    ``restores`` are what the institution declares to have lost, ``forgotten`` how many of the
    first events are there by their hashes only, ``explained`` how many of the heads held
    elsewhere contradict the log and lie in what a restore lost: whoever reads this asks about it.
    """

    tenant: str
    size: int
    root: bytes
    heads: int
    head: Head | None
    finding: Finding | None
    pending: int | None = None
    forgotten: int = 0
    restores: tuple[Restore, ...] = ()
    explained: int = 0

    @property
    def ok(self) -> bool:
        """Tell whether nothing is wrong."""
        return self.finding is None

    @property
    def is_excused(self) -> bool:
        """Tell whether nothing is wrong but what a declared restore has to excuse."""
        return self.ok and self.explained > 0


def verify_log(
    entries: Iterable[Entry],
    *,
    tenant: str,
    trust: TrustChain,
    held: Iterable[SignedHead] = (),
) -> Report:
    """Check a whole log and name the first thing wrong with it.

    ``held`` are heads of this log that partners or files kept. They are checked first and
    raise ``BadSignature`` (or what ``trust`` raises), as they are not part of the log.
    """
    walk = _Walk(tenant, trust, [verify_head(h, tenant=tenant, trust=trust) for h in held])
    stream = iter(entries)
    finding = walk.compare_held() or walk.check_held()
    for entry in stream:
        if finding is not None:
            break
        if isinstance(entry, LoggedHead):
            finding = walk.read_head(entry, stream)
        elif isinstance(entry, LoggedStatement):
            finding = walk.read_statement(entry)
        else:
            finding = walk.read_position(entry, stream)
    return walk.report(finding or walk.end())


class _Walk:
    """Where the reading is: the tree so far and the last head that fitted."""

    def __init__(self, tenant: str, trust: TrustChain, held: list[Head]) -> None:
        self.tenant = tenant
        self.trust = trust
        self.held = sorted(held, key=lambda head: head.size)
        self.agreed = 0
        self.frontier = merkle.Frontier()
        self.heads = 0
        self.head: Head | None = None
        self.checkpoints: list[Checkpoint] = []
        self.restores: list[Restore] = []
        self.untold: list[Restore] = []
        self.explained = 0

    @property
    def forgotten(self) -> int:
        return max((each.size for each in self.checkpoints), default=0)

    @property
    def covered(self) -> int:
        return 0 if self.head is None else self.head.size

    def report(self, finding: Finding | None) -> Report:
        return Report(
            tenant=self.tenant,
            size=self.frontier.size,
            root=self.frontier.root(),
            heads=self.heads,
            head=self.head,
            finding=finding,
            forgotten=min(self.forgotten, self.frontier.size),
            restores=tuple(self.restores),
            explained=self.explained,
        )

    def read_statement(self, entry: LoggedStatement) -> Finding | None:
        size = self.frontier.size
        if entry.signed is None:
            return _at(Kind.BAD_STATEMENT, size, None, "a statement cannot be read")
        if size:
            return _at(Kind.BAD_STATEMENT, size, None, "a statement is out of place")
        try:
            said = verify_statement(entry.signed, tenant=self.tenant, trust=self.trust)
        except MedportalError as error:
            why = f"a statement does not verify: {error}"
            return _at(Kind.BAD_STATEMENT, size, None, why)
        if isinstance(said, Restore):
            self.restores.append(said)
            self.untold.append(said)
        else:
            self.checkpoints.append(said)
        return self.check_declared()

    def read_position(self, entry: Position, rest: Iterator[Entry]) -> Finding | None:
        finding = _judge(entry, self.frontier.size, self.forgotten, rest)
        if finding is not None:
            return finding
        assert entry.leaf is not None  # _judge would have spoken
        if self.untold and entry.body is not None:
            self.hear(entry.sequence, Event.from_bytes(entry.body))
        self.frontier, _ = self.frontier.append(entry.leaf)
        return self.check_declared() or self.check_held()

    def hear(self, sequence: int, event: Event) -> None:
        """Take note of an event that tells of a declared restore."""
        if event.action == Action.RESTORED and event.outcome == Outcome.ALLOWED:
            self.untold = [
                each
                for each in self.untold
                if sequence < each.kept or dict(event.details) != each.details
            ]

    def check_declared(self) -> Finding | None:
        """Compare with what statements say the log was here, if any do."""
        size = self.frontier.size
        for made in self.checkpoints:
            if made.size == size and made.root != self.frontier.root():
                why = "the hashes of forgotten events do not lead to their checkpoint"
                return Finding(Kind.REWRITTEN, 0, size, None, why)
        for said in self.restores:
            if said.kept == size and said.kept_root != self.frontier.root():
                why = "the first events are not those that a declared restore kept"
                return Finding(Kind.REWRITTEN, 0, size, None, why)
        return None

    def read_head(self, entry: LoggedHead, rest: Iterator[Entry]) -> Finding | None:
        size = self.frontier.size
        if entry.signed is None:
            return _at(Kind.BAD_HEAD, entry.size, None, "a head cannot be read")
        try:
            head = verify_head(entry.signed, tenant=self.tenant, trust=self.trust)
        except MedportalError as error:
            return _at(Kind.BAD_HEAD, entry.size, None, f"a head does not verify: {error}")
        if head.size != entry.size or head.size < size:
            return _at(Kind.BAD_HEAD, entry.size, None, "a head is out of place")
        if head.size > size:
            return _missing(size, rest)
        if head.root != self.frontier.root():
            why = "the events since the head before do not lead to this head"
            return Finding(Kind.REWRITTEN, self.covered, head.size, None, why)
        self.heads += 1
        self.head = head
        return None

    def compare_held(self) -> Finding | None:
        """Compare the heads held elsewhere with each other: no log leads to two of one size."""
        for one, other in pairwise(self.held):
            if one.size == other.size and one.root != other.root:
                why = "two heads held elsewhere tell of different logs"
                return Finding(Kind.FORKED, 0, one.size, None, why)
        return None

    def check_held(self) -> Finding | None:
        """Compare with the heads held elsewhere that have the size reached."""
        while self.held and self.held[0].size == self.frontier.size:
            head = self.held.pop(0)
            if head.root == self.frontier.root():
                self.agreed = head.size
            elif not self.explain(head):
                why = "a head held elsewhere tells of other events"
                return Finding(Kind.FORKED, self.agreed, head.size, None, why)
        return None

    def explain(self, head: Head) -> bool:
        """Tell whether a restore accounts for a head that the log contradicts."""
        is_explained = any(restore.explains(head) for restore in self.restores)
        self.explained += is_explained
        return is_explained

    def end(self) -> Finding | None:
        size = self.frontier.size
        if size > self.covered:
            why = "no head covers these events"
            return Finding(Kind.UNSIGNED, self.covered, size, None, why)
        if size < self.forgotten:
            why = "a checkpoint tells of more events"
            return Finding(Kind.TRUNCATED, size, self.forgotten, None, why)
        if self.untold:
            why = "no event tells of a declared restore"
            return Finding(Kind.BAD_STATEMENT, min(self.untold[0].kept, size), size, None, why)
        beyond = [head for head in self.held if not self.explain(head)]
        if beyond:
            why = "a head held elsewhere covers more events"
            return Finding(Kind.TRUNCATED, size, beyond[-1].size, None, why)
        return None


def _judge(entry: Position, expected: int, forgotten: int, rest: Iterator[Entry]) -> Finding | None:
    """Check one position by itself; the tree and the heads are the walk's business.

    Of the first ``forgotten`` events the hashes are enough.
    """
    if entry.sequence > expected:
        return _at(Kind.DELETED, expected, None, "a number is missing")
    if entry.sequence < expected:
        return _at(Kind.INSERTED, entry.sequence, entry.body, "a number comes again")
    if entry.body is None:
        return None if expected < forgotten and entry.leaf else _name_gap(entry, rest)
    if entry.leaf is None:
        return _at(Kind.INSERTED, expected, entry.body, "the Merkle tree knows no such event")
    if merkle.leaf_hash(entry.body) != entry.leaf:
        return _name_mismatch(entry, rest)
    return _judge_labels(entry)


def _judge_labels(entry: Position) -> Finding | None:
    assert entry.body is not None  # the caller has looked
    try:
        event = Event.from_bytes(entry.body)
    except MalformedEvent:
        return _at(Kind.UNREADABLE, entry.sequence, None, "not an event")
    if entry.labels is not None and entry.labels != Labels.of(event):
        why = "the searchable columns say something else than the event"
        return _at(Kind.MISLABELLED, entry.sequence, entry.body, why)
    return None


def _missing(size: int, rest: Iterator[Entry]) -> Finding:
    """Name why events that a head covers are not there."""
    if any(isinstance(entry, Position) and entry.body is not None for entry in rest):
        return _at(Kind.DELETED, size, None, "a number is missing")
    return _at(Kind.TRUNCATED, size, None, "a head covers more events")


def _name_gap(entry: Position, rest: Iterator[Entry]) -> Finding:
    """Name why a leaf has no event: the event moved, vanished, or the end was cut off."""
    bodies = _bodies(rest)
    if entry.leaf in {merkle.leaf_hash(body) for body in bodies}:
        return _at(Kind.REORDERED, entry.sequence, None, "the event was moved")
    if bodies:
        return _at(Kind.DELETED, entry.sequence, None, "the event is gone")
    return _at(Kind.TRUNCATED, entry.sequence, None, "this event and all later ones are gone")


def _name_mismatch(entry: Position, rest: Iterator[Entry]) -> Finding:
    """Name why the event under a number is not the one that the tree has there.

    Two questions tell: is the right event further down, and does this one belong further down?
    """
    assert entry.body is not None  # the caller has looked
    found = merkle.leaf_hash(entry.body)
    positions = [item for item in rest if isinstance(item, Position)]
    right_one_later = entry.leaf in {merkle.leaf_hash(body) for body in _bodies(positions)}
    belongs_later = found in {item.leaf for item in positions}
    names = {
        (True, True): (Kind.REORDERED, "events have changed places"),
        (True, False): (Kind.INSERTED, "an event was pushed in before the right one"),
        (False, True): (Kind.DELETED, "the event is gone and later ones moved up"),
        (False, False): (Kind.EDITED, "the event was changed"),
    }
    kind, why = names[right_one_later, belongs_later]
    return _at(kind, entry.sequence, entry.body, why)


def _bodies(entries: Iterable[Entry]) -> list[bytes]:
    return [e.body for e in entries if isinstance(e, Position) and e.body is not None]


def _at(kind: Kind, sequence: int, body: bytes | None, why: str) -> Finding:
    return Finding(kind, sequence, sequence + 1, _id_of(body), why)


def _id_of(body: bytes | None) -> str | None:
    if body is None:
        return None
    try:
        return Event.from_bytes(body).id
    except MalformedEvent:
        return None
