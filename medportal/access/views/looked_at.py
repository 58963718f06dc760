"""Whom did this account look at? For the report of a breach, on a page and as a table.

Each patient who is named to whoever asks finds that in their access log.
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from pyramid.httpexceptions import HTTPNotFound
from pyramid.request import Request
from pyramid.response import Response
from pyramid.view import view_config

from medportal.access import looked_at
from medportal.access.downloads import attachment, csv_pieces
from medportal.access.looked_at import PAGE, Search, Seen
from medportal.access.period import NoPeriod, Period, asked_period, bounds
from medportal.access.resources import root_of, why_of
from medportal.audit.events import Action
from medportal.core.ids import is_id
from medportal.core.permissions import Permission
from medportal.identity.people import names_of
from medportal.web.i18n import _, format_datetime, time_zone, translate

#: As long as the period of a search is that names no first day.
USUAL = timedelta(days=30)
COLUMNS = (
    _("Patient"),
    _("Done"),
    _("Records read"),
    _("Refused"),
    _("First"),
    _("Last"),
)


@view_config(
    route_name="looked-at",
    permission=Permission.AUDIT_VIEW,
    renderer="medportal.access:templates/looked_at.pt",
    request_method="GET",
)
def page(request: Request) -> dict[str, Any]:
    """List the patients about whom an account did something, by name, with counts."""
    person_id, name = _person(request)
    problem = None
    try:
        period = _period(request)
    except NoPeriod as error:
        problem, period = error.words, _usual(request)
        request.response.status_int = 422
    search = Search(person_id, *bounds(request, period))
    found = looked_at.seen(request.db, search, after=_after(request, search), limit=PAGE + 1)
    shown, more = found[:PAGE], len(found) > PAGE
    request.audit(
        Action.OVERSIGHT_VIEWED,
        object=person_id,
        reasons=why_of(root_of(request).decision, Permission.AUDIT_VIEW)["reasons"],
        details={"list": "looked-at", "count": len(shown)},
    )
    for row in shown:
        _tell(request, Action.OVERSIGHT_VIEWED, Permission.AUDIT_VIEW, row.patient_id)
    may_export = root_of(request).decision.allows(Permission.AUDIT_EXPORT)
    return {
        "person_id": person_id,
        "name": name,
        "problem": problem,
        "typed": {key: request.GET.get(key, "") for key in ("from", "until")}
        if problem
        else {"from": "", "until": "", **period.fields},
        "fields": period.fields,
        "seen": shown,
        "columns": COLUMNS,
        "totals": looked_at.totals(request.db, search),
        "next": shown[-1].patient_id if more else None,
        "is_first": "after" not in request.GET,
        "may_export": may_export,
    }


@view_config(
    route_name="looked-at",
    permission=Permission.AUDIT_EXPORT,
    request_method="GET",
    request_param="format=csv",
)
def download(request: Request) -> Response:
    """Give the whole list as a table."""
    person_id, _name = _person(request)
    try:
        period = _period(request)
    except NoPeriod:
        raise HTTPNotFound() from None
    search = Search(person_id, *bounds(request, period))
    request.audit(
        Action.AUDIT_EXPORTED,
        object=person_id,
        reasons=why_of(root_of(request).decision, Permission.AUDIT_EXPORT)["reasons"],
        details={"list": "looked-at", "format": "csv"},
    )
    for patient_id in looked_at.everybody(request.db, search):
        _tell(request, Action.AUDIT_EXPORTED, Permission.AUDIT_EXPORT, patient_id)
    heads = [translate(request, head) for head in COLUMNS]
    pieces = csv_pieces(heads, _rows(request, search))
    return attachment(pieces, "text/csv", f"looked-at-{request.now:%Y-%m-%d}.csv")


def _tell(request: Request, action: Action, permission: Permission, patient_id: str) -> None:
    """Leave an event for a patient who is named, without saying whose account is looked into."""
    request.audit(
        action,
        patient=patient_id,
        reasons=why_of(root_of(request).decision, permission)["reasons"],
        details={"list": "looked-at"},
    )


def _person(request: Request) -> tuple[str, str]:
    """Return id and name of whose account it is. Raises ``HTTPNotFound`` for nobody."""
    person_id = request.matchdict["person"]
    name = names_of(request.db, [person_id]).get(person_id) if is_id(person_id) else None
    if name is None:
        raise HTTPNotFound()
    return person_id, name


def _period(request: Request) -> Period:
    """Return the period asked for; without a first day, one of usual length."""
    asked = asked_period(request)
    if asked.first is not None:
        return asked
    usual = _usual(request)
    if asked.last is None:
        return usual
    return Period(asked.last - USUAL, asked.last)


def _usual(request: Request) -> Period:
    return Period(request.now.astimezone(time_zone(request)).date() - USUAL)


def _after(request: Request, search: Search) -> tuple[str, str] | None:
    """Return where the page before ended. Raises ``HTTPNotFound`` for nobody on this list.

    It is the id alone: the name is looked up again, so that no name stands in an address.
    """
    patient_id = request.GET.get("after")
    if patient_id is None:
        return None
    found = looked_at.key_of(request.db, search, patient_id) if is_id(patient_id) else None
    if found is None:
        raise HTTPNotFound()
    return found


def _rows(request: Request, search: Search) -> Iterator[list[str]]:
    """Give the rows of the table, read after the request has ended."""
    with request.database.reader() as session:
        for row in looked_at.all_seen(session, search):
            yield _cells(request, row)


def _cells(request: Request, row: Seen) -> list[str]:
    return [
        row.name,
        str(row.done),
        str(row.records),
        str(row.refused),
        format_datetime(request, row.first, seconds=True),
        format_datetime(request, row.last, seconds=True),
    ]
