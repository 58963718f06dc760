"""Sending what is due: one connection, mail after mail, each in transactions of its own.

What happens to a mail when something goes wrong:

=============================================  ==========================================
the server cannot be reached or trusted,       every mail stays as it is; nothing is lost,
or refuses our sign-in or our sender           however long it takes (30 days)
the conversation breaks off during a mail      that mail is tried again, ever more seldom
the server puts this mail off, or refuses it   tried again, given up after three days
there is no such mailbox, the address is none, given up at once
or words and parameters of a mail do not fit
the mail has no reason any more                taken out
=============================================  ==========================================
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.message import EmailMessage

import structlog
from sqlalchemy.orm import Session

from medportal.core.clock import Clock
from medportal.mail import outbox
from medportal.mail.addresses import mailbox
from medportal.mail.compose import compose
from medportal.mail.errors import (
    Interrupted,
    LostClaim,
    MailError,
    Problem,
    Refused,
    ServerFault,
    Unsendable,
)
from medportal.mail.kinds import WITH_TOKEN, MailKind, Params
from medportal.mail.outbox import Claimed
from medportal.mail.smtp import Connection, connect
from medportal.tenancy.tenant import Tenant

log = structlog.get_logger()
#: Mails of one connection.
MOST = 20

#: Makes the token of a link and stores its hash: (session, kind, person, params, now).
#: ``None`` says that the mail has no reason any more.
Mint = Callable[[Session, MailKind, str, Params, datetime], str | None]
#: Gives a transaction: commits at the end, rolls back on a raise.
Begin = Callable[[], AbstractContextManager[Session]]


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends for whom. ``id`` is new with each process."""

    id: str
    tenant: Tenant
    mint: Mint
    begin: Begin


def send_due(
    sender: Sender,
    now: datetime,
    *,
    most: int = MOST,
    is_stopping: Callable[[], bool] = lambda: False,
) -> bool:
    """Send up to ``most`` due mails; return whether there may be more.

    Raises ``ServerFault`` or ``Interrupted`` where the server cannot be used: wait before the
    next call.
    """
    if sender.tenant.mail is None:
        return False
    clock = _running_from(now)
    try:
        with connect(sender.tenant.mail) as connection:
            for _number in range(most):
                if is_stopping() or not _send_one(sender, connection, clock):
                    return False
            return True
    except ServerFault as fault:
        log.warning("mail server fault", tenant=sender.tenant.id, problem=fault.problem)
        with sender.begin() as session:
            outbox.note_fault(session, fault.problem, clock())
        raise


def _running_from(now: datetime) -> Clock:
    """Return a clock that stands at ``now`` and runs: a batch may take minutes."""
    start = time.monotonic()
    return lambda: now + timedelta(seconds=time.monotonic() - start)


def _send_one(sender: Sender, connection: Connection, clock: Clock) -> bool:
    """Send the next due mail; return whether there was one."""
    # The server's time runs from before the claim: it ends long before the claim does.
    connection.begin()
    with sender.begin() as session:
        held, token = _take(session, sender, clock())
    if held is None:
        return False
    error = _try(sender, connection, held, token, clock())
    _settle(sender, held, error, clock())
    if isinstance(error, Interrupted | ServerFault):
        raise error
    return True


def _try(
    sender: Sender, connection: Connection, held: Claimed, token: str | None, now: datetime
) -> MailError | None:
    """Hand a mail over; return what went wrong."""
    try:
        message = _composed(held, sender, token, now)
        connection.send(message, mailbox(held.letter.to))
    except MailError as error:
        return error
    return None


def _composed(held: Claimed, sender: Sender, token: str | None, now: datetime) -> EmailMessage:
    """Return the mail in its form; one that has none shall not stop the others."""
    try:
        return compose(held.letter, sender.tenant, token, now)
    except (LookupError, ValueError) as error:
        log.error("mail cannot be composed", mail=held.letter.id, kind=type(error).__name__)
        raise Unsendable(Problem.NOT_COMPOSED) from error


def _take(
    session: Session, sender: Sender, now: datetime
) -> tuple[Claimed, str | None] | tuple[None, None]:
    """Claim a mail and make its token, in one transaction; drop those without a reason."""
    while (held := outbox.claim(session, sender.id, now)) is not None:
        letter = held.letter
        if letter.kind not in WITH_TOKEN:
            return held, None
        token = sender.mint(session, letter.kind, held.person_id or "", letter.params, now)
        if token is not None:
            return held, token
        outbox.drop(session, held)
        log.info("mail dropped", tenant=sender.tenant.id, mail=letter.id, kind=letter.kind)
    return None, None


def _settle(sender: Sender, held: Claimed, error: MailError | None, now: datetime) -> None:
    """Note what came of a mail, and say so in the log without the address."""
    facts = {
        "tenant": sender.tenant.id,
        "mail": held.letter.id,
        "kind": held.letter.kind,
        "attempts": held.attempts,
    }
    try:
        with sender.begin() as session:
            _write(session, held, error, now)
    except LostClaim:
        log.error("mail claim lost", **facts)
        return
    if error is None:
        log.info("mail sent", **facts)
    else:
        log.warning("mail not sent", problem=error.problem, **facts)


def _write(session: Session, held: Claimed, error: MailError | None, now: datetime) -> None:
    match error:
        case None:
            outbox.sent(session, held, now)
        case ServerFault():
            outbox.release(session, held, error.problem, now)
        case Interrupted():
            outbox.retry_later(session, held, error.problem, now, for_ever=True)
        case Refused(final=False):
            outbox.retry_later(session, held, error.problem, now)
        case _:
            outbox.fail(session, held, error.problem, now)
