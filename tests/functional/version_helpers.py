"""Records that were entered, and the ways to make later versions of them."""

from typing import Any

from sqlalchemy import select
from test_records import enter_record
from webtest import TestResponse

from medportal.audit.events import Event
from medportal.audit.models import AuditEvent
from medportal.records.models import Record, RecordVersion


def entered(portal: Any, tenant: str = "hospital", **values: str) -> str:
    """Enter a record as the one who does that there; return the path of its page."""
    role = "doctor" if tenant == "hospital" else "responsible"
    _browser, page = enter_record(portal, role, tenant, **{"effective": "03/02/2026", **values})
    return str(page.request.path)


def amend(browser: Any, path: str, **values: str) -> TestResponse:
    """Send the form of a later version, changed so; return the answer."""
    return send(browser.get(f"{path}/amend"), **values)


def send(page: TestResponse, **values: str) -> TestResponse:
    """Send the form of a page that was opened before."""
    form = page.forms["form"]
    form["status"] = "corrected"
    form["change_reason"] = "A slip of the pen."
    for name, value in values.items():
        form[name] = value
    return form.submit(expect_errors=True)


def retract(browser: Any, path: str, reason: str = "Entered for nobody.") -> TestResponse:
    """Take a record back; return the answer."""
    form = browser.get(f"{path}/retract").forms["form"]
    form["change_reason"] = reason
    return form.submit(expect_errors=True)


def versions_of(portal: Any, path: str, tenant: str = "hospital") -> list[RecordVersion]:
    """Return the index rows of a record's versions, oldest first."""
    with portal.session(tenant) as session:
        query = select(RecordVersion).where(RecordVersion.record_id == path.rsplit("/", 1)[1])
        return list(session.scalars(query.order_by(RecordVersion.version)))


def record_of(portal: Any, path: str, tenant: str = "hospital") -> Record:
    """Return the index row of a record."""
    with portal.session(tenant) as session:
        return session.scalars(select(Record).where(Record.id == path.rsplit("/", 1)[1])).one()


def events_about(portal: Any, path: str, tenant: str = "hospital") -> list[Event]:
    """Return the events about a record, oldest first."""
    with portal.session(tenant) as session:
        rows = session.scalars(
            select(AuditEvent.body)
            .where(AuditEvent.object == path.rsplit("/", 1)[1])
            .order_by(AuditEvent.at, AuditEvent.id)
        )
        return [Event.from_bytes(body) for body in rows]
