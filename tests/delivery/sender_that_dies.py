"""A sender for test_crash_points: delivers what is due, and is killed at a named point.

Run as ``python sender_that_dies.py URL POINT``. Outbox and inbox are in one database here, in
transactions of their own, as they are in two institutions.
"""

import os
import signal
import sys
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

from medportal.delivery import inbox, outbox
from medportal.delivery.inbox import Arrival
from medportal.delivery.outbox import Claim, ReceiptFacts
from medportal.delivery.states import DeliveryReason, Outcome
from medportal.tenancy.engines import make_engine

POINTS = (
    "claim-uncommitted",
    "claimed",
    "register-uncommitted",
    "registered",
    "complete-uncommitted",
    "completed",
)


def reached(point: str, dies_at: str) -> None:
    """Die as kill -9 does, if this is the point: no cleanup, no rollback sent, nothing flushed."""
    if point == dies_at:
        os.kill(os.getpid(), signal.SIGKILL)


def arrival_of(claim: Claim) -> Arrival:
    return Arrival(
        sender="laboratory",
        tid=claim.tid,
        digest=claim.digest,
        pseudonym=claim.pseudonym,
        key_id=claim.key_id,
        outcome=Outcome.REGISTERED,
        reason=DeliveryReason.REGISTERED,
        patient_id=claim.patient_id,
        sealed=claim.sealed,
    )


def register(
    begin: sessionmaker[Session], claim: Claim, now: datetime, dies_at: str
) -> ReceiptFacts:
    with begin.begin() as session:
        (done,) = inbox.register(
            session, [arrival_of(claim)], now, lambda grants: [b"receipt"] * len(grants)
        )
        reached("register-uncommitted", dies_at)
    reached("registered", dies_at)
    assert done.grant is not None
    return ReceiptFacts(done.grant.outcome, done.grant.sequence, done.grant.at, b"receipt")


def drain(engine: Engine, worker: str, now: datetime, dies_at: str) -> int:
    """Deliver everything due at ``now``; return how many were."""
    begin, count = sessionmaker(engine), 0
    while True:
        with begin.begin() as session:
            claims = outbox.claim(session, worker, "hospital", now, 4, timedelta(seconds=30))
            reached("claim-uncommitted", dies_at)
        reached("claimed", dies_at)
        for claim in claims:
            facts = register(begin, claim, now, dies_at)
            with begin.begin() as session:
                outbox.complete(session, claim, facts, now)
                reached("complete-uncommitted", dies_at)
            reached("completed", dies_at)
            count += 1
        if not claims:
            return count


if __name__ == "__main__":
    drain(make_engine(sys.argv[1]), "doomed", datetime.fromisoformat(sys.argv[3]), sys.argv[2])
    print(datetime.now(UTC), "nothing killed me")
