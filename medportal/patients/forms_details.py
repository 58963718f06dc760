"""The form with which the desk keeps a patient's registration data."""

from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

import colander

from medportal.patients.details import Details
from medportal.patients.forms import (
    birth_date_node,
    destinations_node,
    language_node,
    name_node,
    number_node,
    optional_node,
    sex_node,
)
from medportal.patients.models import PatientStatus
from medportal.tenancy.tenant import Tenant
from medportal.web.forms import hidden, radios
from medportal.web.i18n import _

STATUS_WORDS = {
    PatientStatus.ACTIVE: _("Lives"),
    PatientStatus.DECEASED: _("Has died"),
}


def details_schema(
    tenant: Tenant,
    today: date,
    partners: Sequence[tuple[str, str]],
    is_number: Callable[[str], bool],
    is_name: Callable[[str], bool],
) -> colander.Schema:
    """Return the schema; ``partners`` are (id, name) of whom may be named to get results."""
    schema = colander.Schema()
    schema.add(number_node(tenant, is_number))
    schema.add(name_node(is_name))
    schema.add(birth_date_node(today))
    schema.add(sex_node())
    schema.add(optional_node("city", _("City"), 100))
    schema.add(optional_node("phone", _("Phone"), 40, kind="tel"))
    schema.add(language_node(tenant))
    schema.add(
        colander.SchemaNode(
            colander.String(),
            name="status",
            title=_("Status"),
            validator=colander.OneOf([str(status) for status in STATUS_WORDS]),
            widget=radios([(str(status), words) for status, words in STATUS_WORDS.items()]),
        )
    )
    if partners:
        schema.add(destinations_node(partners))
    schema.add(
        colander.SchemaNode(
            colander.String(),
            name="seen",
            missing="",
            validator=colander.Length(max=64),
            widget=hidden(),
        )
    )
    return schema


def filled_with(details: Details) -> dict[str, Any]:
    """Return what stands in the form before anything is typed."""
    return {
        "number": details.number,
        "name": details.name,
        "birth_date": details.birth_date,
        "sex": details.sex,
        "city": details.city,
        "phone": details.phone,
        "language": details.language,
        "status": details.status,
        "destinations": set(details.destinations),
        "seen": details.digest,
    }
