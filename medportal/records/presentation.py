"""Records as pages show them: rows of values, states of deliveries, in words."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from pyramid.request import Request
from sqlalchemy.orm import Session

from medportal.access import category_words, institutions
from medportal.access.question import RecordFacts
from medportal.access.resources import PatientContext
from medportal.core.permissions import Permission
from medportal.delivery.outbox import DeliveryView
from medportal.delivery.states import OPEN, DeliveryReason, DeliveryState
from medportal.records.catalogue import Catalogue
from medportal.records.content import BloodPressure, Coded, Observation, Quantity, RecordStatus
from medportal.records.fhir import Reading
from medportal.records.fhir_write import Shown
from medportal.records.interpret import Interpretation
from medportal.records.store import Brief, IndexEntry, briefs, timeline
from medportal.web.i18n import _, format_date, format_datetime, format_number, translate

institution_name = institutions.institution_name
#: Kind of tag, words. The words alone say what the colour says.
INTERPRETATIONS = {
    Interpretation.LOW: ("warn", _("↓ Low")),
    Interpretation.HIGH: ("warn", _("↑ High")),
    Interpretation.CRITICAL_LOW: ("bad", _("↓↓ Critically low")),
    Interpretation.CRITICAL_HIGH: ("bad", _("↑↑ Critically high")),
    Interpretation.ABNORMAL: ("warn", _("! Not as usual")),
    Interpretation.CRITICAL_ABNORMAL: ("bad", _("!! Critical")),
    Interpretation.NORMAL: ("ok", _("Normal")),
}
CATEGORY_WORDS = category_words.CATEGORY_WORDS
#: Kind of tag, words, of a record that is not as it was signed first.
STATUSES: dict[str, tuple[str, Any]] = {
    RecordStatus.AMENDED: ("info", _("Amended")),
    RecordStatus.CORRECTED: ("info", _("Corrected")),
    RecordStatus.ENTERED_IN_ERROR: ("bad", _("Taken back")),
}
KINDS = {
    DeliveryState.WAITING: "wait",
    DeliveryState.RETRYING: "wait",
    DeliveryState.UNKNOWN_PATIENT: "warn",
    DeliveryState.DELIVERED: "ok",
    DeliveryState.HELD_FOR_REVIEW: "warn",
    DeliveryState.REJECTED: "bad",
    DeliveryState.WITHHELD: "info",
}
WHY = {
    DeliveryReason.UNREACHABLE: _("The partner cannot be reached. We keep trying."),
    DeliveryReason.BUSY: _("The partner is busy. We ask again soon."),
    DeliveryReason.STALE_OFFER: _("The transfer was interrupted. We try again."),
    DeliveryReason.NO_ANSWER: _("The partner did not answer. We try again."),
    DeliveryReason.CHANNEL_REFUSED: _(
        "No secure connection: the partner's certificate or ours was not accepted. "
        "Tell the administration."
    ),
    DeliveryReason.PROTOCOL_ERROR: _("The partner answered something unexpected. We try again."),
    DeliveryReason.RECEIPT_INVALID: _(
        "The partner's receipt is not valid. We try again; tell the administration."
    ),
    DeliveryReason.PARTNER_NOT_TRUSTED: _("The partner is not trusted here any more."),
    DeliveryReason.CANNOT_OPEN: _("The record could not be prepared. Tell the administration."),
    DeliveryReason.DEMOGRAPHICS_DIFFER: _(
        "Name or date of birth differ from those registered there. Somebody there looks at it."
    ),
    DeliveryReason.PATIENT_AMBIGUOUS: _("The partner is not sure which patient is meant."),
    DeliveryReason.ORIGINAL_MISSING: _("The record that this one corrects never arrived there."),
    DeliveryReason.CONTENT_INVALID: _("The partner could not read the content."),
    DeliveryReason.SIGNATURE_INVALID: _("The partner could not verify our signature."),
    DeliveryReason.DIGEST_CONFLICT: _("The partner has other content under the same number."),
    DeliveryReason.IDENTIFIER_MISMATCH: _("The patient's number did not fit the request."),
    DeliveryReason.RULE_HERE: _("A rule of the patient stops this transfer."),
    DeliveryReason.RECEIVER_RESTORED: _("The partner was restored from a backup: sent again."),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One value of a record: words ready for a page."""

    name: str
    value: str
    unit: str
    reference: str
    kind: str | None
    judgement: str


@dataclass(frozen=True, slots=True)
class DeliveryLine:
    """One delivery: to whom, how it stands, and what that means."""

    tid: str
    partner: str
    kind: str
    state: str
    detail: str
    final: bool


def rows_of(request: Request, reading: Reading, catalogue: Catalogue) -> list[Row]:
    """Return the values of a record, named in the page's language."""
    rows: list[Row] = []
    for observation, shown in zip(reading.record.observations, reading.shown, strict=True):
        rows.extend(_rows(request, observation, shown, catalogue))
    return rows


def _rows(
    request: Request, observation: Observation, shown: Shown, catalogue: Catalogue
) -> list[Row]:
    name = _name(request, observation.code, shown, catalogue)
    match observation.value:
        case Quantity(value, _):
            return [_number_row(request, name, value, shown)]
        case BloodPressure(systolic, diastolic):
            return [
                _number_row(request, f"{name}: {_part(request, catalogue, code)}", value, part)
                for code, value, part in zip(
                    (SYSTOLIC, DIASTOLIC), (systolic, diastolic), shown.components, strict=True
                )
            ]
        case Coded(code):
            kind, judgement = _judgement(request, shown)
            words = catalogue.answer(code, request.locale_name)
            return [Row(name, words, "", "", kind, judgement)]


SYSTOLIC, DIASTOLIC = "8480-6", "8462-4"
PARTS = {SYSTOLIC: _("systolic"), DIASTOLIC: _("diastolic")}


def _part(request: Request, catalogue: Catalogue, code: str) -> str:
    return translate(request, PARTS[code])


def _number_row(request: Request, name: str, value: Decimal, shown: Shown) -> Row:
    kind, judgement = _judgement(request, shown)
    return Row(
        name=name,
        value=format_number(request, value),
        unit=shown.unit_text,
        reference=_reference(request, shown),
        kind=kind,
        judgement=judgement,
    )


def _judgement(request: Request, shown: Shown) -> tuple[str | None, str]:
    kind, words = INTERPRETATIONS.get(shown.interpretation, (None, ""))
    return kind, translate(request, words) if words else ""


def _reference(request: Request, shown: Shown) -> str:
    low, high = shown.low, shown.high
    if low is not None and high is not None:
        return f"{format_number(request, low)} – {format_number(request, high)}"
    if high is not None:
        return f"≤ {format_number(request, high)}"
    return f"≥ {format_number(request, low)}" if low is not None else ""


def _name(request: Request, code: str, shown: Shown, catalogue: Catalogue) -> str:
    definition = catalogue.find(code)
    return definition.name(request.locale_name) if definition else shown.name


def delivery_line(request: Request, view: DeliveryView) -> DeliveryLine:
    """Return a delivery in words."""
    return DeliveryLine(
        tid=view.tid,
        partner=institution_name(request, view.partner),
        kind=KINDS[view.state],
        state=_state_words(request, view),
        detail=_detail(request, view),
        final=view.state not in OPEN,
    )


def _state_words(request: Request, view: DeliveryView) -> str:
    words: dict[DeliveryState, Any] = {
        DeliveryState.WAITING: _("Being sent") if view.sending else _("Waiting to be sent"),
        DeliveryState.RETRYING: _("Not delivered yet"),
        DeliveryState.UNKNOWN_PATIENT: _("No such patient there"),
        DeliveryState.DELIVERED: _("Delivered"),
        DeliveryState.HELD_FOR_REVIEW: _("Arrived, held for review"),
        DeliveryState.REJECTED: _("Refused"),
        DeliveryState.WITHHELD: _("Not sent: a rule of the patient"),
    }
    return translate(request, words[view.state])


def _detail(request: Request, view: DeliveryView) -> str:
    parts = []
    if view.receipt_sequence is not None and view.receipt_at is not None:
        receipt = _(
            "Receipt number ${number}, ${time}.",
            mapping={"number": view.receipt_sequence, "time": _time(request, view.receipt_at)},
        )
        parts.append(translate(request, receipt))
    if view.state is DeliveryState.UNKNOWN_PATIENT:
        parts.append(
            translate(
                request,
                _("The patient is not registered there, or does not want it there. We ask again."),
            )
        )
    elif view.reason in WHY:
        parts.append(translate(request, WHY[view.reason]))
    return " ".join(parts)


def _time(request: Request, moment: datetime) -> str:
    return format_datetime(request, moment, seconds=True)


def record_titles(
    request: Request, session: Session, context: PatientContext, ids: Iterable[str]
) -> dict[str, str]:
    """Return what records of a patient are called, by id.

    An id of none is left out, and so is a record that the asker may not read: its kind and day
    tell already what it is about.
    """
    return {
        brief.id: f"{translate(request, CATEGORY_WORDS[brief.category])}, "
        f"{format_date(request, brief.effective_on)}"
        for brief in briefs(session, context.patient_id, ids)
        if may_read(context, brief)
    }


def may_read(context: PatientContext, record: Brief | IndexEntry) -> bool:
    """Tell whether the asker may read a record of this patient."""
    facts = RecordFacts(record.id, True, record.local_author_id, record.category)
    return context.record_decision(facts).allows(Permission.RECORD_READ)


def readable(session: Session, context: PatientContext, limit: int) -> list[IndexEntry]:
    """Return the newest of a patient's records that the asker may read, at most ``limit``."""
    newest = timeline(session, context.patient_id, limit=limit)
    return [record for record in newest if may_read(context, record)]
