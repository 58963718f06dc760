"""The pages that give files: one record, or everything that somebody may read of a patient."""

from collections.abc import Iterator, Sequence
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
from medportal.exports.errors import TooManyExports, TooManyRecords
from medportal.exports.forms import Format, Span, export_schema
from medportal.exports.papers import paper_of
from medportal.exports.pdf import draw
from medportal.exports.service import Packing, Picked
from medportal.identity.fresh import require_fresh
from medportal.patients import service as patients
from medportal.patients.service import PatientDetails
from medportal.vault.stores import documents_of
from medportal.web.errors import error_page
from medportal.web.forms import Form, make_form
from medportal.web.i18n import LANGUAGES, _, time_zone

TYPES = {Format.PDF: "application/pdf", Format.FHIR: RECORD_TYPE}
#: After so many seconds somebody who took a lot along may ask again.
RETRY_AFTER = 3600
ENOUGH = _("You have taken many records along within an hour. Try again in an hour.")


@view_config(
    route_name="record-file",
    permission=Permission.RECORD_EXPORT,
    request_method="GET",
)
def record_file(context: RecordContext, request: Request) -> Response:
    """Give one record, with its older versions, as a file."""
    kind = _kind(request)
    language = _language(request)
    if not context.decision.allows(Permission.RECORD_READ):
        raise HTTPNotFound()
    # Asks for a proof of identity first, where the record does.
    context.grant(Permission.RECORD_READ)
    here = context.patient_context
    picked = service.pick_record(here, request.db, context.record_id)
    if not picked:
        raise HTTPNotFound()
    why = context.why(Permission.RECORD_EXPORT)
    try:
        service.check_pace(request.db, request.identity.person_id, request.now)
    except TooManyExports:
        request.audit(Action.RECORD_EXPORTED, Outcome.DENIED, **why, details={"limit": "hour"})
        response = error_page(request, 429)
        response.headers["Retry-After"] = str(RETRY_AFTER)
        return response
    request.audit(Action.RECORD_EXPORTED, **why, details={"format": str(kind)})
    return _file(here, request, picked, kind, language, is_everything=False)


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
        "form": form,
        "patient": _details(context, request),
        "is_self": context.patient.is_self,
        "most": service.MOST_ON_PAPER,
    }
    if request.method != "POST":
        form.fill(
            {
                "span": str(Span.ALL),
                "format": str(Format.PDF),
                "language": request.locale_name,
            }
        )
        _audit_page(context, request)
        return page
    values = form.validate(request.POST.items())
    if values is None:
        _audit_page(context, request)
        return page
    kind = Format(values["format"])
    try:
        picked = _everything(context, request, kind, Span(values["span"]))
    except (TooManyExports, TooManyRecords) as error:
        _refuse(context, request, form, error)
        return page
    _audit_everything(context, request, picked, kind)
    return _file(context, request, picked, kind, values["language"], is_everything=True)


def _kind(request: Request) -> Format:
    try:
        return Format(request.matchdict["format"])
    except ValueError:
        raise HTTPNotFound() from None


def _language(request: Request) -> str:
    language: str = request.GET.get("language", request.locale_name)
    if language not in LANGUAGES:
        raise HTTPNotFound()
    return language


def _details(context: PatientContext, request: Request) -> PatientDetails:
    scheme = request.tenant.identifiers.scheme
    return patients.details(request.db, context.patient_id, scheme)


def _audit_page(context: PatientContext, request: Request) -> None:
    request.audit(Action.PATIENT_VIEWED, **context.why(Permission.RECORD_EXPORT))


def _everything(
    context: PatientContext, request: Request, kind: Format, span: Span
) -> list[Picked]:
    service.check_pace(request.db, request.identity.person_id, request.now)
    picked = service.pick_all(context, request.db, _since(request, span))
    if kind is Format.PDF:
        service.check_paper(picked)
    return picked


def _since(request: Request, span: Span) -> date | None:
    if span is Span.ALL:
        return None
    today = request.now.astimezone(time_zone(request)).date()
    # The first of the month: there is one in every year.
    return date(today.year - int(span), today.month, 1)


def _refuse(
    context: PatientContext,
    request: Request,
    form: Form,
    error: TooManyExports | TooManyRecords,
) -> None:
    if isinstance(error, TooManyRecords):
        reason = "records"
        words = _(
            "There are more than ${limit} records, too many for one such file. Choose a shorter "
            "time, or FHIR.",
            mapping={"limit": error.limit},
        )
        form.fail("span", words)
    else:
        reason = "hour"
        form.fail(None, ENOUGH)
        request.response.status_int = 429
        request.response.headers["Retry-After"] = str(RETRY_AFTER)
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
            **why,
            object=one.entry.id,
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
    with request.database.reader() as session:
        if kind is Format.FHIR:
            yield from _bundle(request, session, picked, packing)
        else:
            yield _pdf(request, session, patient, picked, packing, is_everything)
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


def _bundle(
    request: Request, session: Session, picked: Sequence[Picked], packing: Packing
) -> Iterator[bytes]:
    documents = documents_of(request.tenant, session)
    opened = packing.opened(session, documents, picked)
    yield from pieces((service.copy_of(one) for one in opened), packing.envelope)


def _pdf(
    request: Request,
    session: Session,
    patient: PatientDetails,
    picked: Sequence[Picked],
    packing: Packing,
    is_everything: bool,
) -> bytes:
    documents = documents_of(request.tenant, session)
    opened = list(packing.opened(session, documents, picked))
    copies = (service.copy_of(one) for one in opened)
    attached = b"".join(pieces(copies, packing.envelope))
    newest = [one for one in opened if one.entry.is_newest]
    paper = paper_of(request, patient, newest, packing, is_everything=is_everything)
    return draw(paper, attached)
