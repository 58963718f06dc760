"""Forms of patients: register, find."""

from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

import colander

from medportal.identity.forms.email import email_field
from medportal.identity.models import Sex
from medportal.tenancy.tenant import IdentifierScheme, Tenant
from medportal.web.forms import checkboxes, date_parts, radios, select, text
from medportal.web.i18n import LANGUAGES, _

EARLIEST_BIRTH = date(1890, 1, 1)
SEX_WORDS = {
    Sex.FEMALE: _("Female"),
    Sex.MALE: _("Male"),
    Sex.OTHER: _("Other"),
    Sex.UNKNOWN: _("Not known"),
}


def registration_schema(
    tenant: Tenant,
    today: date,
    language: str,
    partners: Sequence[tuple[str, str]],
    is_number: Callable[[str], bool],
    is_name: Callable[[str], bool],
) -> colander.Schema:
    """Return the schema with which a patient is registered.

    ``partners`` are (id, name) of the institutions that may be named to receive results.
    """
    schema = colander.Schema()
    schema.add(number_node(tenant, is_number))
    schema.add(name_node(is_name))
    schema.add(birth_date_node(today))
    schema.add(sex_node())
    schema.add(optional_node("city", _("City"), 100))
    schema.add(optional_node("phone", _("Phone"), 40, kind="tel"))
    schema.add(email_field(missing=""))
    schema.add(language_node(tenant))
    _place(schema, tenant)
    if partners:
        schema.add(destinations_node(partners))
    return schema


def number_node(tenant: Tenant, is_number: Callable[[str], bool]) -> Any:
    """Return the node of a citizen number."""

    def check(node: Any, value: str) -> None:
        if not is_number(value):
            raise colander.Invalid(node, number_words(tenant.identifiers))

    return colander.SchemaNode(
        colander.String(),
        name="number",
        title=_("Citizen card number"),
        validator=colander.All(colander.Length(max=40), check),
        widget=text(numeric=tenant.identifiers.is_numeric, width=20, autocomplete="off"),
    )


def number_words(scheme: IdentifierScheme) -> Any:
    """Return what to say of a number that is none of the scheme."""
    if scheme.is_numeric:
        return _(
            "Enter the ${digits} digits on the citizen card.", mapping={"digits": scheme.digits}
        )
    return _("Enter the whole number on the card, with its letters and check digits.")


def find_schema(tenant: Tenant, is_number: Callable[[str], bool]) -> colander.Schema:
    """Return the schema with which a patient is found by exact number."""
    schema = colander.Schema()
    schema.add(number_node(tenant, is_number))
    return schema


def name_node(is_name: Callable[[str], bool]) -> Any:
    """Return the node of a person's name."""

    def check(node: Any, value: str) -> None:
        if not is_name(value):
            raise colander.Invalid(node, _("Enter the whole name as it is on the citizen card."))

    return colander.SchemaNode(
        colander.String(),
        name="name",
        title=_("Name"),
        preparer=lambda value: " ".join(value.split()) if isinstance(value, str) else value,
        validator=colander.All(colander.Length(max=200), check),
        widget=text(width=30, autocomplete="off", spellcheck=False),
    )


def birth_date_node(today: date) -> Any:
    """Return the node of a date of birth."""
    return colander.SchemaNode(
        colander.Date(),
        name="birth_date",
        title=_("Date of birth"),
        validator=colander.Range(
            EARLIEST_BIRTH,
            today,
            min_err=_("Check the year of birth."),
            max_err=_("The date of birth is in the future."),
        ),
        widget=date_parts(),
    )


def sex_node() -> Any:
    """Return the node of the administrative gender."""
    return colander.SchemaNode(
        colander.String(),
        name="sex",
        title=_("Sex"),
        validator=colander.OneOf([str(sex) for sex in Sex]),
        widget=radios([(str(sex), words) for sex, words in SEX_WORDS.items()]),
    )


def language_node(tenant: Tenant) -> Any:
    """Return the node of the language in which somebody wants pages and mails."""
    return colander.SchemaNode(
        colander.String(),
        name="language",
        title=_("Language"),
        default=tenant.default_language,
        validator=colander.OneOf(list(LANGUAGES)),
        widget=radios(list(LANGUAGES.items())),
    )


def optional_node(name: str, title: str, most: int, *, kind: str = "text", **kw: Any) -> Any:
    """Return the node of a line of text that may be left empty."""
    validators = [colander.Length(max=most), *([kw["validator"]] if "validator" in kw else [])]
    return colander.SchemaNode(
        colander.String(),
        name=name,
        title=title,
        missing="",
        validator=colander.All(_printable, *validators),
        widget=text(kind=kind, width=30, autocomplete="off"),
    )


def _place(schema: colander.Schema, tenant: Tenant) -> None:
    if not tenant.wards:
        return
    schema.add(
        colander.SchemaNode(
            colander.String(),
            name="ward",
            title=_("Ward"),
            missing="",
            validator=colander.OneOf(tenant.wards),
            widget=select([("", ""), *((ward, ward) for ward in tenant.wards)]),
        )
    )
    schema.add(optional_node("bed", _("Bed"), 20))


def destinations_node(partners: Sequence[tuple[str, str]]) -> Any:
    """Return the node of the institutions that get a patient's results."""
    return colander.SchemaNode(
        colander.Set(),
        name="destinations",
        title=_("Who else gets the results?"),
        description=_("Results go to the institutions chosen here, as soon as they are saved."),
        missing=(),
        validator=colander.ContainsOnly([partner for partner, _name in partners]),
        widget=checkboxes(partners),
    )


def _printable(node: Any, value: str) -> None:
    if not value.isprintable():
        raise colander.Invalid(node, _("Use letters, digits and ordinary signs only."))
