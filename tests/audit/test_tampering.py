"""Every field of every line and column, at every position, is tampered with; all of it shows."""

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, delete, select, update
from sqlalchemy.orm import Session

from medportal.audit import lines, verifier
from medportal.audit.append import append
from medportal.audit.checking import Kind, Report
from medportal.audit.errors import MalformedLine
from medportal.audit.events import Event, Outcome
from medportal.audit.heads import HeadSigner
from medportal.audit.models import AuditCredential, AuditEvent, AuditHead, AuditNode
from medportal.audit.sequence import sequence

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SIZE = 9
HEADS = (4, 7, 9)
Maker = Callable[..., Event]


@pytest.fixture
def log(engine: Engine, signer: HeadSigner, make_event: Maker) -> Engine:
    """Give a log of nine events under heads of sizes 4, 7 and 9."""
    for start, end in ((0, 4), (4, 7), (7, 9)):
        with Session(engine) as session, session.begin():
            for number in range(start, end):
                append(session, make_event(number))
        with Session(engine) as session, session.begin():
            sequence(session, signer, NOW + timedelta(hours=1, seconds=end))
    return engine


def exported(log: Engine) -> list[str]:
    with Session(log) as session:
        return list(verifier.export_lines(session, "hospital"))


def check(found: list[str], authority: Any) -> Report:
    return lines.verify_lines(found, tenant="hospital", trust=authority.trust)


def shows(found: list[str], authority: Any) -> bool:
    try:
        return not check(found, authority).ok
    except MalformedLine:
        return True


def paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Give the way to every leaf of a JSON value."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths(inner, (*at, key))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from paths(inner, (*at, place))
    else:
        yield at


def tampered(fields: Any, path: tuple[Any, ...], value: Any) -> str:
    copy = json.loads(json.dumps(fields))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return json.dumps(copy)


def value_at(fields: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        fields = fields[key]
    return fields


def changes(value: Any) -> list[Any]:
    """Return other values of the same kind, and of others."""
    if isinstance(value, int):
        return [value + 1, value - 1, str(value), None]
    if value is None:
        return ["x", 0]
    return [value[:-1], value + "A", value[::-1] + "=", "", 0]


def test_every_field_of_every_line_is_covered(log: Engine, authority: Any) -> None:
    found = exported(log)
    assert check(found, authority).ok
    tried = 0
    for place, line in enumerate(found):
        fields = json.loads(line)
        for path in paths(fields):
            for value in changes(value_at(fields, path)):
                if value == value_at(fields, path):
                    continue
                changed = [*found[:place], tampered(fields, path, value), *found[place + 1 :]]
                # Which tenant a file says it is of counts for nothing: the heads say it.
                assert path == ("tenant",) or shows(changed, authority), (place, path, value)
                tried += 1
    assert tried > 500


@pytest.mark.parametrize("part", ["body", "leaf", "head", "chain"])
def test_every_byte_counts(log: Engine, authority: Any, part: str) -> None:
    found = exported(log)
    place = next(i for i, line in enumerate(found) if part in json.loads(line))
    fields = json.loads(found[place])
    path = (part, 0) if part == "chain" else (part,)
    whole = base64.b64decode(value_at(fields, path))
    for at in range(0, len(whole), 1 if part != "chain" else 7):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << (at % 8)
        text = base64.b64encode(bytes(flipped)).decode("ascii")
        changed = [*found[:place], tampered(fields, path, text), *found[place + 1 :]]
        assert shows(changed, authority), at


@pytest.mark.parametrize("which", [0, 1], ids=["ed25519", "ml-dsa-65"])
def test_every_part_of_a_signature_counts(log: Engine, authority: Any, which: int) -> None:
    found = exported(log)
    place = next(i for i, line in enumerate(found) if json.loads(line)["type"] == "head")
    fields = json.loads(found[place])
    whole = base64.b64decode(fields["signatures"][which]["value"])
    for at in range(0, len(whole), 13):
        flipped = bytearray(whole)
        flipped[at] ^= 0x80
        text = base64.b64encode(bytes(flipped)).decode("ascii")
        path = ("signatures", which, "value")
        changed = [*found[:place], tampered(fields, path, text), *found[place + 1 :]]
        assert shows(changed, authority), at


@pytest.mark.parametrize("position", range(SIZE))
def test_an_event_deleted_doubled_or_moved_is_named(
    log: Engine, authority: Any, position: int
) -> None:
    found = exported(log)
    at = [i for i, line in enumerate(found) if json.loads(line)["type"] == "event"][position]
    gone = check([*found[:at], *found[at + 1 :]], authority).finding
    assert gone is not None
    assert gone.sequence == position
    # At the end of the log nothing tells a deleted event from a truncated log.
    assert gone.kind is (Kind.TRUNCATED if position == SIZE - 1 else Kind.DELETED)
    twice = check([*found[: at + 1], found[at], *found[at + 1 :]], authority).finding
    assert twice is not None and (twice.kind, twice.sequence) == (Kind.INSERTED, position)
    cut = check(found[: at + 1], authority).finding
    # Also where the events of a whole head remain: the head itself went with the rest.
    assert cut is not None and cut.kind is Kind.UNSIGNED


@pytest.mark.parametrize("first", range(SIZE - 1))
def test_two_events_that_changed_places_are_named(log: Engine, authority: Any, first: int) -> None:
    with Session(log) as session, session.begin():
        rows = session.execute(
            select(AuditEvent.id, AuditEvent.sequence).where(
                AuditEvent.sequence.in_([first, first + 1])
            )
        ).all()
        for shift in (100, 0):
            for row in rows:
                wanted = shift + (2 * first + 1 - row.sequence)
                session.execute(
                    update(AuditEvent).where(AuditEvent.id == row.id).values(sequence=wanted)
                )
    finding = check(exported(log), authority).finding
    assert finding is not None
    assert (finding.kind, finding.sequence) == (Kind.REORDERED, first)


COLUMNS: list[tuple[Any, str, Any]] = [
    (AuditEvent, "id", "e" * 32),
    (AuditEvent, "at", NOW + timedelta(days=1)),
    (AuditEvent, "action", "sign-out"),
    (AuditEvent, "outcome", "failed"),
    (AuditEvent, "actor", None),
    (AuditEvent, "patient", "d" * 32),
    (AuditEvent, "object", None),
    (AuditEvent, "body", b"\xa0"),
    (AuditEvent, "sequence", None),
    (AuditEvent, "sequence", 77),
    (AuditEvent, "sequence", -1),
]


@pytest.mark.parametrize("position", range(SIZE))
@pytest.mark.parametrize(
    ("model", "column", "value"), COLUMNS, ids=[f"{c[1]}-{i}" for i, c in enumerate(COLUMNS)]
)
def test_every_column_at_every_position(
    log: Engine, authority: Any, model: Any, column: str, value: Any, position: int
) -> None:
    with Session(log) as session, session.begin():
        session.execute(update(model).where(model.sequence == position).values({column: value}))
    finding = check(exported(log), authority).finding
    assert finding is not None
    assert finding.sequence in {position, -1}


@pytest.mark.parametrize("position", range(SIZE))
def test_every_word_of_an_event_at_every_position(
    log: Engine, authority: Any, position: int
) -> None:
    """The columns are changed along with the body, as somebody who knows the portal would."""
    with Session(log) as session:
        row = session.scalars(select(AuditEvent).where(AuditEvent.sequence == position)).one()
        event, key = Event.from_bytes(row.body), row.id
    for changed in (
        replace(event, at=event.at + timedelta(microseconds=1)),
        replace(event, outcome=Outcome.DENIED),
        replace(event, actor="9" * 32),
        replace(event, session=None),
        replace(event, patient="9" * 32),
        replace(event, object="9" * 32),
        replace(event, reasons=()),
        replace(event, details={**event.details, "number": 999}),
    ):
        with Session(log) as session, session.begin():
            session.execute(
                update(AuditEvent)
                .where(AuditEvent.id == key)
                .values(
                    at=changed.at,
                    outcome=str(changed.outcome),
                    actor=changed.actor,
                    patient=changed.patient,
                    object=changed.object,
                    body=changed.to_bytes(),
                )
            )
        finding = check(exported(log), authority).finding
        assert finding is not None
        assert (finding.kind, finding.sequence) == (Kind.EDITED, position)


@pytest.mark.parametrize("position", range(SIZE))
def test_every_leaf(log: Engine, authority: Any, position: int) -> None:
    of = (AuditNode.level == 0) & (AuditNode.index == position)
    with Session(log) as session, session.begin():
        session.execute(update(AuditNode).where(of).values(hash=bytes(32)))
    finding = check(exported(log), authority).finding
    assert finding is not None and (finding.kind, finding.sequence) == (Kind.EDITED, position)
    with Session(log) as session, session.begin():
        session.execute(delete(AuditNode).where(of))
    finding = check(exported(log), authority).finding
    assert finding is not None and finding.sequence == position


@pytest.mark.parametrize("size", HEADS)
@pytest.mark.parametrize(
    "values",
    [
        {"root": bytes(32)},
        {"at": NOW},
        {"body": b"\xa0"},
        {"signatures": b"\x80"},
        {"size": 3},
    ],
    ids=["root", "at", "body", "signatures", "size"],
)
def test_every_column_of_every_head(
    log: Engine, authority: Any, size: int, values: dict[str, Any]
) -> None:
    with Session(log) as session, session.begin():
        session.execute(update(AuditHead).where(AuditHead.size == size).values(values))
    finding = check(exported(log), authority).finding
    assert finding is not None
    assert finding.kind in {Kind.BAD_HEAD, Kind.UNSIGNED}


def test_every_credential(log: Engine, authority: Any) -> None:
    with Session(log) as session:
        digests = session.scalars(select(AuditCredential.digest)).all()
    assert len(digests) == 2
    for digest in digests:
        with Session(log) as session:
            session.execute(delete(AuditCredential).where(AuditCredential.digest == digest))
            found = list(verifier.export_lines(session, "hospital"))
            session.rollback()
        assert shows(found, authority)
