"""The pages that give files: one record, or everything that somebody may read of a patient."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Any

from pyramid.httpexceptions import HTTPNotFound
from pyramid.interfaces import ILocalizer
from pyramid.request import Request
from pyramid.response import Response
from pyramid.view import view_config
from sqlalchemy.orm import Session

from medportal.access.downloads import attachment
from medportal.access.resources import PatientContext, RecordContext
from medportal.audit.append import append
from medportal.audit.events import Action, Event, Outcome
from medportal.audit.requests import event_of
from medportal.core.permissions import Permission
from medportal.exports import service
from medportal.exports.bundle import RECORD_TYPE, pieces
from medportal.exports.errors import (
    ExportError,
    TooLargeForPaper,
    TooManyExports,
    TooManyRecords,
)
from medportal.exports.forms import Format, Span, export_schema, record_schema
from medportal.exports.papers import paper_of
from medportal.exports.pdf import draw
from medportal.exports.service import Packing, Picked, Source
from medportal.identity.fresh import require_fresh
from medportal.patients import service as patients
from medportal.patients.service import PatientDetails
from medportal.records import store
from medportal.records.presentation import CATEGORY_WORDS
from medportal.vault.documents import DocumentStore
from medportal.vault.stores import documents_of
from medportal.web.forms import Form, make_form
from medportal.web.i18n import _, time_zone

TYPES = {Format.PDF: "application/pdf", Format.FHIR: RECORD_TYPE}
#: After so many seconds somebody who took a lot along may ask again.
RETRY_AFTER = 3600
ENOUGH = _("You have taken many records along within an hour. Try again in an hour.")


@view_config(
    route_name="record-file",
    permission=Permission.RECORD_EXPORT,
    renderer="medportal.exports:templates/export.pt",
)
def record_file(context: RecordContext, request: Request) -> Any:
    """Ask as what kind of file; then give one record, with its older versions."""
    here = context.patient_context
    entry = store.find(request.db, context.patient_id, context.record_id)
    if entry is None or not context.decision.allows(Permission.RECORD_READ):
        raise HTTPNotFound()
    require_fresh(request)
    form = make_form(request, record_schema(), submit=_("Make the file"))
    page = {
        **_page(here, request, form),
        "title": _("Take it along"),
        "record": entry,
        "category": CATEGORY_WORDS[entry.category],
    }
    values = _asked(context, request, form)
    if values is None:
        return page
    kind = Format(values["format"])
    # A proof of identity for one record may have to be younger than for the page.
    for permission in service.ABOUT_A_COPY:
        context.grant(permission)
    try:
        picked = _one(context, request, kind)
    except ExportError as error:
        _refuse(context, request, form, error)
        return page
    why = context.why(Permission.RECORD_EXPORT)
    request.audit(Action.RECORD_EXPORTED, **why, details={"format": str(kind)})
    return _file(here, request, picked, kind, values["language"], is_everything=False)


@view_config(
    route_name="records-export",
    permission=Permission.RECORD_EXPORT,
    renderer="medportal.exports:templates/export.pt",
)
def export(context: PatientContext, request: Request) -> Any:
    """Ask what to take along; then give it to somebody who proved who they are of late."""
    require_fresh(request)
    form = make_form(request, export_schema(), submit=_("Make the file"))
    page = {
        **_page(context, request, form),
        "title": _("Take records along"),
        "record": None,
        "most": service.MOST_ON_PAPER,
    }
    values = _asked(context, request, form)
    if values is None:
        return page
    kind = Format(values["format"])
    try:
        picked = _everything(context, request, kind, Span(values["span"]))
    except ExportError as error:
        _refuse(context, request, form, error)
        return page
    _audit_everything(context, request, picked, kind)
    return _file(context, request, picked, kind, values["language"], is_everything=True)


def _page(context: PatientContext, request: Request, form: Form) -> dict[str, Any]:
    return {
        "form": form,
        "patient": _details(context, request),
        "is_self": context.patient.is_self,
    }


def _asked(
    context: PatientContext | RecordContext, request: Request, form: Form
) -> dict[str, Any] | None:
    """Return what was asked for; ``None`` where the page is to be shown, which is then noted."""
    values: dict[str, Any] | None = None
    if request.method == "POST":
        values = form.validate(request.POST.items())
    else:
        begun = {"format": str(Format.PDF), "language": request.locale_name}
        is_all = isinstance(context, PatientContext)
        form.fill({"span": str(Span.ALL), **begun} if is_all else begun)
    if values is None:
        request.audit(Action.PATIENT_VIEWED, **context.why(Permission.RECORD_EXPORT))
    return values


def _details(context: PatientContext, request: Request) -> PatientDetails:
    scheme = request.tenant.identifiers.scheme
    return patients.details(request.db, context.patient_id, scheme)


def _one(context: RecordContext, request: Request, kind: Format) -> list[Picked]:
    service.check_pace(request.db, request.identity.person_id, request.now)
    picked = service.pick_record(context.patient_context, request.db, context.record_id)
    if not picked:
        raise HTTPNotFound()
    if kind is Format.PDF:
        service.check_paper(request.documents, picked)
    return picked


def _everything(
    context: PatientContext, request: Request, kind: Format, span: Span
) -> list[Picked]:
    service.check_pace(request.db, request.identity.person_id, request.now)
    picked = service.pick_all(context, request.db, _since(request, span))
    if kind is Format.PDF:
        service.check_paper(request.documents, picked)
    return picked


def _since(request: Request, span: Span) -> date | None:
    if span is Span.ALL:
        return None
    today = request.now.astimezone(time_zone(request)).date()
    # The first of the month: there is one in every year.
    return date(today.year - int(span), today.month, 1)


def _refuse(
    context: PatientContext | RecordContext, request: Request, form: Form, error: ExportError
) -> None:
    match error:
        case TooManyRecords(limit=limit) if isinstance(context, PatientContext):
            reason = "records"
            words = _(
                "There are more than ${limit} records, too many for one such file. Choose a "
                "shorter time, or FHIR.",
                mapping={"limit": limit},
            )
            form.fail("span", words)
        case TooManyRecords(limit=limit):
            reason = "versions"
            words = _(
                "This record has more than ${limit} versions, too many for one file.",
                mapping={"limit": limit},
            )
            form.fail(None, words)
        case TooLargeForPaper():
            reason = "paper"
            form.fail("format", _("This is too much for a PDF. Choose FHIR."))
        case TooManyExports():
            reason = "hour"
            form.fail(None, ENOUGH)
            request.response.status_int = 429
            request.response.headers["Retry-After"] = str(RETRY_AFTER)
        case _:
            raise error
    request.audit(
        Action.RECORD_EXPORTED,
        Outcome.DENIED,
        **context.why(Permission.RECORD_EXPORT),
        details={"limit": reason},
    )


def _audit_everything(
    context: PatientContext, request: Request, picked: Sequence[Picked], kind: Format
) -> None:
    """Note the file and each record in it: who asks whether a record left finds it by name."""
    why = context.why(Permission.RECORD_EXPORT)
    newest = service.newest_of(picked)
    details = {"format": str(kind), "count": len(newest)}
    request.audit(Action.RECORD_EXPORTED, **why, details=details)
    for one in newest:
        request.audit(
            Action.RECORD_EXPORTED,
            patient=context.patient_id,
            object=one.entry.id,
            **one.why,
            details={"format": str(kind)},
        )


def _file(
    context: PatientContext,
    request: Request,
    picked: Sequence[Picked],
    kind: Format,
    language: str,
    *,
    is_everything: bool,
) -> Response:
    """Return the file; it is made while it is sent, after the events about it are committed."""
    _speak(request, language)
    patient = _details(context, request)
    packing = Packing(request.keys, request.now)
    made = _made(request, patient, picked, packing, kind, is_everything)
    return attachment(made, TYPES[kind], f"records-{request.now:%Y-%m-%d}.{kind}")


def _speak(request: Request, language: str) -> None:
    """Let the rest of this request, which is the file, be in another language."""
    request.locale_name = language
    request.localizer = request.registry.queryUtility(ILocalizer, name=language)


def _made(
    request: Request,
    patient: PatientDetails,
    picked: Sequence[Picked],
    packing: Packing,
    kind: Format,
    is_everything: bool,
) -> Iterator[bytes]:
    if kind is Format.FHIR:
        yield from _bundle(request, picked, packing)
    else:
        yield _pdf(request, patient, picked, packing, is_everything)
    damaged = dict.fromkeys(entry.id for entry in packing.damaged)
    if not damaged:
        return
    with request.database.writer() as session, session.begin():
        for record_id in damaged:
            append(session, _damage(request, patient.id, record_id))


def _damage(request: Request, patient_id: str, record_id: str) -> Event:
    return event_of(
        request,
        Action.RECORD_EXPORTED,
        Outcome.FAILED,
        patient=patient_id,
        object=record_id,
        details={"damaged": 1},
    )


def _source(request: Request) -> Source:
    """Return what opens the database for a batch: nobody who reads slowly keeps it open."""

    @contextmanager
    def opened() -> Iterator[tuple[Session, DocumentStore]]:
        with request.database.reader() as session:
            yield session, documents_of(request.tenant, session)

    return opened


def _bundle(request: Request, picked: Sequence[Picked], packing: Packing) -> Iterator[bytes]:
    opened = packing.opened(_source(request), picked)
    yield from pieces((service.copy_of(one) for one in opened), packing.envelope)


def _pdf(
    request: Request,
    patient: PatientDetails,
    picked: Sequence[Picked],
    packing: Packing,
    is_everything: bool,
) -> bytes:
    opened = list(packing.opened(_source(request), picked))
    copies = (service.copy_of(one) for one in opened)
    attached = b"".join(pieces(copies, packing.envelope))
    newest = [one for one in opened if one.entry.is_newest]
    paper = paper_of(request, patient, newest, packing, is_everything=is_everything)
    return draw(paper, attached)
