"""All sessions of an institution at once: for the day when many of them may be stolen."""

import re
from datetime import datetime

from medportal.audit.append import append
from medportal.audit.events import COMMAND_LINE, Action, Event
from medportal.core.errors import ConfigurationError
from medportal.identity.sessions import end_everybodys_sessions
from medportal.tenancy.registry import Database

#: Reasons are codes, since the audit log names nobody.
_REASON = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


def end_all_sessions(database: Database, reason: str, now: datetime) -> int:
    """Sign everybody out, with one audit event for all; return how many sessions there were.

    Everybody can sign in again at once. Raises ``ConfigurationError`` for a reason that is no
    short code.
    """
    if not _REASON.fullmatch(reason):
        raise ConfigurationError("the reason is a short code, such as stolen-device")
    with database.writer() as session, session.begin():
        count = end_everybodys_sessions(session)
        append(
            session,
            Event.create(
                Action.SESSION_ENDED,
                now=now,
                actor=COMMAND_LINE,
                details={"by": "command-line", "count": count, "reason": reason},
            ),
        )
    return count
