"""The author's statement and the sealed content."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from medportal.core import canonical
from medportal.core.canonical import NotCanonical
from medportal.core.categories import Category
from medportal.records.errors import StatementError, StatementMismatch
from medportal.records.statement import SealedContent, digest, read_statement, statement_fields

CONTENT = b'{"resourceType":"Bundle"}'
CREATED = datetime(2026, 5, 4, 9, 30, 0, 5, tzinfo=UTC)
EXPECTED: dict[str, Any] = {
    "record_id": "1" * 32,
    "version": 1,
    "institution": "laboratory",
    "author_id": "2" * 32,
    "category": Category.LABORATORY,
}


def fields(**changes: object) -> dict[str, object]:
    made = statement_fields(
        CONTENT, "1" * 32, 1, "laboratory", "2" * 32, Category.LABORATORY, CREATED
    )
    return {**made, **changes}


def test_a_statement_is_read_back_from_canonical_bytes() -> None:
    carried = canonical.decode(canonical.encode(fields()))
    statement = read_statement(carried, CONTENT, **EXPECTED)
    assert statement.created_at == CREATED
    assert statement.digest == digest(CONTENT)
    assert {name: getattr(statement, name) for name in EXPECTED} == EXPECTED


def test_the_digest_is_sha_256() -> None:
    assert digest(b"abc").hex().startswith("ba7816bf8f01cfea414140de5dae2223")


def test_time_is_the_instant_and_not_its_zone() -> None:
    lisbon = CREATED.astimezone(timezone(timedelta(hours=1)))
    made = statement_fields(
        CONTENT, "1" * 32, 1, "laboratory", "2" * 32, Category.LABORATORY, lisbon
    )
    assert made == fields()
    with pytest.raises(ValueError, match="naive"):
        statement_fields(
            CONTENT, "1" * 32, 1, "x", "2" * 32, Category.LABORATORY, datetime(2026, 5, 4)
        )


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("record_id", {"record": "3" * 32}),
        ("version", {"version": 2}),
        ("institution", {"institution": "hospital"}),
        ("author_id", {"author": "3" * 32}),
        ("category", {"category": "genetics"}),
        ("digest", {"digest": digest(CONTENT + b" ")}),
    ],
)
def test_a_statement_about_something_else_is_refused(field: str, change: dict[str, object]) -> None:
    with pytest.raises(StatementMismatch) as caught:
        read_statement(fields(**change), CONTENT, **EXPECTED)
    assert caught.value.field == field


def test_one_changed_byte_of_content_is_refused() -> None:
    changed = CONTENT.replace(b"B", b"b")
    with pytest.raises(StatementMismatch, match="digest"):
        read_statement(fields(), changed, **EXPECTED)


@pytest.mark.parametrize(
    "bad",
    [
        fields(version=True),
        fields(digest="00"),
        fields(extra=1),
        {},
        fields(record="short"),
        fields(author="short"),
        fields(category="poetry"),
        fields(created=2**63),
    ],
)
def test_what_is_no_statement_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(StatementError):
        read_statement(bad, CONTENT, **EXPECTED)


def test_sealed_content_round_trip() -> None:
    sealed = SealedContent(CONTENT, b"signed")
    assert SealedContent.from_bytes(sealed.to_bytes()) == sealed


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", NotCanonical),
        (canonical.encode(["x"]), StatementError),
        (canonical.encode({"content": b"", "statement": b""}), StatementError),
        (
            canonical.encode({"content": b"", "statement": b"", "format": "another"}),
            StatementError,
        ),
    ],
)
def test_what_is_no_sealed_content_is_refused(data: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        SealedContent.from_bytes(data)
