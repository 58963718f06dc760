"""The history of a record: every version that is held, who made it and why, and what changed."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from pyramid.httpexceptions import HTTPNotFound
from pyramid.request import Request
from pyramid.view import view_config

from medportal.access.decisions import Decision
from medportal.access.grants import mint
from medportal.access.resources import RecordContext, why_of
from medportal.access.standing import is_standing
from medportal.audit.events import Action, Outcome
from medportal.core.obligations import Obligation
from medportal.core.permissions import Permission
from medportal.core.reasons import Reason
from medportal.patients import service as patients
from medportal.records import catalogue as catalogues
from medportal.records import service, store
from medportal.records.changes import changes
from medportal.records.errors import RecordDamaged
from medportal.records.presentation import (
    CATEGORY_WORDS,
    STATUSES,
    institution_name,
    rows_of,
)
from medportal.records.presentation_changes import ChangeRow, change_rows
from medportal.records.service import Opened
from medportal.records.views.deliveries import of_version
from medportal.records.views.subjects import scheme_of


@dataclass(frozen=True, slots=True)
class Told:
    """One version as the history tells it; ``opened`` is ``None`` if it is damaged.

    ``changed`` is ``None`` where there is nothing to compare it with: the first one, or one
    whose predecessor is not to be seen. ``follows_nothing`` tells that its predecessor never
    came.
    """

    entry: store.IndexEntry
    tag: tuple[str, Any] | None
    opened: Opened | None
    changed: list[ChangeRow] | None
    follows_nothing: bool


@view_config(
    route_name="record-versions",
    permission=Permission.RECORD_READ,
    request_method="GET",
    renderer="medportal.records:templates/versions.pt",
)
def versions_page(context: RecordContext, request: Request) -> dict[str, Any]:
    """Show the versions of a record that the person may read, newest first."""
    newest = store.find(request.db, context.patient_id, context.record_id)
    if newest is None:
        raise HTTPNotFound()
    # Who has to prove first who they are is asked to, in place of an empty page.
    context.grant(Permission.RECORD_READ)
    # A page shows so many and looks at one more, with which the last is compared.
    found = list(islice(_readable(context, request, _before(request)), store.PAGE + 1))
    opened = {entry.version: _opened(context, request, entry) for entry in found}
    page = found[: store.PAGE]
    return {
        **_about(context, request, newest),
        "versions": [_told(context, request, entry, opened) for entry in page],
        "next": page[-1].version if len(found) > store.PAGE else None,
        "is_first_page": request.GET.get("before") is None,
    }


@view_config(
    route_name="record-version",
    permission=Permission.RECORD_READ,
    request_method="GET",
    renderer="medportal.records:templates/version.pt",
)
def version_page(context: RecordContext, request: Request) -> dict[str, Any]:
    """Show one version as it was, and what it changed.

    Decided about from what it says itself and from what the record says now.
    """
    version = int(request.matchdict["version"])
    entry = store.find_version(request.db, context.patient_id, context.record_id, version)
    if entry is None or _is_shut(context.decision, entry):
        raise HTTPNotFound()
    context.grant(Permission.RECORD_READ)
    opened = {version: _opened(context, request, entry)}
    before = _version(context, request, version - 1)
    if before is not None and _may_list(context, before):
        opened[before.version] = _opened(context, request, before)
    told = _told(context, request, entry, opened)
    reading = told.opened.reading if told.opened else None
    return {
        **_about(context, request, entry),
        "told": told,
        "opened": told.opened,
        "rows": rows_of(request, reading, catalogues.load()) if reading else [],
        "deliveries": of_version(context, request, entry),
    }


def _about(context: RecordContext, request: Request, entry: store.IndexEntry) -> dict[str, Any]:
    return {
        "entry": entry,
        "title": CATEGORY_WORDS[entry.category],
        "origin": institution_name(request, entry.origin),
        "patient": patients.details(request.db, context.patient_id, scheme_of(request)),
        "is_self": context.patient_context.patient.is_self,
    }


def _readable(
    context: RecordContext, request: Request, before: int | None
) -> Iterator[store.IndexEntry]:
    """Give the versions that the person may read; the others are left out like any record."""
    while True:
        found = store.versions(request.db, context.patient_id, context.record_id, before=before)
        yield from (entry for entry in found if _may_list(context, entry))
        if len(found) < store.PAGE:
            return
        before = found[-1].version


def _may_list(context: RecordContext, entry: store.IndexEntry) -> bool:
    decision = context.patient_context.record_decision(store.facts_of(entry))
    asks_first = decision.demands(Permission.RECORD_READ, Obligation.CONFIRM_FIRST)
    return decision.allows(Permission.RECORD_READ) and not (asks_first or _is_shut(decision, entry))


def _is_shut(decision: Decision, entry: store.IndexEntry) -> bool:
    """Tell whether a version is what a record said before it was taken back, shut for the asker.

    It may have been about somebody else, of whom the patient and those who stand for them shall
    not read. It stays open to its author, and to those who look after the patient.
    """
    because = decision.because[Permission.RECORD_READ]
    return entry.is_taken_back_since and not (Reason.AUTHOR in because or is_standing(because))


def _before(request: Request) -> int | None:
    """Return the last version of the page before."""
    text = request.GET.get("before")
    if text is None:
        return None
    if store.VERSION.fullmatch(text) is None:
        raise HTTPNotFound()
    return int(text)


def _version(context: RecordContext, request: Request, version: int) -> store.IndexEntry | None:
    return store.find_version(request.db, context.patient_id, context.record_id, version)


def _opened(context: RecordContext, request: Request, entry: store.IndexEntry) -> Opened | None:
    """Open a version on a decision about itself, and note that; ``None`` if it is damaged."""
    decision = context.patient_context.record_decision(store.facts_of(entry))
    grant = mint(
        request.identity,
        decision,
        Permission.RECORD_READ,
        context.patient_id,
        request.now,
        entry.id,
    )
    about: dict[str, Any] = {
        "patient": context.patient_id,
        "object": entry.id,
        **why_of(decision, Permission.RECORD_READ),
    }
    details: dict[str, str | int] = {"version": entry.version}
    try:
        opened = service.open_record(request.db, request.documents, request.keys, grant, entry)
    except RecordDamaged as error:
        details["damaged"] = error.code
        request.audit(Action.RECORD_READ, Outcome.FAILED, **about, details=details)
        return None
    request.audit(Action.RECORD_READ, **about, details=details)
    return opened


def _told(
    context: RecordContext,
    request: Request,
    entry: store.IndexEntry,
    opened: dict[int, Opened | None],
) -> Told:
    this, before = opened.get(entry.version), opened.get(entry.version - 1)
    changed = None
    if this is not None and before is not None:
        found = changes(before.reading, this.reading)
        changed = change_rows(request, found, catalogues.load(), this.reading)
    is_later = entry.version > 1
    never_came = is_later and _version(context, request, entry.version - 1) is None
    # What was signed tells how it stands; the index did not always know.
    status = this.reading.record.status if this else entry.status
    return Told(entry, STATUSES.get(status), this, changed, never_came)
