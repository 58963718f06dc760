"""Forms of care: who, as what, from and until; teams, wards and beds."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import colander
from pyramid.request import Request

from medportal.access.care import assignable_staff
from medportal.access.models import CareKind
from medportal.core.permissions import Permission, Reach
from medportal.patients.forms import optional_node
from medportal.tenancy.tenant import Tenant
from medportal.web.forms import checkbox, date_parts, radios, select
from medportal.web.i18n import _

#: In front of the name of a ward whose team is chosen; ids of people have no such sign.
TEAM = "team:"
EARLIEST, LATEST = date(2000, 1, 1), date(2199, 12, 31)
CARE_WORDS = {
    CareKind.TREATING: _("Treating doctor"),
    CareKind.TEAM: _("Care team"),
}


@dataclass(frozen=True, slots=True)
class Span:
    """From when until when; ``None`` is from now, and without an end."""

    since: datetime | None
    until: datetime | None


def span(tenant: Tenant, values: dict[str, Any], now: datetime) -> Span:
    """Return what the dates of a form mean at the institution's clock.

    From today is from now. The last day is a whole one: it ends when the next one begins.
    """
    today = now.astimezone(ZoneInfo(tenant.time_zone)).date()
    begins, ends = values["from"], values["until"]
    return Span(
        None if begins in (None, today) else midnight(tenant, begins),
        None if ends is None else midnight(tenant, ends + timedelta(days=1)),
    )


def midnight(tenant: Tenant, day: date) -> datetime:
    """Return when a day begins at the institution's clock."""
    return datetime.combine(day, time(), ZoneInfo(tenant.time_zone))


def care_roles(tenant: Tenant) -> list[str]:
    """Return the roles of an institution that look after assigned patients."""
    return [
        role.id
        for role in tenant.roles.values()
        if role.grants.get(Permission.PATIENT_SEE) is Reach.ASSIGNED
    ]


def treating_roles(tenant: Tenant) -> list[str]:
    """Return the roles whose people may be a patient's treating doctor."""
    return [role.id for role in tenant.roles.values() if role.treating]


def care_schema(request: Request) -> colander.Schema:
    """Return the schema with which somebody, or the team of a ward, is put in charge."""
    teams = [
        (TEAM + ward, _("Team of ${ward}", mapping={"ward": ward})) for ward in request.tenant.wards
    ]
    schema = colander.Schema()
    schema.add(_who([*staff_choices(request), *teams]))
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
    _dates(schema)
    schema.add(
        colander.SchemaNode(
            colander.Boolean(),
            name="opens_sensitive",
            title=_("Also for mental health, sexual health, substance use and genetics"),
            description=_(
                "A treating doctor sees these in any case. Others see them only if this is "
                "ticked, or if the patient allows it."
            ),
            missing=False,
            widget=checkbox(),
        )
    )
    return schema


def team_schema(request: Request) -> colander.Schema:
    """Return the schema with which somebody is put into the team of a ward."""
    schema = colander.Schema()
    schema.add(_who(staff_choices(request)))
    _dates(schema)
    return schema


def admission_schema(tenant: Tenant) -> colander.Schema:
    """Return the schema with which a patient is put into a ward and bed."""
    schema = colander.Schema()
    schema.add(
        colander.SchemaNode(
            colander.String(),
            name="ward",
            title=_("Ward"),
            validator=colander.OneOf(tenant.wards),
            widget=select([("", ""), *((ward, ward) for ward in tenant.wards)]),
        )
    )
    schema.add(optional_node("bed", _("Bed"), 20))
    schema.add(
        colander.SchemaNode(
            colander.Boolean(),
            name="with_team",
            title=_("The team of this ward looks after the patient"),
            missing=False,
            default=True,
            widget=checkbox(),
        )
    )
    return schema


def staff_choices(request: Request) -> list[tuple[str, str]]:
    """Return (person id, words) of everybody who can be put in charge of patients."""
    roles = request.tenant.roles
    language = request.locale_name
    return [
        (person_id, f"{name} ({roles[role].names[language]})")
        for person_id, name, role in assignable_staff(request.db, care_roles(request.tenant))
    ]


def _who(choices: Sequence[tuple[str, str]]) -> Any:
    return colander.SchemaNode(
        colander.String(),
        name="staff",
        title=_("Who"),
        validator=colander.OneOf([value for value, _words in choices]),
        widget=select([("", ""), *choices]),
    )


def _dates(schema: colander.Schema) -> None:
    schema.add(day_node("from", _("From"), _("Leave it empty to begin now.")))
    schema.add(
        day_node("until", _("Until"), _("The last day. Leave it empty if it is not known yet."))
    )


def day_node(name: str, title: str, description: str) -> Any:
    """Return the node of a day that may be left empty."""
    return colander.SchemaNode(
        colander.Date(),
        name=name,
        title=title,
        description=description,
        missing=None,
        validator=colander.Range(
            EARLIEST, LATEST, min_err=_("Check the year."), max_err=_("Check the year.")
        ),
        widget=date_parts(),
    )
