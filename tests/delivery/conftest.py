"""Both databases, the people who are moved between them, and a clock that tests turn."""

import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

from medportal.core.ids import new_id
from medportal.delivery import models as _delivery_models  # noqa: F401
from medportal.delivery.inbox import Arrival
from medportal.delivery.outbox import Outgoing
from medportal.delivery.states import DeliveryReason, Outcome
from medportal.patients import models_index as _index_models  # noqa: F401

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Clock:
    """Time that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = START

    def forward(self, **by: float) -> datetime:
        """Move on by ``timedelta(**by)`` and return the new now."""
        self.now += timedelta(**by)
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def begin(engine: Engine) -> "sessionmaker[Session]":
    """``with begin.begin() as session`` is one transaction: commits, or rolls back on a raise."""
    return sessionmaker(engine)


def _outgoing(**values: Any) -> Outgoing:
    record = values.get("record_id") or new_id()
    usual: dict[str, Any] = {
        "partner": "hospital",
        "record_id": record,
        "version": 1,
        "chain": record,
        "patient_id": new_id(),
        "pseudonym": secrets.token_bytes(32),
        "key_id": "k1",
        "digest": secrets.token_bytes(32),
        "sealed": b"sealed to the outbox key",
    }
    return Outgoing(**(usual | values))


@pytest.fixture
def outgoing() -> Callable[..., Outgoing]:
    """Make an outgoing delivery; name what matters, the rest is random."""
    return _outgoing


def _arrival(**values: Any) -> Arrival:
    usual: dict[str, Any] = {
        "sender": "laboratory",
        "tid": new_id(),
        "digest": secrets.token_bytes(32),
        "pseudonym": secrets.token_bytes(32),
        "key_id": "k1",
        "outcome": Outcome.REGISTERED,
        "reason": DeliveryReason.REGISTERED,
        "patient_id": new_id(),
        "sealed": b"sealed to the inbox key",
    }
    return Arrival(**(usual | values))


@pytest.fixture
def arrival() -> Callable[..., Arrival]:
    """Make an arrival; name what matters, the rest is random."""
    return _arrival
