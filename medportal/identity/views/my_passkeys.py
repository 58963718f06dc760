"""Pages about one's passkeys: give one another name, remove one. The list is on the page of
second factors, and what scripts ask is in :mod:`medportal.identity.views.passkeys`.
"""

from typing import Any

from pyramid.httpexceptions import HTTPNotFound, HTTPSeeOther
from pyramid.request import Request
from pyramid.response import Response
from pyramid.view import view_config

from medportal.audit.events import Action
from medportal.core.identity import Method
from medportal.core.permissions import Permission
from medportal.identity.factors import second_factors
from medportal.identity.forms.passkeys import passkey_name_schema
from medportal.identity.fresh import require_fresh
from medportal.identity.passkeys import PasskeyLine, find_passkey, passkeys_of, remove, rename
from medportal.identity.views.removal import Removal, carry_out, removal_page
from medportal.web.flash import flash
from medportal.web.forms import make_form
from medportal.web.i18n import _


@view_config(
    route_name="account-passkey-name",
    renderer="medportal.identity:templates/passkey_name.pt",
    permission=Permission.ACCOUNT_CHANGE,
)
def name_passkey(request: Request) -> Any:
    """Give one of one's passkeys another name."""
    passkey = _passkey(request)
    form = make_form(request, passkey_name_schema(), submit=_("Save"))
    if request.method != "POST":
        return {"form": form.fill({"name": passkey.name}), "passkey": passkey}
    values = form.validate(request.POST.items())
    if values is None:
        return {"form": form, "passkey": passkey}
    if not rename(request.db, request.identity.person_id, passkey.id, values["name"]):
        raise HTTPNotFound()
    request.audit(Action.PASSKEY_RENAMED, object=passkey.id)
    flash(request, _("The name has been saved."), "ok")
    return _back(request)


@view_config(
    route_name="account-passkey-remove",
    renderer="medportal.identity:templates/passkey_remove.pt",
    permission=Permission.ACCOUNT_CHANGE,
)
def remove_passkey(request: Request) -> Any:
    """Say what removing a passkey means, ask for the password, and remove it."""
    passkey = _passkey(request)
    require_fresh(request)
    page = _removal_page(request, passkey)
    person_id = request.identity.person_id
    removal = Removal(
        Method.PASSKEY,
        passkey.id,
        lambda: remove(request.db, person_id, passkey.id),
        _too_short(request),
    )
    removed = carry_out(request, page["form"], removal)
    if removed is None:
        return page
    if not removed:
        raise HTTPNotFound()
    flash(request, _("The passkey has been removed. Other devices were signed out."), "ok")
    return _back(request)


def _passkey(request: Request) -> PasskeyLine:
    """Return the passkey that the address names. Raises ``HTTPNotFound`` for another's too."""
    with request.database.reader() as session:
        found = find_passkey(session, request.identity.person_id, request.matchdict["passkey"])
    if found is None:
        raise HTTPNotFound()
    return found


def _removal_page(request: Request, passkey: PasskeyLine) -> dict[str, Any]:
    person_id = request.identity.person_id
    with request.database.reader() as session:
        others = len(passkeys_of(session, person_id)) - 1
        has_app = Method.TOTP in second_factors(session, person_id)
    page = removal_page(request, _("Remove this passkey"), is_last=not others and not has_app)
    return page | {"passkey": passkey}


def _too_short(request: Request) -> Any:
    return _(
        "Without this passkey, your password would be the only proof, and it is too short for "
        "that. First choose one of at least ${minimum} characters, under My account, Password. "
        "Then remove the passkey.",
        mapping={"minimum": request.tenant.passwords.minimum_length},
    )


def _back(request: Request) -> Response:
    return HTTPSeeOther(request.route_path("account-second-factor"))
