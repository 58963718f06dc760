"""Changing one part of the institution's settings."""

from collections.abc import Mapping
from typing import Any

from pyramid.httpexceptions import HTTPNotFound, HTTPSeeOther
from pyramid.request import Request
from pyramid.view import view_config
from pyramid_retry import mark_error_retryable
from sqlalchemy.exc import IntegrityError

from medportal.admin import settings
from medportal.admin import settings_words as words
from medportal.admin.errors import SettingsOvertaken, SettingsUnchanged, SettingsUnfit
from medportal.admin.forms_settings import fields_of, settings_schema, suggestion
from medportal.admin.views.settings_answers import audit_refused, done, number_of
from medportal.audit.events import Action
from medportal.core.identity import SECOND_FACTORS
from medportal.core.permissions import Permission
from medportal.core.reasons import Reason
from medportal.identity.fresh import require_fresh
from medportal.identity.people import names_of
from medportal.tenancy.logo import LogoRefused, cleaned
from medportal.tenancy.overlay import KEYS, LOGO, Why
from medportal.tenancy.tenant import Tenant
from medportal.web.forms import Form, make_form
from medportal.web.i18n import _

_WHY = {
    Why.MALFORMED: _("Check how this is written."),
    Why.SIGNS: _("Use Latin letters, digits and ordinary signs only."),
    Why.OUT_OF_BOUNDS: _("The institution's file does not allow this: keep to the given range."),
    Why.NOT_EDITABLE: _("The institution's file does not leave this to you."),
    Why.UNKNOWN: _("There is no such setting any more."),
}
_COLOUR_WORDS = _("Write a colour as # and six digits or letters from a to f, such as #0b4f6c.")
_LOCKED_OUT = _(
    "You are outside the institution now and signed in without a second proof yourself, so this "
    "would close your own pages. Set up your second proof first, in your account, and sign in "
    "with it."
)
_REFUSALS = {
    "colours.brand": _COLOUR_WORDS,
    "colours.brand_text": _COLOUR_WORDS,
    "colours.accent": _COLOUR_WORDS,
    "contact.phone": _("Write the number as it is dialled, such as +351 210 000 000."),
    "contact.email": _("Write an email address, such as help@hospital.example."),
}


@view_config(
    route_name="institution-settings-edit",
    renderer="medportal.admin:templates/settings_parts.pt",
    permission=Permission.SETTINGS_MANAGE,
)
def choose(request: Request) -> Any:
    """Show what can be changed, where an address does not say which of it."""
    address = request.route_path("institution-settings-edit")
    if request.method == "POST":
        return HTTPSeeOther(address)
    parts = settings.editable_parts(request.file_tenant)
    return {"parts": [(f"{address}?part={part}", words.PARTS[part]) for part in parts]}


@view_config(
    route_name="institution-settings-edit",
    request_param="part",
    renderer="medportal.admin:templates/settings_edit.pt",
    permission=Permission.SETTINGS_MANAGE,
)
def edit(request: Request) -> Any:
    """Change one part of the settings."""
    part = _part(request)
    require_fresh(request, back=request.path_qs)
    with request.database.reader() as session:
        current = settings.newest(session, request.file_tenant)
    page = _edit_page(request, part, current)
    form: Form = page["form"]
    if request.method != "POST":
        request.audit(Action.SETTINGS_VIEWED, details={"part": part})
        return page
    values = form.validate(request.POST.items())
    if values is None:
        return page
    seen = number_of(values.pop("version"))
    if _locks_out(request, values):
        form.fail("remote_staff", _LOCKED_OUT)
        return page
    try:
        saved = _save(request, part, values, seen)
    except LogoRefused as error:
        form.fail(LOGO, words.LOGO_REFUSED[error.code])
        return page
    except SettingsUnchanged:
        form.fail(None, _("Nothing is different from what is in force."))
        return page
    except SettingsUnfit as error:
        _refuse(request, form, part, values, error)
        return page
    except SettingsOvertaken as error:
        return _overtaken(request, part, values, error)
    return done(request, saved)


def _part(request: Request) -> str:
    part: str = request.GET.get("part", "")
    if part not in settings.editable_parts(request.file_tenant):
        raise HTTPNotFound()
    return part


def _edit_page(
    request: Request,
    part: str,
    current: settings.Version,
    typed: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the page that edits a part, its form filled with what counts or was typed."""
    schema = settings_schema(part, current.tenant, request.file_tenant)
    form = make_form(
        request,
        schema,
        submit=_("Save"),
        secondary=[(request.route_path("institution-settings"), _("Leave it as it is"))],
    )
    shown = fields_of(part, current.tenant) if typed is None else typed
    form.fill({**shown, "version": str(current.number)})
    return {
        "form": form,
        "part": part,
        "title": words.PARTS[part],
        "logo": current.tenant.logo if part == LOGO else None,
        "overtaken": None,
    }


def _locks_out(request: Request, values: Mapping[str, Any]) -> bool:
    """Tell whether a rule would at once keep out whoever makes it."""
    has_proof = request.on_site or request.identity.methods & SECOND_FACTORS
    return bool(values.get("remote_staff")) and not has_proof


def _save(request: Request, part: str, values: dict[str, Any], seen: int) -> settings.Saved:
    logo = cleaned(values[LOGO]) if values.get(LOGO) is not None else None
    if part == LOGO and logo is None and not values.get("remove"):
        raise SettingsUnchanged
    by, now = request.identity.person_id, request.now
    file: Tenant = request.file_tenant
    try:
        if part == LOGO:
            return settings.save_logo(request.db, file, logo, seen=seen, by=by, now=now)
        return settings.save_table(request.db, file, part, values, seen=seen, by=by, now=now)
    except IntegrityError as error:
        # Somebody else saved at this very moment: tried again, that version is seen.
        mark_error_retryable(error)
        raise


def _refuse(
    request: Request, form: Form, part: str, values: Mapping[str, Any], error: SettingsUnfit
) -> None:
    """Say at each field what the institution's file does not allow there."""
    for dotted, why in error.problems.items():
        if why is Why.OUT_OF_BOUNDS:
            audit_refused(request, Reason.LOOSER_THAN_FILE, {"key": dotted})
        if why is Why.CONTRAST:
            key, better, found = suggestion(values)
            form.fail(key, _too_faint(better, found))
        else:
            form.fail(_field(part, dotted), _REFUSALS.get(dotted) or _WHY[why])


def _field(part: str, dotted: str) -> str | None:
    table, _dot, key = dotted.partition(".")
    return key if table == part and key in KEYS.get(part, ()) else None


def _too_faint(better: str, found: float) -> Any:
    return _(
        "This cannot be read well enough: the contrast is ${found}, and 4.5 is needed. ${better} "
        "would do.",
        mapping={"found": f"{found:.1f}", "better": better},
    )


def _overtaken(
    request: Request, part: str, values: Mapping[str, Any], error: SettingsOvertaken
) -> dict[str, Any]:
    """Show the form with everything that was typed, beside what somebody else saved meanwhile."""
    audit_refused(request, Reason.OVERTAKEN, {"part": part})
    current = settings.newest(request.db, request.file_tenant)
    typed = {key: value for key, value in values.items() if key != LOGO}
    page = _edit_page(request, part, current, typed)
    page["form"].fail(
        None,
        _(
            "Somebody else changed this while you had the page open, so nothing was saved. Look at "
            "what is in force now, and save again if yours is to count."
        ),
    )
    names = names_of(request.db, [current.by]) if current.by else {}
    page["overtaken"] = {
        "by": names.get(current.by or "", ""),
        "at": current.at,
        "rows": words.rows_of(request, current.tenant, part),
    }
    return page
