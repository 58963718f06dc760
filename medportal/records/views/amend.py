"""Correcting a record, or adding to it: one more version, signed by who makes it."""

from typing import Any

from pyramid.httpexceptions import HTTPSeeOther
from pyramid.request import Request
from pyramid.view import view_config

from medportal.access.resources import RecordContext
from medportal.core.permissions import Permission
from medportal.identity.errors import NotFresh
from medportal.records import amending
from medportal.records import catalogue as catalogues
from medportal.records.content import RecordKind, RecordStatus, Sex, age_on
from medportal.records.entry import form_fields, parse_entry, typed_of_record
from medportal.records.errors import InvalidContent, NotAmendable, RecordDamaged, VersionChanged
from medportal.records.forms import MARK_WORDS, show_problems, typed_of, values_of
from medportal.records.forms_versions import BASE, OWN, REASON, STATUS, amend_schema
from medportal.records.store import IndexEntry
from medportal.records.views import mending
from medportal.web.flash import flash
from medportal.web.forms import Form, make_form
from medportal.web.i18n import _, translate

Values = dict[str, Any]
NOTHING_CHANGED = _("This says what the record says already. Change something, or leave the page.")


@view_config(
    route_name="record-amend",
    permission=Permission.RECORD_AMEND,
    renderer="medportal.records:templates/amend.pt",
)
def amend_record(context: RecordContext, request: Request) -> Any:
    """Make a version that says something else; the form begins with what the newest one says."""
    try:
        return _amend(context, request)
    except NotAmendable as error:
        return mending.refused(context, request, error)
    except RecordDamaged as error:
        return mending.damaged(context, request, error)


def _amend(context: RecordContext, request: Request) -> Any:
    entry = mending.mendable(context, request)
    page = mending.about(context, request, entry)
    form = _form(request, entry, page["patient"])
    page |= {"form": form, **_marks(request, RecordKind(entry.kind))}
    if request.method != "POST":
        _begin(form, mending.opened_now(context, request))
        return page
    values = form.validate(request.POST.items())
    if values is None:
        return page
    try:
        return _save(context, request, form, values, entry)
    except NotFresh:
        return {**page, **mending.not_fresh(form)}
    except VersionChanged:
        if _is_sent_twice(context, request, values):
            return HTTPSeeOther(mending.place_of(context, request))
        return {**page, **mending.changed_meanwhile(context, request, form, values)}
    except InvalidContent as error:
        _show(form, entry, error)
        return page


def _form(request: Request, entry: IndexEntry, patient: Any) -> Form:
    person = Sex(patient.sex), age_on(patient.birth_date, entry.effective_on)
    kind = RecordKind(entry.kind)
    language = request.locale_name
    schema = amend_schema(kind, catalogues.load(), language, person, entry.version)
    return make_form(request, schema, submit=_("Sign and save"))


def _marks(request: Request, kind: RecordKind) -> dict[str, Any]:
    """Return what the live marks beside the inputs say, and the ways to the sections."""
    language = request.locale_name
    return {
        "marks": {name: translate(request, words) for name, words in MARK_WORDS.items()},
        "sections": [
            (f"form-{group.group.key}", group.group.names[language])
            for group in form_fields(kind, catalogues.load())
        ],
    }


def _begin(form: Form, opened: Any) -> None:
    record = opened.reading.record
    catalogue = catalogues.load()
    typed = typed_of_record(record, catalogue) | {"effective": mending.day_typed(record)}
    form.fill({**values_of(record.kind, catalogue, typed), BASE: str(record.version)})


def _save(
    context: RecordContext, request: Request, form: Form, values: Values, entry: IndexEntry
) -> Any:
    asked = _asked(values, RecordKind(entry.kind))
    made = amending.amend(
        request.db,
        mending.desk_of(request),
        mending.amender_of(context, request),
        mending.person_of(request, context.patient_id),
        began_from=int(values[BASE]),
        **asked,
    )
    mending.note_amended(context, request, made)
    flash(request, _("Signed and saved. What the record said before is kept."))
    return HTTPSeeOther(mending.place_of(context, request))


def _asked(values: Values, kind: RecordKind) -> Values:
    typed = {name: value for name, value in values.items() if name not in OWN}
    return {
        "status": RecordStatus(values[STATUS]),
        "reason": values[REASON],
        "entry": parse_entry(kind, typed_of(typed), catalogues.load()),
    }


def _is_sent_twice(context: RecordContext, request: Request, values: Values) -> bool:
    """Tell whether the newer version is what this form made already, by a double click."""
    opened = mending.opened_now(context, request)
    record = opened.reading.record
    if (record.author_id, record.version) != (request.identity.person_id, int(values[BASE]) + 1):
        return False
    return amending.says(record, catalogues.load(), **_asked(values, record.kind))


def _show(form: Form, entry: IndexEntry, error: InvalidContent) -> None:
    others = [problem for problem in error.problems if problem.code != "nothing-changed"]
    if len(others) < len(error.problems):
        form.fail(None, NOTHING_CHANGED)
    show_problems(form, RecordKind(entry.kind), catalogues.load(), others)
