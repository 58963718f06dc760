"""Wards and their teams: who is in a team, from when until when."""

from typing import Any

from pyramid.httpexceptions import HTTPNotFound, HTTPSeeOther
from pyramid.request import Request
from pyramid.view import view_config

from medportal.access import wards
from medportal.access.care import counts_by_ward
from medportal.access.errors import TeamRefused
from medportal.access.forms_care import care_roles, span, team_schema
from medportal.audit.events import Action
from medportal.core.ids import is_id
from medportal.core.permissions import Permission
from medportal.web.flash import flash
from medportal.web.forms import Form, make_form
from medportal.web.i18n import _

REFUSALS = {
    "not-yourself": _("You cannot put yourself into a team. Ask a colleague to do it."),
    "not-care-staff": _("This person has no role that looks after patients."),
    "already-in-the-team": _("This person is in the team already at that time."),
    "begins-in-the-past": _("This day is over. Leave it empty to begin now."),
    "ends-before-it-begins": _("The last day is before the first, or over already."),
}
#: The fields to which refusals belong; the others belong to who joins.
FIELDS = {"begins-in-the-past": "from", "ends-before-it-begins": "until"}


@view_config(
    route_name="wards",
    permission=Permission.TEAMS_MANAGE,
    renderer="medportal.access:templates/wards.pt",
)
def ward_list(request: Request) -> dict[str, Any]:
    """List the wards, with how many people are in their teams and how many patients there."""
    sizes = wards.team_sizes(request.db, request.now)
    counts = counts_by_ward(request.db)
    request.audit(Action.WARDS_VIEWED)
    return {
        "wards": [
            {"name": ward, "team": sizes.get(ward, 0), "patients": counts.get(ward, 0)}
            for ward in request.tenant.wards
        ]
    }


@view_config(
    route_name="ward-team",
    permission=Permission.TEAMS_MANAGE,
    renderer="medportal.access:templates/ward_team.pt",
)
def ward_team(request: Request) -> Any:
    """Show the team of a ward, and put somebody into it."""
    ward = _ward(request)
    form = make_form(request, team_schema(request), submit=_("Put into the team"))
    if request.method == "POST":
        values = form.validate(request.POST.items())
        if values is not None and _join(request, form, ward, values):
            flash(request, _("Put into the team."))
            return HTTPSeeOther(request.route_path("ward-team", ward=ward))
    request.audit(Action.WARDS_VIEWED, details={"ward": ward})
    return {
        "form": form,
        "ward": ward,
        "members": wards.members(request.db, ward, request.now),
    }


def _join(request: Request, form: Form, ward: str, values: dict[str, Any]) -> bool:
    dates = span(request.tenant, values, request.now)
    try:
        member_id = wards.join(
            request.db,
            ward=ward,
            staff_id=values["staff"],
            assignable_roles=care_roles(request.tenant),
            by=request.identity.person_id,
            now=request.now,
            since=dates.since,
            until=dates.until,
        )
    except TeamRefused as error:
        form.fail(FIELDS.get(error.code, "staff"), REFUSALS[error.code])
        return False
    _tell(request, ward, values["staff"], member_id, "joined")
    return True


@view_config(route_name="ward-team-end", permission=Permission.TEAMS_MANAGE, request_method="POST")
def ward_team_end(request: Request) -> Any:
    """Take somebody out of a team; access through it ends at once."""
    ward = _ward(request)
    member_id = request.matchdict["member"]
    staff_id = None
    if is_id(member_id):
        staff_id = wards.leave(request.db, ward, member_id, request.now)
    if staff_id is None:
        raise HTTPNotFound()
    _tell(request, ward, staff_id, member_id, "left")
    flash(request, _("Taken out of the team."))
    return HTTPSeeOther(request.route_path("ward-team", ward=ward))


def _ward(request: Request) -> str:
    """Return the ward of the address; raises ``HTTPNotFound`` for none of this institution."""
    ward: str = request.matchdict["ward"]
    if ward not in request.tenant.wards:
        raise HTTPNotFound()
    return ward


def _tell(request: Request, ward: str, staff_id: str, member_id: str, change: str) -> None:
    request.audit(
        Action.TEAM_CHANGED,
        object=staff_id,
        details={"ward": ward, "member": member_id, "change": change},
    )
