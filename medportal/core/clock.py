"""Time, always aware and in UTC (PURE)."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def utcnow() -> datetime:
    """Return the current instant, aware, in UTC."""
    return datetime.now(UTC)


def to_micros(moment: datetime) -> int:
    """Return microseconds since the Unix epoch, the form in which signed bytes carry time.

    Raises ``ValueError`` for a naive datetime.
    """
    if moment.tzinfo is None:
        raise ValueError("a naive datetime has no place on the time line")
    delta = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def from_micros(micros: int) -> datetime:
    """Return the aware UTC instant of ``micros`` microseconds since the Unix epoch.

    Raises ``ValueError`` if it lies outside what ``datetime`` can hold.
    """
    try:
        seconds, rest = divmod(micros, 1_000_000)
        return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest)
    except (OverflowError, OSError) as error:
        raise ValueError("instant out of range") from error
