"""JSON with one encoding, exact decimals, and no patience for tricks."""

from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medportal.records.errors import (
    ContentTooDeep,
    DuplicateKey,
    FhirError,
    NotANumber,
    NotJson,
)
from medportal.records.exact_json import decode, encode

plain = st.text(st.characters(exclude_categories=["Cs"]))
digits = st.decimals(-(10**9), 10**9, places=4)
values = st.recursive(
    plain | digits, lambda inner: st.lists(inner) | st.dictionaries(plain, inner), max_leaves=20
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(values)
def test_what_is_encoded_comes_back_digit_for_digit(value: object) -> None:
    data = encode(value)
    assert decode(data) == value
    assert encode(decode(data)) == data


def test_the_form_of_the_bytes() -> None:
    data = encode({"b": [Decimal("5.10"), Decimal("1E+2")], "a": 'é"\n'})
    assert data == '{"a":"é\\"\\n","b":[5.10,100]}'.encode()


@pytest.mark.parametrize("value", [1.5, 1, True, None, b"x", ("a",)])
def test_only_what_records_use_is_encoded(value: object) -> None:
    with pytest.raises(TypeError):
        encode([value])


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", NotJson),
        (b"{", NotJson),
        (b"{}x", NotJson),
        (b"\xff", NotJson),
        (b"\xef\xbb\xbf{}", NotJson),
        (b'"\x01"', NotJson),
        (b"{'a':1}", NotJson),
        (b"01", NotJson),
        (b'{"a":1,"a":1}', DuplicateKey),
        (b'[{"a":1,"b":2,"a":1}]', DuplicateKey),
        (b"NaN", NotANumber),
        (b"[-Infinity]", NotANumber),
        (b"1e5", NotANumber),
        (b"1E999999999", NotANumber),
        (b"1" * 33, NotANumber),
        (b"1" * 100_000, NotANumber),
        (b"0." + b"1" * 40, NotANumber),
        (b"[" * 100_000, ContentTooDeep),
        (b'{"a":' * 50_000, ContentTooDeep),
    ],
)
def test_hostile_bytes_get_a_named_error(data: bytes, error: type[FhirError]) -> None:
    with pytest.raises(error) as caught:
        decode(data)
    assert len(str(caught.value)) < 80
    assert caught.value.__cause__ is None or error is ContentTooDeep
