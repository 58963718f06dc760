"""Entering a new record."""

from typing import Any
from zoneinfo import ZoneInfo

from pyramid.httpexceptions import HTTPSeeOther
from pyramid.request import Request
from pyramid.view import view_config

from medportal.access.resources import PatientContext
from medportal.audit.events import Action, Outcome
from medportal.core.permissions import Permission
from medportal.delivery import outbox
from medportal.delivery.states import DeliveryReason, DeliveryState
from medportal.patients import service as patients
from medportal.records import catalogue as catalogues
from medportal.records import service, store
from medportal.records.content import RecordKind, Sex, age_on
from medportal.records.entry import form_fields, parse_entry
from medportal.records.errors import InvalidContent
from medportal.records.forms import (
    MARK_WORDS,
    RECORD_ID,
    record_schema,
    show_problems,
    typed_of,
)
from medportal.records.presentation import institution_name
from medportal.records.views.subjects import subject_of
from medportal.tenancy.tenant import Kind
from medportal.web.flash import flash
from medportal.web.forms import make_form
from medportal.web.i18n import _, translate


@view_config(
    route_name="record-new",
    permission=Permission.RECORD_CREATE,
    renderer="medportal.records:templates/new_record.pt",
)
def new_record(context: PatientContext, request: Request) -> Any:
    """Enter a record; saving signs it, and queues it for the patient's destinations."""
    catalogue = catalogues.load()
    kind = _kind_made_here(request)
    today = request.now.astimezone(ZoneInfo(request.tenant.time_zone)).date()
    scheme = request.tenant.identifiers.scheme
    patient = patients.details(request.db, context.patient_id, scheme)
    person = Sex(patient.sex), age_on(patient.birth_date, today)
    schema = record_schema(kind, catalogue, request.locale_name, f"{today:%d/%m/%Y}", person)
    form = make_form(request, schema, submit=_("Sign and save"))
    destinations = [institution_name(request, partner) for partner in patient.destinations]
    page = {"form": form, "patient": patient, "kind": kind, "destinations": destinations}
    page["marks"] = {name: translate(request, words) for name, words in MARK_WORDS.items()}
    page["sections"] = [
        (f"form-{group.group.key}", group.group.names[request.locale_name])
        for group in form_fields(kind, catalogue)
    ]
    request.audit(
        Action.PATIENT_VIEWED,
        **context.why(Permission.RECORD_CREATE),
    )
    if request.method != "POST":
        return page
    values = form.validate(request.POST.items())
    if values is None:
        return page
    record_id = values[RECORD_ID]
    here = request.route_path("record", patient=context.patient_id, record=record_id)
    if store.exists(request.db, record_id):
        # The same form sent twice, by a double click or the back button: one record.
        return HTTPSeeOther(here)
    try:
        created = service.create_record(
            request.db,
            request.documents,
            request.keys,
            context.grant(Permission.RECORD_CREATE),
            catalogue,
            record_id=record_id,
            kind=kind,
            entry=parse_entry(kind, typed_of(values), catalogue),
            author_name=request.login.person_name,
            subject=subject_of(patient),
            destinations=patient.destinations,
            now=request.now,
        )
    except InvalidContent as error:
        show_problems(form, kind, catalogue, error.problems)
        return page
    _audit_created(context, request, created)
    flash(request, _("Signed and saved."))
    if created.left_out:
        flash(
            request,
            _(
                "An institution that is named for this patient is not trusted here any more: "
                "the record was not sent there. Tell the administration."
            ),
            "warn",
        )
    return HTTPSeeOther(here)


def _audit_created(context: PatientContext, request: Request, created: service.Created) -> None:
    request.audit(
        Action.RECORD_CREATED,
        object=created.record_id,
        **context.why(Permission.RECORD_CREATE),
    )
    deliveries = outbox.state_of(request.db, created.record_id, request.now)
    withheld = {view.tid for view in deliveries if view.state is DeliveryState.WITHHELD}
    for partner, tid in created.transfers:
        stopped = tid in withheld
        request.audit(
            Action.DELIVERY_WITHHELD if stopped else Action.DELIVERY_QUEUED,
            patient=context.patient_id,
            object=tid,
            reasons=[DeliveryReason.RULE_HERE] if stopped else [],
            details={"partner": partner, "record": created.record_id},
        )
    for partner in created.left_out:
        request.audit(
            Action.DELIVERY_QUEUED,
            Outcome.DENIED,
            patient=context.patient_id,
            object=created.record_id,
            reasons=[DeliveryReason.PARTNER_NOT_TRUSTED],
            details={"partner": partner},
        )


def _kind_made_here(request: Request) -> RecordKind:
    hospital = request.tenant.kind is Kind.HOSPITAL
    return RecordKind.MEDICAL if hospital else RecordKind.CLINICAL
