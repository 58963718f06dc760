"""Home: where somebody's work is."""

from typing import Any

from pyramid.httpexceptions import HTTPSeeOther
from pyramid.request import Request
from pyramid.view import view_config

from medportal.access.representatives import represented_by
from medportal.access.resources import root_of
from medportal.core.permissions import Permission, Reach
from medportal.tenancy.tenant import REPRESENTATIVE_ROLE
from medportal.web.i18n import _

#: Permission, words and route of the places where work is, in the order of the navigation.
PLACES = (
    (Permission.PATIENTS_REGISTER, _("Register a patient"), "patient-register"),
    (Permission.PATIENTS_FIND, _("Find by number"), "patient-find"),
    (Permission.TEAMS_MANAGE, _("Wards"), "wards"),
    (Permission.HELD_DECIDE, _("Results held back"), "held"),
    (Permission.PEOPLE_MANAGE, _("People"), "people"),
    (Permission.APPROVALS_DECIDE, _("Approvals"), "approvals"),
    (Permission.REVIEWS_DECIDE, _("Emergency access"), "reviews"),
    (Permission.COMPLAINTS_ANSWER, _("Patients’ questions"), "complaints"),
    (Permission.DELIVERIES_VIEW, _("Deliveries"), "deliveries"),
    (Permission.PARTNERS_MANAGE, _("Partners"), "partners"),
    (Permission.ERASURE_DECIDE, _("Erasures"), "erasures"),
    (Permission.AUDIT_VIEW, _("Audit log"), "audit-log"),
    (Permission.SETTINGS_MANAGE, _("Institution"), "institution-settings"),
    (Permission.SETTINGS_MANAGE, _("Certificates"), "certificates"),
)
#: What a patient may do about their own record, besides reading it.
OWN_PLACES = (
    (Permission.RULES_MANAGE, _("Who may see my record"), "rules"),
    (Permission.ACCESS_LOG_VIEW, _("Who looked"), "access-log"),
)


@view_config(
    route_name="home",
    permission=Permission.HOME_VIEW,
    request_method="GET",
    renderer="medportal.access:templates/home.pt",
)
def home(request: Request) -> Any:
    """Go where the person's work is; staff who are patients too choose first."""
    places = destinations_of(request)
    is_both = "patient" in request.identity.roles and len(request.identity.roles) > 1
    if places and not is_both and not request.identity.withheld:
        return HTTPSeeOther(places[0][1])
    return {"places": places, "withheld": bool(request.identity.withheld)}


def destinations_of(request: Request) -> list[tuple[str, str]]:
    """Return (words, address) of the pages where somebody's work is."""
    root = root_of(request)
    decision = root.decision
    found: list[tuple[str, str]] = []
    if decision.allows(Permission.PATIENTS_LIST):
        if root.facts().held.get(Permission.RESULT_ACKNOWLEDGE):
            found.append((_results_words(request), request.route_path("results")))
        reach = root.facts().held.get(Permission.PATIENTS_LIST, frozenset())
        words = _("Patients") if Reach.ANY in reach else _("My patients")
        found.append((words, request.route_path("patients")))
    found.extend(
        (words, request.route_path(route))
        for permission, words, route in PLACES
        if decision.allows(permission)
    )
    if "patient" in request.identity.roles:
        own = request.identity.person_id
        found.append((_("My record"), request.route_path("patient", patient=own)))
        held = root.facts().held
        found.extend(
            (words, request.route_path(route, patient=own))
            for permission, words, route in OWN_PLACES
            if Reach.OWN in held.get(permission, frozenset())
        )
    found.extend(_represented(request))
    return found


def _results_words(request: Request) -> Any:
    """Return what the list of new results is called, with their number where it is told."""
    count = request.results_waiting
    if not count:
        return _("New results")
    shown = str(count) if count < 100 else "99+"
    return _("New results (${count})", mapping={"count": shown})


def _represented(request: Request) -> list[tuple[str, str]]:
    """Return (words, address) of the records of those for whom somebody stands."""
    if REPRESENTATIVE_ROLE not in request.identity.roles:
        return []
    stands_for = represented_by(request.db, request.identity.person_id, request.now)
    return [
        (
            _("Record of ${name}", mapping={"name": name}),
            request.route_path("patient", patient=patient_id),
        )
        for patient_id, name in stands_for
    ]
