"""What the pages of the institution's settings share."""

import re
from collections.abc import Mapping

from pyramid.httpexceptions import HTTPBadRequest, HTTPSeeOther
from pyramid.request import Request
from pyramid.response import Response

from medportal.admin.settings import Saved
from medportal.audit.events import Action, Outcome
from medportal.core.reasons import Reason
from medportal.tenancy.requests import note_saved
from medportal.web.flash import flash
from medportal.web.i18n import _

_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}", re.ASCII)


def number_of(text: str, error: type[Exception] = HTTPBadRequest) -> int:
    """Return the number of a version; raises ``error`` for what no page of ours sends."""
    if not _NUMBER.fullmatch(text):
        raise error()
    return int(text)


def done(request: Request, saved: Saved, more: Mapping[str, str | int] | None = None) -> Response:
    """Audit a change, let it count at once in this process, and go back to the settings."""
    keys = {table: " ".join(names) for table, names in saved.keys.items()}
    request.audit(
        Action.SETTINGS_CHANGED, details={"version": saved.version, **keys, **(more or {})}
    )
    note_saved(request, saved.version)
    flash(request, _("Saved. It counts from now on, for everybody."), "ok")
    return HTTPSeeOther(request.route_path("institution-settings"))


def audit_refused(request: Request, reason: Reason, details: Mapping[str, str | int]) -> None:
    """Audit a change that was not made, and why."""
    request.audit(Action.SETTINGS_CHANGED, Outcome.DENIED, reasons=[reason], details=details)
