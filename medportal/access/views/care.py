"""Pages about who looks after whom: home, my patients, care."""

from typing import Any

import colander
from pyramid.httpexceptions import HTTPNotFound, HTTPSeeOther
from pyramid.request import Request
from pyramid.view import view_config
from sqlalchemy import Select, select

from medportal.access.care import assign, assignable_staff, carers, end_assignment, in_force
from medportal.access.errors import AssignmentRefused
from medportal.access.models import CareAssignment, CareKind
from medportal.access.resources import PatientContext, Root
from medportal.audit.events import Action
from medportal.core.ids import is_id
from medportal.core.permissions import Permission, Reach
from medportal.patients import service as patients
from medportal.web.flash import flash
from medportal.web.forms import make_form, radios
from medportal.web.forms import select as select_widget
from medportal.web.i18n import _

REFUSALS = {
    "not-yourself": _("You cannot assign yourself. Ask a colleague to do it."),
    "not-to-themselves": _("Nobody looks after themselves: choose somebody else."),
    "not-care-staff": _("This person has no role that looks after patients."),
    "not-a-doctor": _("Only a doctor can be the treating doctor."),
    "already-assigned": _("This person looks after the patient already."),
}
CARE_WORDS = {
    CareKind.TREATING: _("Treating doctor"),
    CareKind.TEAM: _("Care team"),
}


@view_config(route_name="home", permission=Permission.HOME_VIEW, renderer="templates/home.pt")
def home(request: Request) -> Any:
    """Go where the person's work is; staff who are patients too choose first."""
    places = destinations_of(request)
    is_both = "patient" in request.identity.roles and len(request.identity.roles) > 1
    if places and not is_both and not request.identity.withheld:
        return HTTPSeeOther(places[0][1])
    return {"places": places, "withheld": bool(request.identity.withheld)}


def destinations_of(request: Request) -> list[tuple[str, str]]:
    """Return (words, address) of the pages where somebody's work is."""
    decision = Root(request).decision
    found: list[tuple[str, str]] = []
    if decision.allows(Permission.PATIENTS_LIST):
        own = Reach.ANY not in _list_reach(request)
        words = _("My patients") if own else _("Patients")
        found.append((words, request.route_path("patients")))
    if decision.allows(Permission.PATIENTS_REGISTER):
        found.append((_("Register a patient"), request.route_path("patient-register")))
    if decision.allows(Permission.PEOPLE_MANAGE):
        found.append((_("People"), request.route_path("people")))
    if decision.allows(Permission.APPROVALS_DECIDE):
        found.append((_("Approvals"), request.route_path("approvals")))
    if decision.allows(Permission.DELIVERIES_VIEW):
        found.append((_("Deliveries"), request.route_path("deliveries")))
    if decision.allows(Permission.AUDIT_VIEW):
        found.append((_("Audit log"), request.route_path("audit-log")))
    if decision.allows(Permission.SETTINGS_MANAGE):
        found.append((_("Institution"), request.route_path("institution-settings")))
    if "patient" in request.identity.roles:
        own_page = request.route_path("patient", patient=request.identity.person_id)
        found.append((_("My record"), own_page))
    return found


def _list_reach(request: Request) -> frozenset[Reach]:
    return Root(request).facts().held.get(Permission.PATIENTS_LIST, frozenset())


@view_config(
    route_name="patients", permission=Permission.PATIENTS_LIST, renderer="templates/patients.pt"
)
def patient_list(request: Request) -> dict[str, Any]:
    """List the patients whom one may see: everybody, or those whom one looks after now."""
    everybody = Reach.ANY in _list_reach(request)
    among = None
    if not everybody:
        among = select(CareAssignment.patient_id).where(
            CareAssignment.staff_id == request.identity.person_id,
            # Nobody sees their own record as staff.
            CareAssignment.patient_id != request.identity.person_id,
            in_force(request.now),
        )
    cards = patients.list_patients(
        request.db, among=among, after=_cursor(request, among), limit=patients.PAGE + 1
    )
    page, more = cards[: patients.PAGE], len(cards) > patients.PAGE
    request.audit(Action.PATIENTS_LISTED, details={"count": len(page)})
    decision = Root(request).decision
    held = Root(request).facts().held
    return {
        "cards": page,
        "everybody": everybody,
        "may_register": decision.allows(Permission.PATIENTS_REGISTER),
        "sees_birth": bool(held.get(Permission.PATIENT_DEMOGRAPHICS, frozenset()) - {Reach.OWN}),
        "sees_bed": bool(held.get(Permission.PATIENT_BED, frozenset()) - {Reach.OWN}),
        "has_wards": bool(request.tenant.wards),
        "next": _next(request, page[-1]) if more else None,
        "is_first": "after" not in request.GET,
    }


def _cursor(request: Request, among: Select[str] | None) -> tuple[str, str] | None:
    """Return the key of the last patient of the page before.

    It is the id alone: the name is looked up again, so that no name stands in an address.
    """
    after = request.GET.get("after")
    if after is None:
        return None
    key = patients.list_key(request.db, after, among) if is_id(after) else None
    if key is None:
        raise HTTPNotFound()
    return key


def _next(request: Request, last: patients.PatientCard) -> str:
    path: str = request.route_path("patients", _query={"after": last.id})
    return path


def care_roles(request: Request) -> list[str]:
    """Return the roles of this institution that look after assigned patients."""
    return [
        role.id
        for role in request.tenant.roles.values()
        if role.grants.get(Permission.PATIENT_SEE) is Reach.ASSIGNED
    ]


def _care_schema(request: Request) -> colander.Schema:
    language = request.locale_name
    staff = [
        (person_id, f"{name} ({request.tenant.roles[role].names[language]})")
        for person_id, name, role in assignable_staff(request.db, care_roles(request))
    ]
    schema = colander.Schema()
    schema.add(
        colander.SchemaNode(
            colander.String(),
            name="staff",
            title=_("Who"),
            validator=colander.OneOf([person_id for person_id, _words in staff]),
            widget=select_widget([("", ""), *staff]),
        )
    )
    schema.add(
        colander.SchemaNode(
            colander.String(),
            name="kind",
            title=_("As"),
            default=str(CareKind.TEAM),
            validator=colander.OneOf([str(kind) for kind in CareKind]),
            widget=radios([(str(kind), words) for kind, words in CARE_WORDS.items()]),
        )
    )
    return schema


@view_config(route_name="care", permission=Permission.CARE_MANAGE, renderer="templates/care.pt")
def care(context: PatientContext, request: Request) -> Any:
    """Show who looks after a patient, and put somebody in charge."""
    form = make_form(request, _care_schema(request), submit=_("Assign"))
    if request.method == "POST":
        values = form.validate(request.POST.items())
        if values is not None and _assign(context, request, form, values):
            flash(request, _("Assigned."))
            return HTTPSeeOther(request.route_path("care", patient=context.patient_id))
    request.audit(
        Action.PATIENT_VIEWED,
        patient=context.patient_id,
        reasons=context.decision.because[Permission.CARE_MANAGE],
    )
    scheme = request.tenant.identifiers.scheme
    return {
        "form": form,
        "patient": patients.details(request.db, context.patient_id, scheme),
        "carers": carers(request.db, context.patient_id, request.now),
        "words": CARE_WORDS,
    }


def _assign(context: PatientContext, request: Request, form: Any, values: dict[str, Any]) -> bool:
    try:
        assign(
            request.db,
            patient_id=context.patient_id,
            staff_id=values["staff"],
            kind=CareKind(values["kind"]),
            assignable_roles=care_roles(request),
            treating_roles=[r.id for r in request.tenant.roles.values() if r.treating],
            by=request.identity.person_id,
            now=request.now,
        )
    except AssignmentRefused as error:
        form.fail("kind" if error.code == "not-a-doctor" else "staff", REFUSALS[error.code])
        return False
    request.audit(
        Action.CARE_ASSIGNED,
        patient=context.patient_id,
        object=values["staff"],
        details={"kind": values["kind"]},
    )
    return True


@view_config(route_name="care-end", permission=Permission.CARE_MANAGE, request_method="POST")
def care_end(context: PatientContext, request: Request) -> Any:
    """End one assignment; access through it ends at once."""
    assignment_id = request.matchdict["assignment"]
    staff_id = end_assignment(request.db, context.patient_id, assignment_id, request.now)
    if staff_id is None:
        raise HTTPNotFound()
    request.audit(Action.CARE_ENDED, patient=context.patient_id, object=staff_id)
    flash(request, _("The assignment has ended."))
    return HTTPSeeOther(request.route_path("care", patient=context.patient_id))
