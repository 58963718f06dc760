"""Handing the audit log out: the whole log for the verifier, or what fits as FHIR.

The event about it commits before the first line leaves. What is handed out is read page by page
while it is sent: nothing of the log's length is held in memory.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from pyramid.request import Request
from pyramid.response import Response
from pyramid.view import view_config

from medportal.access.downloads import attachment
from medportal.admin.forms_audit import Format, export_schema
from medportal.admin.views.audit import filter_of, why
from medportal.audit.events import Action
from medportal.audit.fhir import to_fhir
from medportal.audit.search import Cursor, Query, find
from medportal.audit.verifier import export_lines
from medportal.core.clock import utcnow
from medportal.core.permissions import Permission
from medportal.identity.fresh import require_fresh
from medportal.tenancy.registry import Database
from medportal.web.forms import make_form
from medportal.web.i18n import _

TYPES = {Format.LINES: "application/jsonl", Format.FHIR: "application/fhir+ndjson"}
#: How many events are read at a time.
PAGE = 500
ENDINGS = {Format.LINES: "jsonl", Format.FHIR: "ndjson"}


@view_config(
    route_name="audit-export",
    permission=Permission.AUDIT_EXPORT,
    renderer="medportal.admin:templates/audit_export.pt",
)
def export(request: Request) -> Any:
    """Ask what to export; then send it, audited, to somebody who proved who they are of late."""
    require_fresh(request)
    posted = request.method == "POST"
    wanted = filter_of({} if posted else request.GET)
    form = make_form(
        request,
        export_schema(["person", "patient", "action", "outcome", "since", "until"]),
        submit=_("Export"),
        action=request.route_path("audit-export"),
    )
    if not posted:
        form.fill({"format": str(Format.LINES), **wanted.fields})
        return {"form": form, "is_filtered": bool(wanted.fields)}
    values = form.validate(request.POST.items())
    if values is None:
        return {"form": form, "is_filtered": False}
    kind = Format(values.pop("format"))
    wanted = filter_of(values)
    # A whole log is about everybody; only what was picked out is about one patient.
    patient = wanted.patient or None if kind is Format.FHIR else None
    request.audit(
        Action.AUDIT_EXPORTED,
        patient=patient,
        details={"format": str(kind), **(wanted.fields if kind is Format.FHIR else {})},
        **why(request, Permission.AUDIT_EXPORT),
    )
    return _answer(request, kind, wanted.query(request.tenant.time_zone))


def _answer(request: Request, kind: Format, query: Query) -> Response:
    tenant = request.tenant.id
    lines = (
        whole_log(request.database, tenant)
        if kind is Format.LINES
        else fhir_lines(request.database, tenant, query)
    )
    name = f"{tenant}-audit-{utcnow():%Y%m%dT%H%M%SZ}.{ENDINGS[kind]}"
    return attachment(encoded(lines), TYPES[kind], name)


def whole_log(database: Database, tenant: str) -> Iterator[str]:
    """Give the lines that the verifier reads, from a transaction of their own."""
    with database.reader() as session:
        yield from export_lines(session, tenant)


def fhir_lines(database: Database, tenant: str, query: Query) -> Iterator[str]:
    """Give a FHIR AuditEvent a line, newest first, each page from a transaction of its own."""
    after: Cursor | None = None
    while True:
        with database.reader() as session:
            page = find(session, query, after=after, limit=PAGE)
        for event in page.events:
            yield json.dumps(to_fhir(event, tenant), ensure_ascii=False, separators=(",", ":"))
        after = page.next
        if after is None:
            return


def encoded(lines: Iterable[str]) -> Iterator[bytes]:
    """Give lines as bytes, each with its end."""
    return (line.encode("utf-8") + b"\n" for line in lines)
