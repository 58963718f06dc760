"""Quick ways of writing and reading a record, and the plain ones: the same bytes, the same words.

Records that exist are signed, so that what is written may not change by a byte.
"""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from records_plainly import plainly_written  # noqa: E402

from medportal.core.categories import Category  # noqa: E402
from medportal.records import exact_json  # noqa: E402
from medportal.records.catalogue import Catalogue  # noqa: E402
from medportal.records.content import (  # noqa: E402
    BloodPressure,
    ClinicalRecord,
    Coded,
    Observation,
    Quantity,
    RecordKind,
    RecordStatus,
    Sex,
    Subject,
    is_loinc,
)
from medportal.records.errors import FhirError, NotCanonicalRecord  # noqa: E402
from medportal.records.exact_json import Form, Gap, decode, decode_to_compare  # noqa: E402
from medportal.records.fhir import Reading, _read, _read_quickly, read, to_fhir  # noqa: E402
from medportal.records.fhir_write import (  # noqa: E402
    BLOOD_TYPE_CODE,
    OBSERVATION_CATEGORIES,
    Shown,
    bundle,
    full_url,
)
from medportal.records.interpret import Interpretation  # noqa: E402

ids = st.text("0123456789abcdef", min_size=32, max_size=32)
# Whatever a text may hold: quotes, controls, percent signs and braces as patterns have them.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    ['"', "\\", "%s", "%(name)s", "%%", "{name}", "\x00\x1f\x7f", "é\u2028\U0001f600", "\n\t"]
)
numbers = st.decimals(-(10**9), 10**9, places=4) | st.sampled_from(
    [Decimal(number) for number in ("5.0", "5.00", "5", "0.000", "100", "1E+3", "1E-12", "-0.10")]
)
limits = st.none() | numbers
moments = st.dates() | st.datetimes(
    datetime(1900, 1, 2), datetime(9999, 1, 1), timezones=st.just(UTC)
)
meanings = st.sampled_from(Interpretation)
plain_shown = st.builds(
    Shown,
    name=texts,
    also=st.lists(texts, max_size=3).map(tuple),
    category=st.sampled_from(sorted(OBSERVATION_CATEGORIES.values())) | texts,
    unit_text=st.just("") | texts,
    low=limits,
    high=limits,
    interpretation=meanings,
)
quantities = st.tuples(st.builds(Quantity, numbers, texts), plain_shown)
answers = st.tuples(st.builds(Coded, texts), plain_shown)
pressures = st.tuples(
    st.builds(BloodPressure, numbers, numbers),
    st.builds(
        lambda whole, *parts: replace(whole, components=parts),
        *[plain_shown] * 3,
    ),
)
observed = st.lists(
    st.tuples(st.just(BLOOD_TYPE_CODE) | texts, quantities | answers | pressures), max_size=4
)
records = st.builds(
    ClinicalRecord,
    id=ids,
    version=st.integers(1, 999_999_999),
    kind=st.sampled_from(RecordKind),
    category=st.sampled_from(Category),
    status=st.sampled_from(RecordStatus),
    effective=moments,
    author_id=texts,
    author_name=texts,
    institution=texts,
    diagnosis=st.none() | texts,
    notes=st.none() | texts,
    replaces=st.none() | texts,
    change_reason=st.none() | texts,
    diagnosis_code=st.none() | texts,
)
subjects = st.builds(
    Subject,
    identifier_scheme=texts,
    number=texts,
    name=texts,
    birth_date=st.dates(),
    sex=st.sampled_from(Sex),
)
slow = settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])


@slow
@given(records, subjects, observed)
def test_forms_write_what_the_plain_way_writes(
    record: ClinicalRecord, subject: Subject, seen: list[Any]
) -> None:
    record = replace(
        record, observations=tuple(Observation(code, value) for code, (value, _) in seen)
    )
    shown = tuple(beside for _, (_, beside) in seen)
    assert bundle(record, subject, shown).encode() == plainly_written(record, subject, shown)


@given(ids, st.integers(1, 999_999_999), st.text(st.characters(exclude_categories=["Cs"])))
def test_an_address_is_the_name_based_uuid_of_the_standard(
    record_id: str, version: int, name: str
) -> None:
    record = ClinicalRecord(
        record_id, version, RecordKind.MEDICAL, Category.LABORATORY, RecordStatus.FINAL,
        date(2026, 5, 1), "a" * 32, "Paulo Marques", "laboratory",
    )  # fmt: skip
    assert full_url(record, name) == f"urn:uuid:{uuid5(UUID(record_id), f'{version}/{name}')}"


@pytest.fixture(params=["laboratory_record", "hospital_record"])
def content(request: pytest.FixtureRequest, subject: Subject, catalogue: Catalogue) -> bytes:
    return to_fhir(request.getfixturevalue(request.param), subject, catalogue)


def test_a_sound_record_is_read_quickly_and_as_with_care(content: bytes) -> None:
    reading = _read_quickly(content)
    assert reading is not None
    assert reading == _read(content)
    # 5.0 and 5.00 are equal, but not the same.
    assert repr(reading) == repr(_read(content))


def agree(content: bytes) -> bool:
    """Fail unless reading says what careful reading says; tell whether there is a record."""
    try:
        expected: Reading = _read(content)
    except FhirError as refused:
        with pytest.raises(type(refused)) as caught:
            read(content)
        assert str(caught.value) == str(refused)
        assert _read_quickly(content) is None
        return False
    assert repr(read(content)) == repr(expected) == repr(_read_quickly(content))
    return True


OTHERS = [None, True, {}, [], "", "x", Decimal("5.00"), [None], {"x": None}, ["x", "x"], "\u202e"]


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Give the path of everything below a node, whole objects and lists too."""
    pairs = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in pairs:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


def changed(content: bytes, path: tuple[Any, ...], change: Any) -> bytes:
    data = node = json.loads(content, parse_float=Number, parse_int=Number)
    for key in path[:-1]:
        node = node[key]
    change(node, path[-1])
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return re.sub(r'"number:([^"]*)"', r"\1", text).encode("utf-8", "surrogatepass")


class Number(str):
    """A number, digit for digit, as a text that is recognised again."""

    def __new__(cls, digits: str) -> "Number":
        return super().__new__(cls, f"number:{digits}")


def test_whatever_is_put_or_missing_anywhere_is_refused_in_the_same_words(content: bytes) -> None:
    assert changed(content, ("type",), lambda node, key: None) == content
    paths = list(places(json.loads(content)))
    without = [changed(content, path, lambda node, key: node.pop(key)) for path in paths]
    # A record may do without its notes, an observation without its range, a quantity its unit.
    assert 0 < sum(map(agree, without)) < len(paths) / 4
    for at, path in enumerate(paths):
        # Each value comes to stand at every kind of place in turn.
        for value in (None, OTHERS[at % len(OTHERS)], OTHERS[(at // 7 + 5) % len(OTHERS)]):
            other = changed(content, path, lambda node, key, value=value: put(node, key, value))
            assert not agree(other) or value is not None


def put(node: Any, key: Any, value: Any) -> None:
    node[key] = Number("5.00") if isinstance(value, Decimal) else value


@pytest.mark.parametrize("name", ["notes", "conclusion", "extension", "component", "valueQuantity"])
def test_a_member_that_is_null_is_none_that_is_absent(content: bytes, name: str) -> None:
    for place in range(len(json.loads(content)["entry"])):
        path = ("entry", place, "resource", name)
        assert not agree(changed(content, path, lambda node, key: node.update({key: None})))


def test_a_member_named_twice_is_called_so_though_quick_reading_sees_one(content: bytes) -> None:
    for old, new in (
        (b'"type":"collection"', b'"type":"x","type":"collection"'),
        (b'"name":', b'"name":[],"name":'),
        (b'"status":', b'"status":"x","status":'),
        (b'"unit":', b'"unit":"x","unit":'),
    ):
        assert old in content
        assert not agree(content.replace(old, new))


@settings(deadline=None, max_examples=300)
@given(st.integers(0, 10**6), st.binary(max_size=2), st.integers(0, 2))
def test_changed_bytes_are_read_or_refused_alike(place: int, put: bytes, taken: int) -> None:
    written = (Path(__file__).parent / "written_before" / "laboratory_record.json").read_bytes()
    place %= len(written)
    agree(written[:place] + put + written[place + taken :])


def test_another_order_or_form_of_the_same_is_refused(content: bytes) -> None:
    data = json.loads(content)
    for other in (
        content.replace(b'{"entry"', b'{ "entry"'),
        content + b"\n",
        content.replace(b'"type":"collection"', b'"type":"collect\\u0069on"'),
        json.dumps(data, ensure_ascii=False).encode(),
    ):
        assert not agree(other)
    with pytest.raises(NotCanonicalRecord):
        read(content + b"\n")


def test_more_digits_are_another_record(content: bytes) -> None:
    more = re.sub(rb'"value":([0-9]+\.[0-9])}', rb'"value":\g<1>0}', content)
    assert more != content and agree(more)


plain = st.recursive(
    texts, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=10
)


@given(plain, texts, texts)
def test_a_form_is_written_like_its_value(value: Any, name: str, filled: str) -> None:
    # A form leaves out what holds nothing; no record has an empty list or map.
    assume(not _has_empty(value))
    form = Form({"whole": [value], name: Gap("gap")})
    whole = {"whole": [value], name: filled}
    assert form.fill(gap=exact_json.text(filled)).encode() == exact_json.encode(whole)


def _has_empty(value: Any) -> bool:
    parts = value.values() if isinstance(value, dict) else value if type(value) is list else "x"
    return not parts or (type(parts) is not str and any(map(_has_empty, parts)))


def test_what_is_not_filled_is_left_out_with_what_holds_nothing_else() -> None:
    form = Form({"a": [{"b": Gap("one")}, Gap("two")], "c": {"d": Gap("three")}, "e": "x"})
    whole = '{"a":[{"b":1},2],"c":{"d":3},"e":"x"}'
    assert form.fill(one="1", two="2", three="3") == whole
    assert form.fill_some(one="1", two="2", three="3") == whole
    assert form.fill_some(one=None, two="2", three=None) == '{"a":[2],"e":"x"}'
    assert form.fill_some(three="3") == '{"c":{"d":3},"e":"x"}'
    assert form.fill_some() == '{"e":"x"}'
    assert Form([Gap("one")]).fill_some() == ""
    with pytest.raises(KeyError):
        form.fill(one="1", two="2")


@settings(deadline=None)
@given(st.binary(max_size=60) | st.text('{}[]",:ab01.-eE', max_size=30).map(str.encode))
def test_quick_decoding_differs_in_nothing_but_members_named_twice(data: bytes) -> None:
    try:
        expected = decode(data)
    except FhirError as refused:
        try:
            decode_to_compare(data)
        except FhirError as alike:
            assert type(alike) is type(refused)
        else:
            assert type(refused).__name__ == "DuplicateKey"
    else:
        assert repr(decode_to_compare(data)) == repr(expected)


@pytest.mark.parametrize(
    ("code", "is_one"),
    [
        ("2823-3", True),
        ("2823-4", False),
        ("85354-9", True),
        ("12345678-1", False),
        ("-1", False),
        ("2823-33", False),
        ("2823-3\n", False),
        ("\u0662823-3", False),
        ("2823-\u00b3", False),
        ("2823", False),
        ("", False),
        (2823, False),
        (["2823-3"], False),
    ],
)
def test_the_check_digit_of_a_code(code: object, is_one: bool) -> None:
    assert is_loinc(code) is is_one
    assert is_loinc(code) is is_one
