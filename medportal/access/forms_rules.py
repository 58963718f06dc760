"""The form of a patient's rule: who, what, from when until when."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import colander
from pyramid.request import Request

from medportal.access import rule_choices
from medportal.access.category_words import CATEGORY_WORDS
from medportal.access.forms_care import EARLIEST, LATEST
from medportal.access.institutions import institution_name
from medportal.access.patient_rules import LONGEST_NOTE
from medportal.access.resources import PatientContext
from medportal.access.rule_words import role_words, staff_words
from medportal.access.rules import Effect, Rule, What, Whom
from medportal.core.categories import Category
from medportal.core.ids import is_id, new_id
from medportal.core.permissions import Permission
from medportal.web.forms import area, date_parts, hidden, radios, select, text
from medportal.web.i18n import _, format_date, time_zone, translate

#: Between the kind of what is chosen and its id.
SIGN = ":"
#: As many records are offered, the newest; about an older one a rule is made from its page.
RECORDS = 50
#: The field that carries the id of the rule that saving makes.
RULE_ID = "rule_id"
EFFECTS = {
    Effect.BLOCK: _("They may not see it"),
    Effect.ALLOW: _("They may see it"),
}
Choices = Sequence[tuple[str, Any]]


@dataclass(frozen=True, slots=True)
class Offered:
    """What a rule may name here: (value, words) of whom and of what."""

    whom: Choices
    what: Choices


def offered(context: PatientContext, request: Request, rule: Rule | None = None) -> Offered:
    """Return what may be chosen; what ``rule`` names already is among it.

    A record that the asker may not read is never offered.
    """
    whom: Choices = _whom(request, context.patient_id)
    what: Choices = _what(context, request)
    if rule is not None:
        whom = _with(whom, value_of(rule.whom, rule.whom_id), _person_words(request, rule))
        what = _with(what, value_of(rule.what, rule.what_id), _record_words(context, request, rule))
    return Offered(whom, what)


def rule_schema(choices: Offered) -> colander.Schema:
    """Return the schema of the page on which a rule is put together."""
    schema = colander.Schema()
    for node in (
        _effect(),
        _choice(
            "whom",
            _("Whom is it about?"),
            [("", ""), *choices.whom],
            missing="",
            description=_(
                "People of the care team, and whoever has looked, are on the list by name. An "
                "institution that is not this one gets nothing more, or sends nothing more."
            ),
        ),
        colander.SchemaNode(
            colander.String(),
            name="name",
            title=_("Or the exact name of somebody who works here"),
            missing="",
            validator=colander.Length(max=200),
            widget=text(width=30, autocomplete="off", spellcheck=False),
        ),
        _choice(
            "what",
            _("What is it about?"),
            list(choices.what),
            default=value_of(What.EVERYTHING, ""),
        ),
        _day("from", _("From"), _("Leave it empty to begin at once.")),
        _day("until", _("Last day"), _("Leave it empty if it has no end.")),
        _note(),
    ):
        schema.add(node)
    return schema


def kept_schema() -> colander.Schema:
    """Return the schema that carries a rule through its preview: the same fields, hidden."""
    schema = colander.Schema()
    for name in ("effect", "whom", "what", RULE_ID):
        schema.add(_kept(name, validator=colander.Length(max=80)))
    for name in ("from", "until"):
        schema.add(_kept(name, kind=colander.Date(), validator=_range(), missing=None))
    schema.add(
        _kept(
            "note",
            missing="",
            preparer=_one_kind_of_line_end,
            validator=colander.All(colander.Length(max=LONGEST_NOTE), _is_legible),
        )
    )
    return schema


def value_of(kind: Whom | What, ident: str) -> str:
    """Return how a form names somebody or something."""
    return f"{kind}{SIGN}{ident}"


def read_whom(request: Request, patient_id: str, value: str) -> tuple[Whom, str] | None:
    """Return whom a value names, ``None`` for nobody whom a rule may name here.

    Who stands for the patient makes no rule about themselves, and the patient needs none.
    """
    kind, _sign, ident = value.partition(SIGN)
    known = {
        Whom.DEPARTMENT: request.tenant.wards,
        Whom.ROLE: rule_choices.seeing_roles(request.tenant),
        Whom.INSTITUTION: [request.tenant.id, *_partners(request)],
    }
    if kind == Whom.PERSON:
        works_here = is_id(ident) and bool(rule_choices.people(request.db, request.tenant, [ident]))
        is_other = ident not in {patient_id, request.identity.person_id}
        return (Whom.PERSON, ident) if works_here and is_other else None
    found = next((whom for whom in known if whom == kind), None)
    return (found, ident) if found is not None and ident in known[found] else None


def read_what(context: PatientContext, request: Request, value: str) -> tuple[What, str] | None:
    """Return what a value is about, ``None`` for nothing of this patient that one may read."""
    kind, _sign, ident = value.partition(SIGN)
    if kind == What.EVERYTHING and not ident:
        return What.EVERYTHING, ""
    if kind == What.CATEGORY and ident in set(Category):
        return What.CATEGORY, ident
    if kind == What.RECORD and is_id(ident):
        record = request.registry["record_facts"](request.db, context.patient_id, ident)
        may_read = context.record_decision(record).allows(Permission.RECORD_READ)
        return (What.RECORD, ident) if may_read else None
    return None


def filled(request: Request, rule: Rule, note: str) -> Mapping[str, Any]:
    """Return the values of a form for a rule as it stands, in days at the institution's clock."""
    zone = time_zone(request)
    begins = None if rule.since <= request.now else rule.since.astimezone(zone).date()
    values = {
        "effect": str(rule.effect),
        "whom": value_of(rule.whom, rule.whom_id),
        "what": value_of(rule.what, rule.what_id),
        "note": note,
        "from": begins,
        "until": last_day(request, rule),
    }
    return {name: value for name, value in values.items() if value is not None}


def last_day(request: Request, rule: Rule) -> date | None:
    """Return the last day on which a rule counts, at the institution's clock."""
    if rule.until is None:
        return None
    # The end itself is outside.
    return (rule.until - timedelta(microseconds=1)).astimezone(time_zone(request)).date()


def _whom(request: Request, patient_id: str) -> list[tuple[str, Any]]:
    tenant = request.tenant
    known = rule_choices.known_people(request.db, tenant, patient_id, request.now)
    people = [one for one in known if one.person_id != request.identity.person_id]
    here = {"institution": institution_name(request, tenant.id)}
    return [
        *((value_of(Whom.PERSON, p.person_id), staff_words(request, p)) for p in people),
        *(
            (
                value_of(Whom.DEPARTMENT, ward),
                _("Everybody in the team of ${ward}", mapping={"ward": ward}),
            )
            for ward in tenant.wards
        ),
        *(
            (
                value_of(Whom.ROLE, role),
                _("Everybody who works as: ${role}", mapping={"role": role_words(request, role)}),
            )
            for role in rule_choices.seeing_roles(tenant)
        ),
        (
            value_of(Whom.INSTITUTION, tenant.id),
            _("Everybody who works at ${institution}", mapping=here),
        ),
        *(
            (
                value_of(Whom.INSTITUTION, partner),
                _(
                    "Another institution: ${name}",
                    mapping={"name": institution_name(request, partner)},
                ),
            )
            for partner in _partners(request)
        ),
    ]


def _what(context: PatientContext, request: Request) -> list[tuple[str, Any]]:
    records = request.registry["readable_records"](request.db, context, limit=RECORDS)
    return [
        (value_of(What.EVERYTHING, ""), _("Everything")),
        *(
            (
                value_of(What.CATEGORY, category),
                _(
                    "Everything of this kind: ${kind}",
                    mapping={"kind": translate(request, CATEGORY_WORDS[category])},
                ),
            )
            for category in Category
        ),
        *((value_of(What.RECORD, one.id), _record_title(request, one)) for one in records),
    ]


def _record_title(request: Request, record: Any) -> Any:
    told = {
        "kind": translate(request, CATEGORY_WORDS[record.category]),
        "date": format_date(request, record.effective_on),
        "origin": institution_name(request, record.origin),
    }
    return _("One record: ${kind}, ${date}, ${origin}", mapping=told)


def _partners(request: Request) -> list[str]:
    return [partner.institution for partner in request.keys.partners()]


def _with(choices: Choices, value: str, words: Any | None) -> Choices:
    """Return the choices with one more, unless it is there, or has no words to show."""
    if words is None or any(value == offered for offered, _words in choices):
        return choices
    return [*choices, (value, words)]


def _person_words(request: Request, rule: Rule) -> Any | None:
    if rule.whom is not Whom.PERSON:
        return None
    found = rule_choices.people(request.db, request.tenant, [rule.whom_id])
    return staff_words(request, found[0]) if found else None


def _record_words(context: PatientContext, request: Request, rule: Rule) -> Any | None:
    if rule.what is not What.RECORD:
        return None
    titles = request.registry["record_titles"](request, request.db, context, [rule.what_id])
    found: str | None = titles.get(rule.what_id)
    return found


def _effect() -> Any:
    return colander.SchemaNode(
        colander.String(),
        name="effect",
        title=_("What should the rule do?"),
        description=_(
            "“They may see it” never gives anybody more than their work here allows, such as "
            "records to a porter."
        ),
        validator=colander.OneOf([str(effect) for effect in Effect]),
        widget=radios([(str(effect), words) for effect, words in EFFECTS.items()]),
    )


def _choice(name: str, title: Any, choices: Choices, **kw: Any) -> Any:
    return colander.SchemaNode(
        colander.String(),
        name=name,
        title=title,
        validator=colander.OneOf([value for value, _words in choices if value]),
        widget=select(choices),
        **kw,
    )


def _day(name: str, title: Any, description: Any) -> Any:
    return colander.SchemaNode(
        colander.Date(),
        name=name,
        title=title,
        description=description,
        missing=None,
        validator=_range(),
        widget=date_parts(),
    )


def _range() -> Any:
    words = _("Check the year.")
    return colander.Range(EARLIEST, LATEST, min_err=words, max_err=words)


def _note() -> Any:
    return colander.SchemaNode(
        colander.String(),
        name="note",
        title=_("Note"),
        description=_("For yourself: why you made this rule. Nobody who works here sees it."),
        missing="",
        preparer=_one_kind_of_line_end,
        validator=colander.All(colander.Length(max=LONGEST_NOTE), _is_legible),
        widget=area(rows=3),
    )


def _kept(name: str, *, kind: Any = None, **kw: Any) -> Any:
    default = new_id() if name == RULE_ID else ""
    if kind is None:
        kw.setdefault("default", default)
    return colander.SchemaNode(
        kind or colander.String(), name=name, title="", widget=hidden(), **kw
    )


def _one_kind_of_line_end(typed: Any) -> Any:
    return typed.replace("\r\n", "\n").strip() if isinstance(typed, str) else typed


def _is_legible(node: Any, value: str) -> None:
    if not all(character.isprintable() or character == "\n" for character in value):
        raise colander.Invalid(node, _("Use letters, digits and ordinary signs only."))
