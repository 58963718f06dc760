"""One version of the institution's settings: what it changed, and how to take it back."""

from typing import Any

from pyramid.httpexceptions import HTTPNotFound, HTTPSeeOther
from pyramid.request import Request
from pyramid.response import Response
from pyramid.view import view_config
from pyramid_retry import mark_error_retryable
from sqlalchemy.exc import IntegrityError

from medportal.admin import settings
from medportal.admin import settings_words as words
from medportal.admin.errors import SettingsOvertaken, SettingsUnchanged
from medportal.admin.views.settings_answers import audit_refused, done, number_of
from medportal.audit.events import Action
from medportal.core.permissions import Permission
from medportal.core.reasons import Reason
from medportal.identity.fresh import require_fresh
from medportal.identity.people import names_of
from medportal.web.flash import flash
from medportal.web.i18n import _
from medportal.web.limits import posted_text


@view_config(
    route_name="institution-settings-version",
    renderer="medportal.admin:templates/settings_version.pt",
    permission=Permission.SETTINGS_MANAGE,
)
def version(request: Request) -> Any:
    """Show one version, and make what it said count again."""
    number = number_of(request.matchdict["version"], HTTPNotFound)
    if request.method == "POST":
        return _take_back(request, number)
    found = settings.find(request.db, request.file_tenant, number)
    if found is None:
        raise HTTPNotFound()
    request.audit(Action.SETTINGS_VIEWED, details={"version": number})
    current = settings.newest(request.db, request.file_tenant)
    earlier = settings.version_before(request.db, request.file_tenant, found)
    return {
        "version": found,
        "by": names_of(request.db, [found.by]).get(found.by) if found.by else None,
        "changed": _compared(request, earlier, found),
        "rows": [row for part in words.PARTS for row in words.rows_of(request, found.tenant, part)],
        "left_out": words.left_out(request, found.overlaid),
        "is_current": found.number == current.number,
        "seen": current.number,
    }


def _take_back(request: Request, number: int) -> Response:
    require_fresh(request, back=request.path)
    seen = number_of(posted_text(request, "seen"))
    try:
        saved = settings.take_back(
            request.db,
            request.file_tenant,
            number,
            seen=seen,
            by=request.identity.person_id,
            now=request.now,
        )
    except IntegrityError as error:
        mark_error_retryable(error)
        raise
    except SettingsUnchanged:
        flash(request, _("Nothing is different from what is in force."), "info")
        return HTTPSeeOther(request.path)
    except SettingsOvertaken:
        audit_refused(request, Reason.OVERTAKEN, {"taken-back": number})
        flash(
            request,
            _("Somebody else changed the settings meanwhile. Look at the list again."),
            "warn",
        )
        return HTTPSeeOther(request.route_path("institution-settings"))
    if saved is None:
        raise HTTPNotFound()
    return done(request, saved, {"taken-back": number})


def _compared(
    request: Request, earlier: settings.Version, later: settings.Version
) -> list[list[Any]]:
    """Return a row for each setting that a version changed: what it was, what it became."""
    changed = settings.keys_between(earlier, later)
    return [
        [label, old, new]
        for part in words.PARTS
        for (key, label, old), (_key, _label, new) in zip(
            words.lines_of(request, earlier.tenant, part),
            words.lines_of(request, later.tenant, part),
            strict=True,
        )
        if key in changed.get(part, ())
    ]
