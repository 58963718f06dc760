"""My account: everything that one may look at and change about it, each on a page of its own."""

from typing import Any

import colander
from pyramid.httpexceptions import HTTPSeeOther
from pyramid.request import Request
from pyramid.view import view_config

from medportal.audit.events import Action
from medportal.core.permissions import Permission
from medportal.identity.factors import second_factors
from medportal.identity.people import contact_of, set_language
from medportal.web.flash import flash
from medportal.web.forms import make_form, radios
from medportal.web.i18n import LANGUAGES, _


@view_config(
    route_name="account",
    renderer="medportal.identity:templates/account.pt",
    permission=Permission.ACCOUNT_CHANGE,
)
def account(request: Request) -> dict[str, Any]:
    """Show what one may change about one's account."""
    identity = request.identity
    held = [request.tenant.roles.get(role) for role in sorted(request.login.roles)]
    return {
        "contact": contact_of(request.db, identity.person_id),
        "roles": [role.names[request.locale_name] for role in held if role],
        "since": identity.authenticated_at,
        "has_second_factor": bool(second_factors(request.db, identity.person_id)),
        "languages": LANGUAGES,
    }


@view_config(
    route_name="account-language",
    renderer="medportal.identity:templates/language.pt",
    permission=Permission.ACCOUNT_CHANGE,
)
def language(request: Request) -> Any:
    """Choose the language of one's pages and mails."""
    schema = colander.Schema()
    schema.add(
        colander.SchemaNode(
            colander.String(),
            name="language",
            title=_("Language"),
            default=request.login.language,
            validator=colander.OneOf(list(LANGUAGES)),
            widget=radios(list(LANGUAGES.items())),
        )
    )
    form = make_form(request, schema, submit=_("Save"))
    values = form.validate(request.POST.items()) if request.method == "POST" else None
    if values is None:
        return {"form": form}
    set_language(request.db, request.identity.person_id, values["language"])
    request.audit(Action.ACCOUNT_CHANGED, object=request.identity.person_id)
    flash(request, _("Your language has been saved."), "ok")
    return HTTPSeeOther(request.route_path("account"))
