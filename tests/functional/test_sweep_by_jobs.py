"""Jobs sweep the document store by themselves, in batches, and the audit log hears of it."""

from datetime import timedelta

import pytest
from installation import Installation
from sqlalchemy import func, select

from medportal.audit.events import Event
from medportal.audit.models import AuditEvent
from medportal.core.clock import utcnow
from medportal.core.ids import new_id
from medportal.ops import stores
from medportal.vault.models import Document

HOSPITAL = "hospital"


def test_what_nothing_names_goes_in_two_steps(portal: Installation) -> None:
    now = utcnow()
    lost = [new_id() for _ in range(3)]
    with portal.session(HOSPITAL) as session, session.begin():
        for one in lost:
            made = now - timedelta(days=2)
            session.add(Document(id=one, sealed=b"x" * 40, created_at=made, set_aside_at=None))
    jobs = portal.jobs(HOSPITAL)

    def state(at: timedelta) -> tuple[int, int, int]:
        for _ in range(50):
            if not jobs.turn(now + at):
                break
        with portal.session(HOSPITAL) as session:
            aside = session.scalars(select(Document.set_aside_at).where(Document.id.in_(lost)))
            marks = [mark is not None for mark in aside]
            action = AuditEvent.action == "documents-swept"
            told = session.scalar(select(func.count()).where(action)) or 0
        return len(marks), sum(marks), told

    assert state(timedelta(0)) == (3, 3, 1)
    # Not again on the same day, and a sweep without a change says nothing.
    assert state(timedelta(hours=23)) == (3, 3, 1)
    assert state(timedelta(days=2)) == (3, 3, 1)
    assert state(stores.KEEP + timedelta(days=3)) == (0, 0, 2)


def test_a_sweep_that_ends_between_two_batches_is_in_the_log(
    portal: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = utcnow()
    with portal.session(HOSPITAL) as session, session.begin():
        for _ in range(3):
            made = now - timedelta(days=2)
            row = Document(id=new_id(), sealed=b"x" * 40, created_at=made, set_aside_at=None)
            session.add(row)
    tenant, database = portal.settings.tenant(HOSPITAL), portal.registry.database(HOSPITAL)
    # So that what fits into one batch is not the last one.
    monkeypatch.setattr(stores, "BATCH", 1)
    swept, after = stores.Stores(tenant, database).sweep_part("sql", "", now, "process:jobs")
    assert (swept.set_aside, after is None) == (3, False)
    # Whatever happens to the process now.
    with portal.session(HOSPITAL) as session:
        bodies = session.scalars(
            select(AuditEvent.body).where(AuditEvent.action == "documents-swept")
        )
        told = [Event.from_bytes(body) for body in bodies]
    assert ("process:jobs", 3) in [(one.actor, one.details["set_aside"]) for one in told]
