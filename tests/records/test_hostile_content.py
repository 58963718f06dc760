"""Content made to do harm: every text and number of a record replaced, nested, swapped, grown.

Whatever the bytes, there is a named error or a record that reads well: no crash, no hang, and no
message that repeats what was sent.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medportal.records import catalogue as catalogue_module
from medportal.records import exact_json
from medportal.records.catalogue import Catalogue
from medportal.records.content import ClinicalRecord, RecordKind, Subject
from medportal.records.entry import parse_entry
from medportal.records.errors import (
    ContentTooDeep,
    ContentTooLarge,
    DuplicateKey,
    FhirError,
    InvalidContent,
    NotANumber,
    NotJson,
)
from medportal.records.fhir import MAX_BYTES, read, to_fhir

SECRET = "Zyxomorph"
TEXTS = [
    "",
    " ",
    f"{SECRET}\x00",
    f"{SECRET}\x07",
    f"{SECRET}\r\n",
    f"{SECRET}\ud800",
    f"{SECRET}\ue000",
    f"{SECRET}\u202eabc",
    f"{SECRET}\u2066abc",
    f"{SECRET}\u200f",
    f"{SECRET}\U000e0041",
    f"{SECRET}\ufdd0",
    SECRET * 2000,
    f"<script>{SECRET}</script>",
    "../../etc/passwd",
    "0" * 32,
    "9" * 400,
    "2026-02-30",
    "2026-05-01T10:00:00.5+14:00",
    "-999999999-01-01",
    "NaN",
]
OTHERS: list[Any] = [[], {}, [SECRET], {"text": SECRET}, [[[]]]]
NUMBERS = [
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999999999",
    "-0",
    "1E5",
    "0" * 33,
    "9" * 31,
    "1.",
    "+1",
]


def leaves(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Give the path of every text and number."""
    if isinstance(node, dict | list):
        pairs = node.items() if isinstance(node, dict) else enumerate(node)
        for key, value in list(pairs):
            yield from leaves(value, (*path, key))
    else:
        yield path


def with_leaf(content: bytes, path: tuple[Any, ...], value: Any) -> bytes:
    data = node = json.loads(content, parse_float=Decimal, parse_int=Decimal)
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    # A lone surrogate can only be sent as an escape.
    text = exact_json._encode(data)
    return text.encode("utf-8", "surrogatepass")


def refused_or_read(content: bytes) -> None:
    try:
        reading = read(content)
    except FhirError as error:
        assert SECRET not in str(error) and SECRET not in repr(error.__cause__)
    else:
        # What is read is what would be written: nothing else was in the bytes.
        assert reading.record.id and reading.subject.number


@pytest.fixture(params=["laboratory_record", "hospital_record"])
def content(request: pytest.FixtureRequest, subject: Subject, catalogue: Catalogue) -> bytes:
    return to_fhir(request.getfixturevalue(request.param), subject, catalogue)


def test_every_text_and_number_replaced_by_every_hostile_one(content: bytes) -> None:
    for path in leaves(json.loads(content)):
        for value in (*TEXTS, *OTHERS):
            refused_or_read(with_leaf(content, path, value))


def test_escaped_surrogates_are_refused_by_name(content: bytes) -> None:
    for path in leaves(json.loads(content)):
        data = with_leaf(content, path, "SURROGATE").replace(b"SURROGATE", rb"\ud800")
        with pytest.raises(FhirError):
            read(data)


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_that_no_record_uses(content: bytes, number: str) -> None:
    start = content.index(b'"value":', content.index(b"valueQuantity")) + len(b'"value":')
    end = min(content.index(mark, start) for mark in (b"}", b","))
    with pytest.raises(FhirError):
        read(content[:start] + number.encode() + content[end:])


@pytest.mark.parametrize("opening", [b"[", b'{"entry":', b'{"entry":[{"resource":'])
@pytest.mark.parametrize("depth", [10_000, 20_000])
def test_deep_nesting(opening: bytes, depth: int) -> None:
    with pytest.raises(ContentTooDeep):
        read(opening * depth)


def test_nesting_within_a_record(content: bytes) -> None:
    deep: Any = []
    for _ in range(200):
        deep = [deep]
    for path in leaves(json.loads(content)):
        with pytest.raises(FhirError):
            read(with_leaf(content, path, deep))


def test_the_size_is_looked_at_before_anything_else(content: bytes) -> None:
    padded = content[:-1] + b" " * MAX_BYTES + b"}"
    for data in (padded, b"\xff" * (MAX_BYTES + 1), b"9" * (MAX_BYTES + 1)):
        with pytest.raises(ContentTooLarge):
            read(data)
    # Within the limit even a number as long as the content costs nothing.
    with pytest.raises(NotANumber):
        read(b"9" * MAX_BYTES)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", NotJson),
        (b"\x00", NotJson),
        (b"\xff\xfe{\x00}\x00", NotJson),
        (b"\xef\xbb\xbf{}", NotJson),
        (b"{} {}", NotJson),
        (b"{'a':1}", NotJson),
        (b'{"a":1,}', NotJson),
        (b"// a comment\n{}", NotJson),
        (b'{"entry":[],"entry":[]}', DuplicateKey),
        (b"[NaN]", NotANumber),
        (b"null", FhirError),
        (b"true", FhirError),
        (b'"text"', FhirError),
        (b"[]", FhirError),
    ],
)
def test_what_is_not_json_or_not_a_record(data: bytes, error: type[FhirError]) -> None:
    with pytest.raises(error):
        read(data)


def test_every_truncation_is_refused(content: bytes) -> None:
    for end in range(0, len(content), 7):
        with pytest.raises(FhirError):
            read(content[:end])


def test_script_in_a_note_is_a_text_like_any_other(
    laboratory_record: ClinicalRecord, subject: Subject, catalogue: Catalogue
) -> None:
    """It is stored as it was typed; the pages escape it (see tests/functional)."""
    noted = replace(laboratory_record, notes='<script>alert("1")</script> ${7*7} {{7*7}} \\')
    assert read(to_fhir(noted, subject, catalogue)).record.notes == noted.notes


keys = st.sampled_from(
    ["effective", "notes", "diagnosis", "diagnosis_code", "category", "potassium", "hiv"]
    + ["urine-specific-gravity", "base-excess", "blood-pressure.systolic", "constructor", ""]
)


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(RecordKind),
    st.dictionaries(keys, st.text(max_size=40) | st.sampled_from(TEXTS[:12])),
)
def test_any_form_is_read_or_refused_with_places(kind: RecordKind, typed: dict[str, str]) -> None:
    try:
        parse_entry(kind, typed, catalogue_module.load())
    except InvalidContent as invalid:
        assert invalid.problems
        assert SECRET not in str(invalid)


@pytest.mark.parametrize(
    "unit", ["mg/dl", "MG/DL", "mg/dL ", "mmol/l", "mol/L", "%", "", "{INR}", "mg/dL\u200b"]
)
def test_another_unit_is_another_value(
    laboratory_record: ClinicalRecord, subject: Subject, catalogue: Catalogue, unit: str
) -> None:
    potassium = laboratory_record.observations[2]
    wrong = replace(potassium, value=replace(potassium.value, unit=unit))
    record = replace(laboratory_record, observations=(wrong,))
    with pytest.raises(InvalidContent):
        to_fhir(record, subject, catalogue)
