"""Removing one of one's second factors: what the page of the app and that of a passkey share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pyramid.request import Request

from medportal.audit.events import Action, Outcome
from medportal.core.identity import Method
from medportal.core.reasons import Reason
from medportal.identity.errors import LastSecondFactor, Throttled, WrongPassword
from medportal.identity.factors import remove_factor, roles_that_require
from medportal.identity.forms.second_factor import removal_schema
from medportal.identity.views.answers import throttled
from medportal.identity.views.own_password import check_own_password, is_long
from medportal.web.forms import Form, make_form
from medportal.web.i18n import _


@dataclass(frozen=True, slots=True)
class Removal:
    """A second factor that its owner wants to remove.

    ``object`` names it in the audit log. ``delete`` deletes it and tells whether it was there.
    ``too_short`` is what to say if a password would be left alone that is too short for that.
    """

    factor: Method
    object: str
    delete: Callable[[], bool]
    too_short: Any


def removal_page(request: Request, submit: Any, *, is_last: bool) -> dict[str, Any]:
    """Return what a page shows that asks for the password before a factor is removed."""
    form = make_form(
        request,
        removal_schema(),
        submit=submit,
        secondary=[(request.route_path("account-second-factor"), _("Keep it"))],
        danger=True,
    )
    return {
        "form": form,
        "is_last": is_last,
        "is_required": bool(roles_that_require(request.tenant, request.login.roles)),
    }


def carry_out(request: Request, form: Form, removal: Removal) -> bool | None:
    """Remove a factor if the form was sent with the right password; tell whether it was there.

    ``None`` if the page has to be shown, or shown again: what was refused is audited, and said
    in the form. Raises ``SessionOver``.
    """
    values = form.validate(request.POST.items()) if request.method == "POST" else None
    if values is None:
        return None
    try:
        check_own_password(request, values["password"])
        return _remove(request, removal, long_password=is_long(request, values["password"]))
    except Throttled as error:
        throttled(request, form, error.seconds)
    except WrongPassword:
        _audit(request, removal, Outcome.DENIED, Reason.WRONG_CREDENTIALS)
        form.fail("password", _("That is not your password. Check it and try again."))
    except LastSecondFactor:
        _audit(request, removal, Outcome.DENIED, Reason.PASSWORD_TOO_SHORT)
        form.fail(None, removal.too_short)
    return None


def _remove(request: Request, removal: Removal, *, long_password: bool) -> bool:
    removed = remove_factor(
        request.db,
        request.login,
        removal.factor,
        removal.delete,
        request.now,
        long_password=long_password,
    )
    if removed:
        _audit(request, removal, Outcome.ALLOWED)
    return removed


def _audit(request: Request, removal: Removal, outcome: Outcome, *reasons: Reason) -> None:
    request.audit(
        Action.SECOND_FACTOR_REMOVED,
        outcome,
        object=removal.object,
        reasons=list(reasons),
        details={"method": str(removal.factor)},
    )
