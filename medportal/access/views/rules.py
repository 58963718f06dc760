"""A patient's rules: who may see what, as the patient wants it, and what a change would mean.

A rule is put together, looked at, and only then saved: before that the patient sees who could
open the thing today and what the rule would change.
"""

from collections.abc import Mapping
from typing import Any

from pyramid.httpexceptions import HTTPNotFound, HTTPSeeOther
from pyramid.request import Request
from pyramid.view import view_config

from medportal.access import forms_rules as forms
from medportal.access import partner_rules, patient_rules, preview, rule_choices, rule_words
from medportal.access.errors import RuleRefused
from medportal.access.forms_care import span
from medportal.access.patient_rules import Listed, Saved, Wish
from medportal.access.question import RecordFacts
from medportal.access.resources import PatientContext
from medportal.access.rules import Effect, Rule, What, Whom
from medportal.audit.append import append
from medportal.audit.events import Action, Outcome
from medportal.core.ids import is_id, new_id
from medportal.core.permissions import Permission
from medportal.identity.fresh import require_fresh
from medportal.patients import service as patients
from medportal.web.flash import flash
from medportal.web.forms import Form, make_form
from medportal.web.i18n import _

MAY = Permission.RULES_MANAGE
#: The forms of the pages: put together, go back to that, save.
DRAFT, AGAIN, SAVE = "form", "again", "save"
#: The fields of a draft that the preview carries, and brings back.
DRAFTED = frozenset({"effect", "whom", "what", "from", "until", "note"})


@view_config(
    route_name="rules",
    permission=MAY,
    renderer="medportal.access:templates/rules.pt",
    request_method="GET",
)
def rule_list(context: PatientContext, request: Request) -> dict[str, Any]:
    """Show a patient's rules, and who could open the records today."""
    vault = request.keys.vault
    asker = request.identity.person_id
    found = patient_rules.rules(request.db, vault, context.patient_id, asker, request.now)
    listed = [*found.in_force, *found.to_come, *found.over]
    names = rule_words.names_for(context, request, [one.rule for one in listed])
    house = preview.load(request.db, request.tenant, context.patient_id, request.now)
    things = preview.things_of(What.EVERYTHING, "", None)
    today = preview.today(house, things, request.now)
    _viewed(context, request)
    return {
        **_frame(context, request),
        "in_force": [_card(request, one, names) for one in found.in_force],
        "to_come": [_card(request, one, names) for one in found.to_come],
        "over": [_card(request, one, names) for one in found.over],
        "today": rule_words.today_rows(request, today, What.EVERYTHING),
        "today_more": rule_words.more_words(request, today),
    }


@view_config(
    route_name="rule-new", permission=MAY, renderer="medportal.access:templates/rule_edit.pt"
)
def rule_new(context: PatientContext, request: Request) -> Any:
    """Put a rule together, look at what it would change, save it."""
    require_fresh(request, _list_path(context, request))
    return _edit(context, request, None)


@view_config(route_name="rule", permission=MAY, renderer="medportal.access:templates/rule_edit.pt")
def rule_change(context: PatientContext, request: Request) -> Any:
    """Change a rule: it ends, and another begins in its place."""
    require_fresh(request, _list_path(context, request))
    return _edit(context, request, _standing(context, request))


@view_config(
    route_name="rule-end", permission=MAY, renderer="medportal.access:templates/rule_end.pt"
)
def rule_end(context: PatientContext, request: Request) -> Any:
    """Show what ending a rule would change, and end it."""
    require_fresh(request, _list_path(context, request))
    if request.method == "POST":
        return _end(context, request)
    old = _standing(context, request)
    _viewed(context, request)
    names = rule_words.names_for(context, request, [old.rule])
    return {
        **_frame(context, request),
        "sentence": rule_words.sentence(request, old.rule, names),
        "action": request.route_path("rule-end", patient=context.patient_id, rule=old.rule.id),
        **_changes(context, request, old.rule, old=old.rule, new=None),
    }


def _edit(context: PatientContext, request: Request, old: Listed | None) -> Any:
    _viewed(context, request)
    if request.method != "POST":
        return _draft_page(context, request, _first_draft(context, request, old), old)
    save, again = _kept(request, SAVE), _kept(request, AGAIN)
    if save.is_submitted or again.is_submitted:
        form = save if save.is_submitted else again
        return _after_preview(context, request, form, old, is_again=again.is_submitted)
    draft = _draft(context, request, old.rule if old else None)
    values = draft.validate(request.POST.items())
    if values is None or not _settle_whom(context, request, draft, values):
        return _draft_page(context, request, draft, old)
    wish = _wish(context, request, {**values, forms.RULE_ID: new_id()})
    if wish is None or not _makes_sense(request, draft, wish):
        return _draft_page(context, request, draft, old)
    return _preview_page(context, request, values, wish, old)


def _after_preview(
    context: PatientContext,
    request: Request,
    form: Form,
    old: Listed | None,
    *,
    is_again: bool,
) -> Any:
    """Save what was looked at, or go back to where it is put together."""
    values = form.validate(request.POST.items())
    wish = None if values is None else _wish(context, request, values)
    if values is None or wish is None:
        # No page of ours sends this: what was chosen has gone meanwhile, or was made up.
        draft = _first_draft(context, request, old)
        draft.fail(None, _("What was chosen is not there any more. Choose again."))
        return _draft_page(context, request, draft, old)
    draft = _draft(context, request, wish.rule(request.now))
    draft.fill({name: value for name, value in values.items() if value and name in DRAFTED})
    if is_again or not _makes_sense(request, draft, wish):
        return _draft_page(context, request, draft, old)
    return _save(context, request, draft, wish, old)


def _save(
    context: PatientContext, request: Request, draft: Form, wish: Wish, old: Listed | None
) -> Any:
    there = HTTPSeeOther(_list_path(context, request))
    if patient_rules.exists(request.db, context.patient_id, wish.id):
        # The same form sent twice, by a double click or the back button: one rule.
        return there
    vault, by, now = request.keys.vault, request.identity.person_id, request.now
    try:
        if old is None:
            saved = patient_rules.make(request.db, vault, context.patient_id, wish, by=by, now=now)
            _audit_made(context, request, saved)
        else:
            ended, saved = patient_rules.change(
                request.db, vault, context.patient_id, old.rule.id, wish, by=by, now=now
            )
            _audit_ended(context, request, ended, saved.rule.id)
            _audit_made(context, request, saved, ended.rule.id)
    except RuleRefused as error:
        if patient_rules.exists(request.db, context.patient_id, wish.id):
            return there
        draft.fail(None, rule_words.REFUSALS[error.code])
        return _draft_page(context, request, draft, old)
    _audit_moved(request, saved)
    flash(request, _("The rule is saved."), "ok")
    return there


def _end(context: PatientContext, request: Request) -> Any:
    rule_id = _rule_id(context, request)
    there = HTTPSeeOther(_list_path(context, request))
    try:
        saved = patient_rules.end(
            request.db,
            context.patient_id,
            rule_id,
            by=request.identity.person_id,
            now=request.now,
        )
    except RuleRefused as error:
        flash(request, rule_words.REFUSALS[error.code], "info")
        return there
    _audit_ended(context, request, saved)
    _audit_moved(request, saved)
    flash(request, _("The rule has ended."), "ok")
    return there


# Forms


def _first_draft(context: PatientContext, request: Request, old: Listed | None) -> Form:
    draft = _draft(context, request, old.rule if old else None)
    if old is not None:
        return draft.fill(forms.filled(request, old.rule, old.note or ""))
    record = request.GET.get("record", "")
    return draft.fill({"what": forms.value_of(What.RECORD, record)}) if is_id(record) else draft


def _draft(context: PatientContext, request: Request, rule: Rule | None) -> Form:
    schema = forms.rule_schema(forms.offered(context, request, rule))
    return make_form(request, schema, submit=_("See what this changes"), form_id=DRAFT)


def _kept(request: Request, form_id: str) -> Form:
    return make_form(request, forms.kept_schema(), submit=_("Save this rule"), form_id=form_id)


def _settle_whom(
    context: PatientContext, request: Request, draft: Form, values: dict[str, Any]
) -> bool:
    """Find out whom a rule is about: chosen from the list, or named exactly."""
    chosen, typed = values["whom"], values["name"].strip()
    if chosen and typed:
        draft.fail("name", _("Choose from the list or type a name, not both."))
    elif typed:
        found = _named(context, request, draft, typed)
        values["whom"] = "" if found is None else forms.value_of(Whom.PERSON, found)
        return found is not None
    elif not chosen:
        draft.fail("whom", _("Choose whom the rule is about, or type a name below."))
    return bool(chosen and not typed)


def _named(context: PatientContext, request: Request, draft: Form, typed: str) -> str | None:
    """Return the one person with a name; every try is in the log and counts."""
    if not rule_choices.may_try_a_name(request.db, request.identity.person_id, request.now):
        draft.fail("name", _("Too many names were tried. Wait an hour, or ask us."))
        return None
    not_these = {context.patient_id, request.identity.person_id}
    found = rule_choices.named_exactly(request.db, request.tenant, typed, not_these)
    one = found[0].person_id if len(found) == 1 else None
    request.audit(Action.PERSON_SOUGHT, Outcome.ALLOWED if one else Outcome.FAILED, object=one)
    if one is None:
        draft.fail("name", SEVERAL if found else NOBODY)
    return one


def _wish(context: PatientContext, request: Request, values: Mapping[str, Any]) -> Wish | None:
    """Return what a form asks for, ``None`` if it names what no rule may name here."""
    whom = forms.read_whom(request, context.patient_id, values["whom"])
    what = forms.read_what(context, request, values["what"])
    if whom is None or what is None or values["effect"] not in set(Effect):
        return None
    if not is_id(values[forms.RULE_ID]):
        return None
    term = span(request.tenant, dict(values), request.now)
    return Wish(
        Effect(values["effect"]),
        *whom,
        *what,
        since=term.since,
        until=term.until,
        note=values["note"],
        id=values[forms.RULE_ID],
    )


def _makes_sense(request: Request, draft: Form, wish: Wish) -> bool:
    """Refuse a rule that would do nothing, or is over before it begins."""
    rule = wish.rule(request.now)
    if rule.until is not None and rule.until <= rule.since:
        draft.fail("until", rule_words.REFUSALS["over-already"])
        return False
    if not partner_rules.is_about_partner(rule, request.tenant.id):
        return True
    if rule.effect is Effect.ALLOW and rule.what is What.EVERYTHING:
        draft.fail("effect", NEEDS_NO_RULE)
        return False
    if rule.what is not What.EVERYTHING and not rule_words.sends_to(request, rule.whom_id):
        draft.fail("what", SEALED_UNTIL_TAKEN)
        return False
    return True


NOBODY = _(
    "Nobody who works here has exactly this name. Look at how it is written, or choose a role or "
    "a ward from the list."
)
SEVERAL = _(
    "Several people who work here have this name. Choose a role or a ward from the list, or ask us."
)
NEEDS_NO_RULE = _(
    "This is so already, unless another rule forbids it. To allow it again, end that rule."
)
SEALED_UNTIL_TAKEN = _(
    "What this institution sends is sealed until it has been taken in. Choose “Everything”."
)


# Pages


def _frame(context: PatientContext, request: Request) -> dict[str, Any]:
    scheme = request.tenant.identifiers.scheme
    return {
        "patient": patients.details(request.db, context.patient_id, scheme),
        "is_self": context.patient.is_self,
    }


def _draft_page(
    context: PatientContext, request: Request, draft: Form, old: Listed | None
) -> dict[str, Any]:
    return {**_frame(context, request), "form": draft, "is_change": old is not None}


def _preview_page(
    context: PatientContext,
    request: Request,
    values: Mapping[str, Any],
    wish: Wish,
    old: Listed | None,
) -> dict[str, Any]:
    """Show a rule in words, who could open the thing today, and what the rule would change."""
    request.override_renderer = "medportal.access:templates/rule_preview.pt"
    rule = wish.rule(request.now)
    ended = [old.rule] if old else []
    names = rule_words.names_for(context, request, [rule, *ended])
    kept = {name: value for name, value in values.items() if name in DRAFTED and value}
    kept[forms.RULE_ID] = wish.id
    fields = {name: str(value) for name, value in kept.items()}
    return {
        **_frame(context, request),
        "sentence": rule_words.sentence(request, rule, names),
        "instead_of": rule_words.sentence(request, old.rule, names) if old else None,
        "rule": rule,
        "begins_later": rule.since > request.now,
        "last_day": forms.last_day(request, rule),
        "note": wish.note,
        "save": _kept(request, SAVE).fill(kept),
        "again": {"__formid__": AGAIN, **fields},
        "action": request.path_qs,
        **_changes(context, request, rule, old=old.rule if old else None, new=rule),
    }


def _changes(
    context: PatientContext, request: Request, about: Rule, *, old: Rule | None, new: Rule | None
) -> dict[str, Any]:
    """Return who could open what a rule is about, and what changes with it."""
    if partner_rules.is_about_partner(about, request.tenant.id):
        waiting = partner_rules.open_deliveries(request.db, context.patient_id, about)
        sends = rule_words.sends_to(request, about.whom_id)
        return {"partner": {"sends": sends, "waiting": waiting}, "what": about.what}
    record = _record(context, request, about)
    house = preview.load(
        request.db,
        request.tenant,
        context.patient_id,
        request.now,
        besides=[new] if new else [],
        author_id=record.author_id if record else None,
    )
    things = preview.things_of(about.what, about.what_id, record)
    sight = about.what is What.EVERYTHING
    today = preview.today(house, things, request.now, sight=sight)
    without = {old.id} if old else set()
    found = preview.changes(house, things, without=without, new=new, now=request.now, sight=sight)
    return {
        "partner": None,
        "what": about.what,
        "today": rule_words.today_rows(request, today, about.what),
        "today_more": rule_words.more_words(request, today),
        "changes": rule_words.change_rows(request, found, about.what),
        "changes_more": rule_words.more_words(request, found),
    }


def _record(context: PatientContext, request: Request, rule: Rule) -> RecordFacts | None:
    if rule.what is not What.RECORD:
        return None
    found: RecordFacts = request.registry["record_facts"](
        request.db, context.patient_id, rule.what_id
    )
    return found


def _card(request: Request, one: Listed, names: rule_words.Names) -> dict[str, Any]:
    ended = one.ended_at is not None and one.rule.since > one.ended_at
    return {
        "id": one.rule.id,
        "sentence": rule_words.sentence(request, one.rule, names),
        "since": one.rule.since,
        "last_day": forms.last_day(request, one.rule),
        "ended_at": one.ended_at,
        "never_began": ended,
        "note": one.note,
        "may_change": one.may_change,
    }


def _list_path(context: PatientContext, request: Request) -> str:
    path: str = request.route_path("rules", patient=context.patient_id)
    return path


def _rule_id(context: PatientContext, request: Request) -> str:
    """Return the id of a rule of this patient that is the asker's to change, ended or not.

    Raises ``HTTPNotFound``.
    """
    rule_id: str = request.matchdict["rule"]
    asker = request.identity.person_id
    if not is_id(rule_id) or not patient_rules.may_change(
        request.db, context.patient_id, rule_id, asker
    ):
        raise HTTPNotFound()
    return rule_id


def _standing(context: PatientContext, request: Request) -> Listed:
    """Return the rule that an address names. Raises ``HTTPNotFound`` if it is over."""
    rule_id = _rule_id(context, request)
    vault = request.keys.vault
    found = patient_rules.find(
        request.db, vault, context.patient_id, rule_id, request.identity.person_id, request.now
    )
    if found is None:
        raise HTTPNotFound()
    return found


# The log


def _viewed(context: PatientContext, request: Request) -> None:
    request.audit(Action.RULES_VIEWED, **context.why(MAY))


def _audit_made(
    context: PatientContext, request: Request, saved: Saved, instead_of: str = ""
) -> None:
    details: dict[str, str | int] = {**_kinds(saved.rule)}
    if saved.commitment:
        details["commitment"] = saved.commitment
    if instead_of:
        details["instead-of"] = instead_of
    request.audit(Action.RULE_CHANGED, object=saved.rule.id, details=details, **context.why(MAY))


def _audit_ended(
    context: PatientContext, request: Request, saved: Saved, replaced_by: str = ""
) -> None:
    details: dict[str, str | int] = {**_kinds(saved.rule)}
    if replaced_by:
        details["replaced-by"] = replaced_by
    request.audit(Action.RULE_ENDED, object=saved.rule.id, details=details, **context.why(MAY))


def _kinds(rule: Rule) -> dict[str, str]:
    """Return what the log says of a rule: of which sort it is, not of whom or what."""
    return {"effect": str(rule.effect), "whom": str(rule.whom), "what": str(rule.what)}


def _audit_moved(request: Request, saved: Saved) -> None:
    """Write what became of deliveries in the transaction in which it did."""
    actor = request.identity.person_id
    for action, turned in (
        (Action.DELIVERY_WITHHELD, saved.moved.withheld),
        (Action.DELIVERY_RELEASED, saved.moved.released),
    ):
        for one in turned:
            append(request.db, partner_rules.turned_event(one, action, request.now, actor))
