"""The words of a paper, from opened records, in the language of the request."""

from collections.abc import Mapping, Sequence
from typing import Any

from pyramid.request import Request

from medportal.exports.pdf import ATTACHMENT, UNKNOWN, Paper, Section, ValueLine
from medportal.exports.service import Packing
from medportal.identity.models import Sex
from medportal.patients.forms import SEX_WORDS
from medportal.patients.service import PatientDetails
from medportal.records import catalogue as catalogues
from medportal.records.catalogue import Catalogue
from medportal.records.content import ClinicalRecord, RecordStatus
from medportal.records.opening import Opened
from medportal.records.presentation import CATEGORY_WORDS, Row, institution_name, rows_of
from medportal.web.i18n import _, format_date, format_datetime, plural, translate

MARKS: Mapping[str, Any] = {
    RecordStatus.AMENDED: _("Amended: something was added to what was signed first"),
    RecordStatus.CORRECTED: _("Corrected: this replaces what was signed first"),
    RecordStatus.ENTERED_IN_ERROR: _("Taken back: this record should never have been made"),
}
#: Kinds of marks that stand out on paper.
OUTSIDE = {"warn", "bad"}


def paper_of(
    request: Request,
    patient: PatientDetails,
    opened: Sequence[Opened],
    packing: Packing,
    *,
    is_everything: bool,
) -> Paper:
    """Return the words of a paper about ``patient``."""
    say = _Words(request)
    return Paper(
        language=request.locale_name,
        title=say(_("Health record") if is_everything else _("From the health record")),
        institution=institution_name(request, request.tenant.id),
        patient=say(
            _(
                "${name}, born ${date}, number ${number}",
                mapping={
                    "name": patient.name,
                    "date": format_date(request, patient.birth_date),
                    "number": patient.number,
                },
            )
        ),
        facts=_facts(say, patient, packing),
        opening=tuple(_opening(say, opened, packing)),
        columns=(say(_("What")), say(_("Value")), say(_("Usual range")), say(_("Meaning"))),
        sections=tuple(_section(say, one, catalogues.load()) for one in opened),
        closing_title=say(_("How to check this paper")),
        closing=tuple(_closing(say)),
        page=say(_("Page {n} of {total}")),
        unprintable=say(
            _(
                "${sign} stands for a letter that cannot be printed here. The file inside has it.",
                mapping={"sign": UNKNOWN},
            )
        ),
        made_at=packing.made_at,
    )


class _Words:
    """Says things in the language of a request."""

    def __init__(self, request: Request) -> None:
        self.request = request

    def __call__(self, message: Any) -> str:
        return translate(self.request, message)


def _facts(say: _Words, patient: PatientDetails, packing: Packing) -> tuple[tuple[str, str], ...]:
    request = say.request
    return (
        (say(_("Name")), patient.name),
        (say(_("Date of birth")), format_date(request, patient.birth_date)),
        (say(_("Sex")), say(SEX_WORDS[Sex(patient.sex)])),
        (say(_("Number")), patient.number),
        (say(_("Made by")), institution_name(request, request.tenant.id)),
        (say(_("Made on")), format_datetime(request, packing.made_at)),
    )


def _opening(say: _Words, opened: Sequence[Opened], packing: Packing) -> list[str]:
    count = len(opened)
    said = [
        plural(
            say.request,
            "This paper shows ${n} record.",
            "This paper shows ${n} records, the newest first.",
            count,
        )
        if count
        else say(_("This paper shows no record.")),
        say(
            _(
                "It shows what the person who took it along may read, as it stood on that day. "
                "There may be other records, here or elsewhere."
            )
        ),
    ]
    if packing.damaged:
        said.append(
            say(
                _(
                    "Something is missing: a record is damaged where it is stored and was left "
                    "out. Ask the institution."
                )
            )
        )
    return said


def _section(say: _Words, opened: Opened, catalogue: Catalogue) -> Section:
    request, record = say.request, opened.reading.record
    mark = MARKS.get(record.status)
    return Section(
        title=f"{say(CATEGORY_WORDS[record.category])}, {_moment(request, record)}",
        mark=say(mark) if mark else "",
        facts=_of_record(say, record),
        values=tuple(_line(row) for row in rows_of(request, opened.reading, catalogue)),
        texts=tuple(_texts(say, record)),
        signature=_signature(say, opened),
    )


def _of_record(say: _Words, record: ClinicalRecord) -> tuple[tuple[str, str], ...]:
    version = [(say(_("Version")), str(record.version))] if record.version > 1 else []
    return (
        (say(_("From")), institution_name(say.request, record.institution)),
        (say(_("By")), record.author_name),
        *version,
    )


def _moment(request: Request, record: ClinicalRecord) -> str:
    return format_date(request, record.effective)


def _line(row: Row) -> ValueLine:
    value = f"{row.value} {row.unit}" if row.unit else row.value
    return ValueLine(row.name, value, row.reference, row.judgement, row.kind in OUTSIDE)


def _texts(say: _Words, record: ClinicalRecord) -> list[tuple[str, str]]:
    diagnosis = record.diagnosis
    if diagnosis and record.diagnosis_code:
        diagnosis = f"{diagnosis} (ICD-10 {record.diagnosis_code})"
    found = [
        (_("Diagnosis"), diagnosis),
        (_("Notes"), record.notes),
        (_("Why there is another version"), record.change_reason),
    ]
    return [(say(heading), text) for heading, text in found if text]


def _signature(say: _Words, opened: Opened) -> str:
    signed = _(
        "Signed at ${origin} on ${time}. The signature was right when this paper was made. "
        "Digest of what was signed (SHA-256): ${digest}",
        mapping={
            "origin": institution_name(say.request, opened.entry.origin),
            "time": format_datetime(say.request, opened.statement.created_at),
            "digest": opened.entry.content_digest.hex(),
        },
    )
    return say(signed)


def _closing(say: _Words) -> list[str]:
    return [
        say(
            _(
                "Inside this PDF is a file, ${file}, with the same records as FHIR R4, earlier "
                "versions too. It holds the signatures of the institutions where the records "
                "were made. The pages are not signed: somebody could have changed them. What "
                "counts is the file inside.",
                mapping={"file": ATTACHMENT},
            )
        ),
        say(
            _(
                "To check it, ask each institution for the certificate of its authority and run: "
                "medportal record verify FILE --ca CERTIFICATE. This needs no connection to "
                "anybody. It prints the digest of each record, which stands on these pages too."
            )
        ),
    ]
