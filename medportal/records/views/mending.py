"""What the pages that make a later version share: who may, what is there now, what is noted."""

from dataclasses import dataclass
from typing import Any

from pyramid.httpexceptions import HTTPNotFound, HTTPSeeOther
from pyramid.request import Request

from medportal.access.resources import RecordContext
from medportal.access.standing import is_standing
from medportal.audit.events import Action, Outcome
from medportal.core.permissions import Permission
from medportal.delivery import outbox
from medportal.delivery.states import DeliveryReason, DeliveryState
from medportal.patients import service as patients
from medportal.records import catalogue as catalogues
from medportal.records import service, store
from medportal.records.amending import Amended, Amender, Desk, Person
from medportal.records.content import ClinicalRecord, effective_date
from medportal.records.errors import NotAmendable, RecordDamaged
from medportal.records.presentation import CATEGORY_WORDS, Row, rows_of
from medportal.records.service import Opened
from medportal.records.views.subjects import scheme_of, subject_of
from medportal.web.flash import flash
from medportal.web.forms import Form
from medportal.web.i18n import _

LEFT_OUT = _(
    "An institution that holds this record, or is named for this patient, is not trusted here any "
    "more: nothing was sent there. Tell the administration."
)
CHANGED_MEANWHILE = _(
    "Somebody changed this record while you had the page open. Nothing was saved, and what you "
    "typed is still here. Read what the record says now, then save again if it is still right."
)
NOT_FRESH = _(
    "You had the page open for long. Open “Confirm that it is you” in another window, then save "
    "again here: what you typed is still here."
)
TAKEN_BACK = _("This record was taken back already.")


@dataclass(frozen=True, slots=True)
class Now:
    """What the newest version of a record says, beside what somebody typed meanwhile."""

    version: int
    record: ClinicalRecord
    rows: list[Row]
    made_at: Any


def mendable(context: RecordContext, request: Request) -> store.IndexEntry:
    """Return the newest version of a record that may have a later one here.

    1. Somebody who may amend it but not read it is told nothing: they could not see what.
    2. Only the institution that made a record makes versions of it.

    Raises ``HTTPNotFound``, and ``NotAmendable`` for a record that was taken back.
    """
    entry = store.find(request.db, context.patient_id, context.record_id)
    if entry is None or not context.decision.allows(Permission.RECORD_READ):  # 1
        raise HTTPNotFound()
    if entry.origin != request.tenant.id:  # 2
        raise HTTPNotFound()
    if entry.is_taken_back:
        raise NotAmendable("taken-back")
    return entry


def may_move(context: RecordContext) -> bool:
    """Tell whether somebody may take the record to another person, as far as this one goes.

    They may enter records, and what lets them read and amend this one lasts: what an hour of
    emergency access opened, or a rule of the patient, is not carried away.
    """
    ways = (Permission.RECORD_READ, Permission.RECORD_AMEND)
    lasts = all(
        context.decision.allows(way) and is_standing(context.decision.because[way]) for way in ways
    )
    return lasts and Permission.RECORD_CREATE in context.facts().held


def place_of(context: RecordContext, request: Request) -> str:
    """Return the address of the record's page."""
    return str(request.route_path("record", patient=context.patient_id, record=context.record_id))


def about(context: RecordContext, request: Request, entry: store.IndexEntry) -> dict[str, Any]:
    """Return what each of these pages tells of the record before anything of it is opened."""
    return {
        "entry": entry,
        "title": CATEGORY_WORDS[entry.category],
        "patient": patients.details(request.db, context.patient_id, scheme_of(request)),
        "place": place_of(context, request),
        "now": None,
        "is_not_fresh": False,
    }


def opened_now(context: RecordContext, request: Request) -> Opened:
    """Open the newest version for whoever amends it, which is a read like any other.

    Raises ``RecordDamaged``.
    """
    entry = store.find(request.db, context.patient_id, context.record_id)
    if entry is None:
        raise HTTPNotFound()
    grant = context.grant(Permission.RECORD_READ)
    opened = service.open_record(request.db, request.documents, request.keys, grant, entry)
    request.audit(Action.RECORD_READ, **context.why(Permission.RECORD_READ))
    return opened


def desk_of(request: Request) -> Desk:
    """Return where versions are made."""
    return Desk(request.documents, request.keys, catalogues.load(), request.now)


def amender_of(context: RecordContext, request: Request) -> Amender:
    """Return who makes a version. Raises ``NotFresh``, see :func:`not_fresh`."""
    return Amender(
        request.login.person_name,
        context.grant(Permission.RECORD_READ),
        context.grant(Permission.RECORD_AMEND),
    )


def person_of(request: Request, patient_id: str) -> Person:
    """Return a patient as the subject of a version, with the partners named for them."""
    patient = patients.details(request.db, patient_id, scheme_of(request))
    return Person(subject_of(patient), patient.destinations)


def changed_meanwhile(
    context: RecordContext, request: Request, form: Form, values: dict[str, Any]
) -> dict[str, Any]:
    """Show a form again that began from an older version, beside what the newest one says.

    Saved again as it is, it goes on top of the newest.
    """
    opened = opened_now(context, request)
    # What was decided was decided about the version before; what is shown now is this one.
    decided = context.patient_context.record_decision(store.facts_of(opened.entry))
    if not decided.allows(Permission.RECORD_READ):
        raise HTTPNotFound()
    form.fill({**values, "base": str(opened.entry.version)})
    form.fail(None, CHANGED_MEANWHILE)
    record = opened.reading.record
    rows = rows_of(request, opened.reading, catalogues.load())
    return {"now": Now(record.version, record, rows, opened.statement.created_at)}


def not_fresh(form: Form) -> dict[str, Any]:
    """Show a form again whose sender has to prove first who they are; nothing typed is lost."""
    form.fail(None, NOT_FRESH)
    return {"is_not_fresh": True}


def refused(context: RecordContext, request: Request, error: NotAmendable) -> HTTPSeeOther:
    """Answer to a record that gets no further version: its page says why."""
    if error.code != "taken-back":
        raise HTTPNotFound() from error
    flash(request, TAKEN_BACK, "warn")
    return HTTPSeeOther(place_of(context, request))


def damaged(context: RecordContext, request: Request, error: RecordDamaged) -> HTTPSeeOther:
    """Answer to a record that cannot be trusted: its page says so."""
    request.audit(
        Action.RECORD_AMENDED,
        Outcome.FAILED,
        **context.why(Permission.RECORD_AMEND),
        details={"damaged": error.code},
    )
    return HTTPSeeOther(place_of(context, request))


def note_amended(context: RecordContext, request: Request, made: Amended, **more: int) -> None:
    """Put a later version into the log, with what was queued for partners."""
    request.audit(
        Action.RECORD_AMENDED,
        **context.why(Permission.RECORD_AMEND),
        details={"status": made.status.value, "version": made.version, **more},
    )
    note_queued(request, context.patient_id, made)


def note_queued(request: Request, patient_id: str, made: Amended) -> None:
    """Put into the log what was queued for partners, what a rule stops, and what was left out."""
    deliveries = outbox.state_of(request.db, made.record_id, request.now)
    withheld = {view.tid for view in deliveries if view.state is DeliveryState.WITHHELD}
    for partner, tid in made.transfers:
        stopped = tid in withheld
        request.audit(
            Action.DELIVERY_WITHHELD if stopped else Action.DELIVERY_QUEUED,
            patient=patient_id,
            object=tid,
            reasons=[DeliveryReason.RULE_HERE] if stopped else [],
            details={"partner": partner, "record": made.record_id, "version": made.version},
        )
    for partner in made.left_out:
        request.audit(
            Action.DELIVERY_QUEUED,
            Outcome.DENIED,
            patient=patient_id,
            object=made.record_id,
            reasons=[DeliveryReason.PARTNER_NOT_TRUSTED],
            details={"partner": partner, "version": made.version},
        )
    if made.left_out:
        flash(request, LEFT_OUT, "warn")


def day_typed(record: ClinicalRecord) -> str:
    """Return the day of a record as the form shows it."""
    return f"{effective_date(record):%d/%m/%Y}"
