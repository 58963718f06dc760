"""Logging: one JSON object a line on standard error, no personal data.

What is logged are ids, codes, counts and durations. Nothing that somebody typed, no name, no
number, no content, no key; a test greps the logs for a marker typed into a diagnosis.
"""

import json
import logging
import sys
from datetime import UTC, datetime

import structlog


class LibraryFormatter(logging.Formatter):
    """Makes one JSON object of what a library logs, without the values that it puts into words.

    A driver's message can quote a statement and what stands in it. So of a message with values
    only its pattern is told, of one that was put together before only that there was one; and of
    an exception its kind.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line: who spoke, how loudly, from which place, and the pattern."""
        said: dict[str, object] = {
            "event": "library",
            "level": record.levelname.lower(),
            "library": record.name,
            "place": f"{record.module}:{record.lineno}",
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
        }
        if record.args and isinstance(record.msg, str):
            said["pattern"] = record.msg
        if record.exc_info and record.exc_info[0]:
            said["kind"] = record.exc_info[0].__name__
        return json.dumps(said, sort_keys=True)


def configure_logging(level: int = logging.INFO) -> None:
    """Configure structlog for this process, and what libraries log where no ini file says so."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(LibraryFormatter())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(sort_keys=True),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_on_standard_error,
        cache_logger_on_first_use=False,
    )


def _on_standard_error(*_names: object) -> structlog.PrintLogger:
    # Standard output belongs to what a command was asked for, such as --json.
    return structlog.PrintLogger(sys.stderr)
