"""Logging: one JSON object a line on standard error, no personal data.

What is logged are ids, codes, counts and durations. Nothing that somebody typed, no name, no
number, no content, no key; a test greps the logs for a marker typed into a diagnosis.
"""

import logging
import sys

import structlog


def configure_logging(level: int = logging.INFO) -> None:
    """Configure structlog for this process."""
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
