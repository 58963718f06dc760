"""A patient's rules, and what comes of them, in sentences for the patient."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pyramid.request import Request

from medportal.access import rule_choices
from medportal.access.category_words import CATEGORY_WORDS
from medportal.access.institutions import institution_name
from medportal.access.partner_rules import is_about_partner
from medportal.access.preview import Changes, Opens, Today
from medportal.access.resources import PatientContext
from medportal.access.rules import Effect, Rule, What, Whom
from medportal.core.categories import ORDINARY, Category
from medportal.core.reasons import Reason
from medportal.web.i18n import _, format_number, translate

REFUSALS: Mapping[str, Any] = {
    "over-already": _("The last day lies before the first one, or is over."),
    "about-oneself": _("This is the patient, who always sees everything. Choose somebody else."),
    "names-oneself": _("Only the patient makes a rule about you. Choose somebody else."),
    "there-already": _("There is a rule that says this already. Change that one, or end it."),
    "too-many": _("There are very many rules. End one that is no longer needed first."),
    "ended-already": _("This rule has ended already."),
}
BECAUSE: Mapping[Reason, Any] = {
    Reason.TREATING: _("Treating doctor"),
    Reason.ASSIGNED_CARE: _("In the care team"),
    Reason.WARD_TEAM: _("In the team of the ward"),
    Reason.PATIENT_ALLOWS: _("A rule allows it"),
    Reason.BROKEN_GLASS: _("Emergency access"),
    Reason.REPRESENTATIVE: _("Represents the patient"),
    Reason.ROLE_ANY: _("By their work here"),
    Reason.AUTHOR: _("Wrote it"),
}


@dataclass(frozen=True, slots=True)
class Names:
    """What people, records and institutions of some rules are called, loaded once."""

    people: Mapping[str, str]
    records: Mapping[str, str]


def names_for(context: PatientContext, request: Request, rules: Iterable[Rule]) -> Names:
    """Load the names that sentences about some rules need.

    A record that the asker may not read has none.
    """
    about = list(rules)
    ids = [rule.whom_id for rule in about if rule.whom is Whom.PERSON]
    staff = rule_choices.people(request.db, request.tenant, ids) if ids else []
    records = [rule.what_id for rule in about if rule.what is What.RECORD]
    load = request.registry["record_titles"]
    titles = load(request, request.db, context, records) if records else {}
    return Names({one.person_id: staff_words(request, one) for one in staff}, titles)


def staff_words(request: Request, one: rule_choices.StaffMember) -> str:
    """Return somebody's name and role."""
    return f"{one.name} ({role_words(request, one.role)})"


def role_words(request: Request, role: str) -> str:
    """Return the name of a role in the page's language."""
    known = request.tenant.roles.get(role)
    return str(known.names[request.locale_name]) if known else role


def sends_to(request: Request, partner: str) -> bool:
    """Tell whether records go to a partner from here; from others they come."""
    found = request.keys.trusted.find(partner)
    return found is not None and bool(found.endpoint)


def sentence(request: Request, rule: Rule, names: Names) -> str:
    """Return a rule as a sentence."""
    told = {"whom": whom_words(request, rule, names), "what": what_words(request, rule, names)}
    if is_about_partner(rule, request.tenant.id):
        return translate(request, _partner_sentence(request, rule, told))
    if rule.effect is Effect.BLOCK:
        return translate(request, _("${whom}: may not see. This goes for: ${what}.", mapping=told))
    return translate(request, _("${whom}: may see. This goes for: ${what}.", mapping=told))


def _partner_sentence(request: Request, rule: Rule, told: dict[str, str]) -> Any:
    if not sends_to(request, rule.whom_id):
        if rule.effect is Effect.BLOCK:
            return _("Nothing that ${whom} sends is taken in here.", mapping=told)
        return _("What ${whom} sends is taken in here.", mapping=told)
    if rule.effect is Effect.BLOCK:
        return _("Not sent to ${whom}: ${what}.", mapping=told)
    return _("Sent to ${whom} all the same: ${what}.", mapping=told)


def whom_words(request: Request, rule: Rule, names: Names) -> str:
    """Return whom a rule names."""
    match rule.whom:
        case Whom.PERSON:
            left = translate(request, _("Somebody who does not work here any more"))
            return names.people.get(rule.whom_id, left)
        case Whom.DEPARTMENT:
            ward = {"ward": rule.whom_id}
            return translate(request, _("Everybody in the team of ${ward}", mapping=ward))
        case Whom.ROLE:
            role = {"role": role_words(request, rule.whom_id)}
            return translate(request, _("Everybody who works as: ${role}", mapping=role))
        case Whom.INSTITUTION:
            name = institution_name(request, rule.whom_id)
            if rule.whom_id != request.tenant.id:
                return name
            here = {"institution": name}
            return translate(request, _("Everybody who works at ${institution}", mapping=here))


def what_words(request: Request, rule: Rule, names: Names) -> str:
    """Return what a rule is about."""
    match rule.what:
        case What.EVERYTHING:
            return translate(request, _("everything"))
        case What.CATEGORY:
            return translate(request, CATEGORY_WORDS[rule.what_id])
        case What.RECORD:
            gone = translate(request, _("one record that cannot be opened"))
            return names.records.get(rule.what_id, gone)


def opens_words(request: Request, opens: Opens, what: What) -> str:
    """Return what somebody could open, in words."""
    if what is not What.EVERYTHING:
        return translate(request, _("Can open it") if opens.categories else _("Cannot open it"))
    return translate(request, _opens_all(request, opens))


def _opens_all(request: Request, opens: Opens) -> Any:
    if opens.categories == frozenset(str(each) for each in Category):
        return _("All records")
    if opens.categories == frozenset(str(each) for each in ORDINARY):
        return _("All records but the sensitive ones")
    if opens.categories:
        kinds = [each for each in Category if each in opens.categories]
        words = ", ".join(translate(request, CATEGORY_WORDS[each]) for each in kinds)
        return _("Only: ${kinds}", mapping={"kinds": words})
    return _("Name and place only, no records") if opens.sees else _("Nothing")


def today_rows(request: Request, found: Today, what: What) -> list[list[str]]:
    """Return the rows of a table of who could open something: who, what, why."""
    return [
        [
            _who(request, reader.name, reader.role, reader.count),
            opens_words(request, reader.opens, what),
            translate(request, BECAUSE[reader.opens.because]) if reader.opens.because else "",
        ]
        for reader in found.readers
    ]


def change_rows(request: Request, found: Changes, what: What) -> list[list[str]]:
    """Return the rows of a table of what changes: who, before, after."""
    return [
        [
            _who(request, change.name, change.role, change.count),
            opens_words(request, change.before, what),
            opens_words(request, change.after, what),
        ]
        for change in found.changes
    ]


def more_words(request: Request, found: Today | Changes) -> list[str]:
    """Return what is to be said of a table that does not hold everybody."""
    words = []
    if found.unnamed:
        count = {"count": format_number(request, found.unnamed)}
        words.append(_("And ${count} more that are not written out here.", mapping=count))
    if found.is_partial:
        words.append(_("Very many people work here: not all of them were looked at."))
    return [translate(request, each) for each in words]


def _who(request: Request, name: str, role: str, count: int) -> str:
    work = role_words(request, role) if role else ""
    if name:
        return f"{name} ({work})" if work else name
    told = {"role": work, "count": format_number(request, count)}
    return translate(request, _("Others who work as: ${role} (${count})", mapping=told))
