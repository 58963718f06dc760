"""What travels has one encoding, and nothing else is taken for it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medportal.core import canonical
from medportal.delivery.errors import MalformedDelivery
from medportal.delivery.parcel import Parcel, inbox_info, outbox_info

PARCEL = Parcel(b"content", b"statement", "citizen-card", "17645234", "Amanda", "1980-02-03")
NAMES = ("content", "statement", "scheme", "number", "name", "birth")
FIELDS = {name: getattr(PARCEL, name) for name in NAMES}


@given(st.builds(Parcel, st.binary(), st.binary(), st.text(), st.text(), st.text(), st.text()))
def test_a_parcel_comes_back(parcel: Parcel) -> None:
    assert Parcel.from_bytes(parcel.to_bytes()) == parcel


def test_nothing_of_a_parcel_shows() -> None:
    assert repr(PARCEL) == "Parcel()"


@pytest.mark.parametrize("data", [b"", b"\xff", b"not cbor", PARCEL.to_bytes() + b"\0"])
def test_what_is_not_canonical_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedDelivery, match="not a parcel"):
        Parcel.from_bytes(data)


@pytest.mark.parametrize(
    "value",
    [
        [],
        "parcel",
        {},
        FIELDS | {"more": 1},
        {name: value for name, value in FIELDS.items() if name != "birth"},
        dict(enumerate(FIELDS.values())),
    ],
)
def test_other_fields_are_refused(value: object) -> None:
    with pytest.raises(MalformedDelivery, match="not the fields"):
        Parcel.from_bytes(canonical.encode(value))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [None, 1, True, ["x"], {"x": 1}])
def test_fields_of_another_type_are_refused(name: str, value: object) -> None:
    with pytest.raises(MalformedDelivery, match="another type"):
        Parcel.from_bytes(canonical.encode(FIELDS | {name: value}))


def test_text_and_bytes_are_not_taken_for_each_other() -> None:
    for parcel in (replace(PARCEL, content="text"), replace(PARCEL, name=b"bytes")):  # type: ignore[arg-type]
        with pytest.raises(MalformedDelivery):
            Parcel.from_bytes(parcel.to_bytes())


def test_a_seal_is_bound_to_direction_institution_partner_and_row() -> None:
    tid = "a" * 32
    infos = [
        make(one, other, row)
        for make in (outbox_info, inbox_info)
        for one, other in (("hospital", "laboratory"), ("laboratory", "hospital"))
        for row in (tid, "b" * 32)
    ]
    assert len(set(infos)) == 8
    assert outbox_info("ab", "c", tid) != outbox_info("a", "bc", tid)
