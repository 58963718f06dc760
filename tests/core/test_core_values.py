"""The small values that every room shares."""

from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medportal.core.categories import ORDINARY, Category, is_sensitive
from medportal.core.clock import from_micros, to_micros, utcnow
from medportal.core.errors import ConfigurationError, MedportalError
from medportal.core.identity import Identity
from medportal.core.ids import ID_LENGTH, is_id, new_id
from medportal.core.permissions import Permission, Reach
from medportal.core.reasons import Reason


def test_ids_are_random_and_have_their_shape() -> None:
    made = {new_id() for _ in range(500)}
    assert len(made) == 500
    assert all(is_id(one) and len(one) == ID_LENGTH for one in made)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a" * 31,
        "a" * 33,
        "A" * 32,
        "g" * 32,
        "a" * 32 + "\n",
        " " + "a" * 31,
        "٣" * 32,  # digits, but not these
        "../" + "a" * 29,
    ],
)
def test_what_is_no_id(text: str) -> None:
    assert not is_id(text)


def test_now_is_aware_and_in_utc() -> None:
    assert utcnow().utcoffset() == timedelta(0)


@given(st.datetimes(timezones=st.timezones()))
def test_instants_come_back_to_the_microsecond(moment: datetime) -> None:
    try:
        wanted = moment.astimezone(UTC)
    except OverflowError:  # The first and last day of the calendar, in a zone far away.
        return
    assert from_micros(to_micros(moment)) == wanted


def test_an_instant_is_the_same_in_every_zone() -> None:
    here = datetime(2024, 7, 1, 12, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    assert to_micros(here) == to_micros(here.astimezone(UTC))
    assert to_micros(datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC)) == 1
    assert to_micros(datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)) == -1


def test_a_naive_instant_is_refused() -> None:
    with pytest.raises(ValueError, match="naive"):
        to_micros(datetime(2024, 1, 1))  # noqa: DTZ001


@pytest.mark.parametrize("micros", [10**30, -(10**30), 2**62, -(2**62)])
def test_an_instant_out_of_range_is_refused(micros: int) -> None:
    with pytest.raises(ValueError):
        from_micros(micros)


def test_what_is_not_mapped_is_sensitive() -> None:
    assert {c for c in Category if not is_sensitive(c)} == ORDINARY
    assert is_sensitive("")
    assert is_sensitive("a category of tomorrow")
    assert is_sensitive("Laboratory")
    assert not is_sensitive("laboratory")
    assert is_sensitive(Category.MENTAL_HEALTH)


def test_a_configuration_error_tells_every_problem() -> None:
    error = ConfigurationError("first", "second")
    assert error.problems == ("first", "second")
    assert str(error) == "first; second"
    assert isinstance(error, MedportalError)


def test_an_identity_is_frozen_and_remote_unless_told() -> None:
    identity = Identity("p", "hospital", frozenset({"doctor"}), "s", utcnow())
    assert not identity.on_site
    assert identity.methods == {"password"}
    with pytest.raises(FrozenInstanceError):
        identity.person_id = "another"  # type: ignore[misc]


def test_permissions_are_written_scope_resource_action() -> None:
    assert all(len(p.split(":")) == 3 and p == p.lower() for p in Permission)
    assert set(Reach) == {"any", "assigned", "own"}


def test_reasons_are_codes() -> None:
    assert all(r.replace("-", "").isalpha() and r == r.lower() for r in Reason)
