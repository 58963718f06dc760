"""Pages about one patient: the overview with its timeline, one record, a new record."""

from collections.abc import Iterator, Sequence
from datetime import date
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

from pyramid.httpexceptions import HTTPNotFound, HTTPSeeOther
from pyramid.request import Request
from pyramid.view import view_config

from medportal.access.care import carers
from medportal.access.forms_care import CARE_WORDS
from medportal.access.representatives import Standing, standing_for
from medportal.access.resources import PatientContext, RecordContext
from medportal.access.summaries import sees_of
from medportal.access.ways import ways_on
from medportal.audit.events import Action, Outcome
from medportal.core.ids import is_id
from medportal.core.obligations import Obligation
from medportal.core.permissions import Permission
from medportal.delivery import outbox
from medportal.delivery.states import DeliveryReason, DeliveryState
from medportal.identity.people import names_of
from medportal.patients import service as patients
from medportal.patients import support
from medportal.patients.forms import SEX_WORDS
from medportal.patients.models import PatientStatus
from medportal.records import catalogue as catalogues
from medportal.records import service, store, vitals
from medportal.records.content import RecordKind, Sex, Subject
from medportal.records.entry import parse_entry
from medportal.records.errors import InvalidContent, RecordDamaged
from medportal.records.forms import RECORD_ID, record_schema, show_problems, typed_of
from medportal.records.presentation import (
    CATEGORY_WORDS,
    DeliveryLine,
    delivery_line,
    institution_name,
    rows_of,
)
from medportal.tenancy.tenant import Kind
from medportal.vault.documents import SqlDocumentStore
from medportal.web.flash import flash
from medportal.web.forms import make_form
from medportal.web.i18n import _


@view_config(
    route_name="patient",
    permission=Permission.PATIENT_SEE,
    request_method="GET",
    renderer="templates/patient.pt",
)
def patient_page(context: PatientContext, request: Request) -> dict[str, Any]:
    """Show a patient, as much as the person may see."""
    decision = context.decision
    sees = sees_of(decision)
    noted = support.current(request.db, request.keys.vault, context.patient_id)
    needs = sees.of(noted.needs)
    request.audit(
        Action.PATIENT_VIEWED,
        **context.why(Permission.PATIENT_SEE),
        details={"damaged": 1} if noted.damaged else None,
    )
    is_self = context.patient.is_self
    sees_carers = is_self or decision.allows(Permission.CARE_MANAGE)
    return {
        "is_self": is_self,
        "patient": patients.details(request.db, context.patient_id, scheme_of(request)),
        "sees": sees,
        "needs": needs,
        "needs_damaged": noted.damaged and (sees.transport or sees.alerts),
        "vitals": vitals.latest(context, request) if sees.vitals else vitals.Vitals(),
        "ways": ways_on(context, request),
        "owes_a_proof": sees.records and context.owes_a_proof,
        "has_list": decision.allows(Permission.PATIENTS_LIST) and not is_self,
        "may_add": decision.allows(Permission.RECORD_CREATE),
        "may_assign": decision.allows(Permission.CARE_MANAGE),
        "carers": carers(request.db, context.patient_id, request.now) if sees_carers else [],
        "sees_carers": sees_carers,
        "standing": _standing_for(context, request),
        "care_words": CARE_WORDS,
        "sex_words": SEX_WORDS,
        "is_deceased": PatientStatus.DECEASED,
        "destinations": [
            institution_name(request, partner)
            for partner in patients.destinations(request.db, context.patient_id)
        ],
        **(_timeline(context, request) if sees.records else {"entries": [], "next": None}),
    }


def _standing_for(context: PatientContext, request: Request) -> list[Standing]:
    """Return who stands for the patient now, for those who may rule over the record."""
    if not context.decision.allows(Permission.RULES_MANAGE):
        return []
    found = standing_for(request.db, context.patient_id, request.now)
    return [one for one in found if one.agreed]


def scheme_of(request: Request) -> str:
    """Return the scheme of the numbers by which people are known here."""
    scheme: str = request.tenant.identifiers.scheme
    return scheme


def _timeline(context: PatientContext, request: Request) -> dict[str, Any]:
    """Return a page of the records that the person may read, and nothing about the others.

    The page is filled with readable records, and the key of the next one is that of the last
    record shown: neither a short page nor an address tells that something is hidden.
    """
    readable = list(islice(_readable(context, request), store.PAGE + 1))
    page, more = readable[: store.PAGE], len(readable) > store.PAGE
    names = names_of(request.db, [e.local_author_id for e in page if e.local_author_id])
    deliveries = _deliveries(context, request, [entry.id for entry in page])
    entries = [
        {
            "entry": entry,
            "title": CATEGORY_WORDS[entry.category],
            "origin": institution_name(request, entry.origin),
            "is_foreign": entry.origin != request.tenant.id,
            "author": names.get(entry.local_author_id or "", ""),
            "deliveries": deliveries.get(entry.id, []),
        }
        for entry in page
    ]
    request.audit(
        Action.RECORDS_LISTED,
        **context.why(Permission.RECORD_LIST),
        details={"count": len(entries)},
    )
    after = f"{page[-1].effective_on.isoformat()}.{page[-1].id}" if more else None
    return {"entries": entries, "next": after}


def _readable(context: PatientContext, request: Request) -> Iterator[store.IndexEntry]:
    """Give the records that the person may read, newest first, from where the page begins.

    What takes a proof of identity first is left out until it was given: that there is such a
    record, of which day and by whom, is as much as a stolen session is after.
    """
    before = _before(request)
    while True:
        found = store.timeline(request.db, context.patient_id, before=before)
        for entry in found:
            decision = context.record_decision(store.facts_of(entry))
            if decision.allows(Permission.RECORD_READ) and not decision.demands(
                Permission.RECORD_READ, Obligation.CONFIRM_FIRST
            ):
                yield entry
        if len(found) < store.PAGE:
            return
        before = (found[-1].effective_on, found[-1].id)


def _before(request: Request) -> tuple[date, str] | None:
    """Return (date, id) of the last record of the page before."""
    text = request.GET.get("before")
    if text is None:
        return None
    day, _dot, record_id = text.partition(".")
    try:
        if is_id(record_id):
            return date.fromisoformat(day), record_id
    except ValueError:
        pass
    raise HTTPNotFound()


def _deliveries(
    context: PatientContext | RecordContext, request: Request, record_ids: Sequence[str]
) -> dict[str, list[DeliveryLine]]:
    """Return the deliveries of records, in words, for those who may follow them."""
    if not context.decision.allows(Permission.DELIVERY_FOLLOW):
        return {}
    found = outbox.states_of(request.db, record_ids, request.now)
    return {
        record_id: [delivery_line(request, view) for view in views]
        for record_id, views in found.items()
    }


@view_config(
    route_name="record",
    permission=Permission.RECORD_READ,
    request_method="GET",
    renderer="templates/record.pt",
)
def record_page(context: RecordContext, request: Request) -> dict[str, Any]:
    """Show one record with its origin and signature, or say that it is damaged."""
    entry = store.find(request.db, context.patient_id, context.record_id)
    if entry is None:
        raise HTTPNotFound()
    scheme = request.tenant.identifiers.scheme
    page = {
        "entry": entry,
        "title": CATEGORY_WORDS[entry.category],
        "origin": institution_name(request, entry.origin),
        "is_foreign": entry.origin != request.tenant.id,
        "patient": patients.details(request.db, context.patient_id, scheme),
        "is_self": context.patient_context.patient.is_self,
        "sees_patient": context.patient_context.decision.allows(Permission.PATIENT_SEE),
        "deliveries": _deliveries(context, request, [entry.id]).get(entry.id, []),
    }
    grant = context.grant(Permission.RECORD_READ)
    try:
        opened = service.open_record(
            request.db, SqlDocumentStore(request.db), request.keys, grant, entry
        )
    except RecordDamaged as error:
        request.audit(
            Action.RECORD_READ,
            Outcome.FAILED,
            **context.why(Permission.RECORD_READ),
            details={"damaged": error.code},
        )
        return {**page, "opened": None, "rows": []}
    request.audit(Action.RECORD_READ, **context.why(Permission.RECORD_READ))
    rows = rows_of(request, opened.reading, catalogues.load())
    return {**page, "opened": opened, "rows": rows}


@view_config(
    route_name="record-delivery",
    permission=Permission.DELIVERY_FOLLOW,
    request_method="GET",
    renderer="json",
)
def delivery_state(context: RecordContext, request: Request) -> dict[str, Any]:
    """Tell how one delivery of a record stands; the record's page asks while it changes."""
    tid = request.matchdict["tid"]
    views = outbox.state_of(request.db, context.record_id, request.now)
    found = next((view for view in views if view.tid == tid), None)
    if found is None:
        raise HTTPNotFound()
    line = delivery_line(request, found)
    return {
        "state": str(found.state),
        "kind": line.kind,
        "text": line.state,
        "detail": line.detail,
        "final": line.final,
    }


@view_config(
    route_name="record-new",
    permission=Permission.RECORD_CREATE,
    renderer="templates/new_record.pt",
)
def new_record(context: PatientContext, request: Request) -> Any:
    """Enter a record; saving signs it, and queues it for the patient's destinations."""
    catalogue = catalogues.load()
    kind = _kind_made_here(request)
    today = request.now.astimezone(ZoneInfo(request.tenant.time_zone)).date()
    schema = record_schema(kind, catalogue, request.locale_name, f"{today:%d/%m/%Y}")
    form = make_form(request, schema, submit=_("Sign and save"))
    scheme = request.tenant.identifiers.scheme
    patient = patients.details(request.db, context.patient_id, scheme)
    destinations = [institution_name(request, partner) for partner in patient.destinations]
    page = {"form": form, "patient": patient, "kind": kind, "destinations": destinations}
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
            SqlDocumentStore(request.db),
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


def subject_of(patient: patients.PatientDetails) -> Subject:
    """Return a patient as the subject of a record."""
    return Subject(
        identifier_scheme=patient.scheme,
        number=patient.number,
        name=patient.name,
        birth_date=patient.birth_date,
        sex=Sex(patient.sex),
    )
