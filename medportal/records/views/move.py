"""Moving a record that was filed under the wrong person to the right one.

The right person is found by exact number, like anybody is found, and only among those for whom
whoever moves it may enter records. Both people stand on one page before anything happens.
"""

from typing import Any

from pyramid.httpexceptions import HTTPNotFound, HTTPSeeOther
from pyramid.request import Request
from pyramid.view import view_config

from medportal.access.resources import PatientContext, RecordContext
from medportal.access.standing import is_standing
from medportal.audit.events import Action, Outcome
from medportal.core.ids import is_id
from medportal.core.permissions import Permission, Reach
from medportal.core.reasons import Reason
from medportal.identity.errors import NotFresh, Throttled
from medportal.identity.views.answers import throttled
from medportal.patients import finding
from medportal.patients import service as patients
from medportal.patients.forms import SEX_WORDS, find_schema
from medportal.patients.views import usable_number
from medportal.records import amending, store
from medportal.records.errors import InvalidContent, NotAmendable, RecordDamaged, VersionChanged
from medportal.records.forms import OTHER_PROBLEM, PROBLEMS, RECORD_ID
from medportal.records.forms_versions import BASE, move_schema
from medportal.records.views import mending
from medportal.records.views.subjects import scheme_of
from medportal.web.flash import flash
from medportal.web.forms import Form, make_form
from medportal.web.i18n import _, translate
from medportal.web.limits import posted_text

Page = dict[str, Any]
#: What the version says that takes the record back; typed words could name the other person.
REASON = _("It was filed under the wrong person.")
NOBODY = _(
    "There is nobody with this number for whom you may enter records. Check the number, or ask to "
    "be assigned to this patient."
)
SAME = _("This is the number of the person under whom the record is now.")
CANNOT_BE = _("This record cannot be that person's:")


@view_config(
    route_name="record-move",
    permission=Permission.RECORD_AMEND,
    renderer="medportal.records:templates/move.pt",
)
def move_record(context: RecordContext, request: Request) -> Any:
    """Find the right person, compare both, then take the record back here and make it there."""
    try:
        return _page(context, request)
    except NotAmendable as error:
        return mending.refused(context, request, error)
    except RecordDamaged as error:
        return mending.damaged(context, request, error)


def _page(context: RecordContext, request: Request) -> Any:
    if not mending.may_move(context):
        raise HTTPNotFound()
    sent_twice = _made_already(context, request)
    if sent_twice is not None:
        return sent_twice
    entry = mending.mendable(context, request)
    page = {**mending.about(context, request, entry), "right": None}
    request.audit(Action.PATIENT_VIEWED, **_without_object(context))
    if (
        request.method == "POST"
        and _confirm_form(request, "", entry.version, page["place"]).is_submitted
    ):
        return _confirmed(context, request, entry, page)
    form = _find_form(request, page["place"])
    page["form"] = form
    if request.method != "POST":
        return page
    values = form.validate(request.POST.items())
    return page if values is None else _found(context, request, form, values["number"], page)


def _find_form(request: Request, back: str) -> Form:
    schema = find_schema(
        request.tenant, is_number=lambda typed: usable_number(request, typed) is not None
    )
    return make_form(
        request,
        schema,
        submit=_("Find"),
        form_id="find",
        secondary=[(back, _("Leave it as it is"))],
    )


def _confirm_form(request: Request, right: str, version: int, back: str) -> Form:
    schema = move_schema(right, version)
    words = _("Move the record to this person")
    return make_form(
        request,
        schema,
        submit=words,
        form_id="confirm",
        secondary=[(back, _("Leave it as it is"))],
        danger=True,
    )


def _without_object(context: RecordContext) -> Page:
    return {**context.why(Permission.RECORD_AMEND), "object": None}


def _found(context: RecordContext, request: Request, form: Form, typed: str, page: Page) -> Page:
    sees_all = Reach.ANY in context.facts().held.get(Permission.PATIENT_SEE, frozenset())
    me = request.identity.person_id
    if not sees_all:
        try:
            finding.refuse_searching(request.db, me, request.now, in_turn=True)
        except Throttled as error:
            request.audit(Action.PATIENT_SOUGHT, Outcome.DENIED, reasons=[Reason.THROTTLED])
            return {**page, **throttled(request, form, error.seconds)}
    number = usable_number(request, typed) or ""
    found = patients.find_patient(request.db, scheme_of(request), number)
    if found == context.patient_id:
        form.fail("number", SAME)
        return page
    target = None if found is None else _other(context, found)
    about = {"patient": found} if target is None else target.why(Permission.RECORD_CREATE)
    request.audit(Action.PATIENT_SOUGHT, **about, details={"found": int(found is not None)})
    if target is None:
        if not sees_all:
            finding.note_miss(request.db, me, request.now)
        form.fail("number", NOBODY)
        return page
    confirm = _confirm_form(request, target.patient_id, page["entry"].version, page["place"])
    return _both(request, target, confirm, page)


def _other(context: RecordContext, patient_id: str) -> PatientContext | None:
    """Return another patient, if whoever asks may enter records for them, and not for an hour."""
    others: Any = context.patient_context.__parent__
    target: PatientContext = others[patient_id]
    may = target.decision.allows(Permission.RECORD_CREATE)
    lasts = is_standing(target.decision.because[Permission.RECORD_CREATE])
    return target if may and lasts else None


def _both(request: Request, target: PatientContext, form: Form, page: Page) -> Page:
    """Show both people, with the form that confirms."""
    request.audit(Action.PATIENT_VIEWED, **target.why(Permission.RECORD_CREATE))
    right = patients.details(request.db, target.patient_id, scheme_of(request))
    return {**page, "right": right, "sex_words": SEX_WORDS, "form": form}


def _confirmed(
    context: RecordContext, request: Request, entry: store.IndexEntry, page: Page
) -> Any:
    form = _confirm_form(request, "", entry.version, page["place"])
    right = posted_text(request, "right")
    target = _other(context, right) if is_id(right) else None
    if target is None:
        raise HTTPNotFound()
    values = form.validate(request.POST.items())
    if values is None:
        return _both(request, target, form, page)
    try:
        return _move(context, request, target, values)
    except NotFresh:
        return {**_both(request, target, form, page), **mending.not_fresh(form)}
    except VersionChanged:
        changed = mending.changed_meanwhile(context, request, form, {**values, "compared": False})
        return {**_both(request, target, form, page), **changed}
    except InvalidContent as error:
        _show(request, form, error)
        return _both(request, target, form, page)


def _move(
    context: RecordContext, request: Request, target: PatientContext, values: Page
) -> HTTPSeeOther:
    retracted, made = amending.move(
        request.db,
        mending.desk_of(request),
        mending.amender_of(context, request),
        mending.person_of(request, context.patient_id),
        mending.person_of(request, target.patient_id),
        target.grant(Permission.RECORD_CREATE),
        began_from=int(values[BASE]),
        record_id=values[RECORD_ID],
        reason=translate(request, REASON),
    )
    # Neither event names the other: each patient reads one of them.
    mending.note_amended(context, request, retracted, moved=1)
    request.audit(
        Action.RECORD_CREATED,
        object=made.record_id,
        **target.why(Permission.RECORD_CREATE),
        details={"moved": 1},
    )
    mending.note_queued(request, target.patient_id, made)
    flash(request, _("The record is here now, signed by you. It was taken back where it was."))
    return HTTPSeeOther(_address(request, target.patient_id, made.record_id))


def _address(request: Request, patient_id: str, record_id: str) -> str:
    return str(request.route_path("record", patient=patient_id, record=record_id))


def _made_already(context: RecordContext, request: Request) -> HTTPSeeOther | None:
    """Return the way to what this form made, if it came twice: one record.

    Of somebody for whom one enters no records, nothing is looked for.
    """
    ids = [posted_text(request, name) for name in ("right", RECORD_ID)]
    if not all(is_id(each) for each in ids):
        return None
    right, record_id = ids
    if _other(context, right) is None:
        return None
    made = store.find(request.db, right, record_id)
    return None if made is None else HTTPSeeOther(_address(request, right, record_id))


def _show(request: Request, form: Form, error: InvalidContent) -> None:
    """Say what of the record cannot be the other person's; it is mended where it stands now."""
    for problem in error.problems:
        words = PROBLEMS.get(problem.code, OTHER_PROBLEM)
        told = translate(request, words % dict(problem.params) if problem.params else words)
        form.fail(None, f"{translate(request, CANNOT_BE)} {told}")
