"""Second factors of one's own account: the overview, the app, the recovery codes.

Passkeys have pages of their own; the overview lists them.
"""

from typing import Any

from pyramid.httpexceptions import HTTPSeeOther
from pyramid.request import Request
from pyramid.response import Response
from pyramid.view import view_config

from medportal.audit.events import Action, Outcome
from medportal.core.identity import Method
from medportal.core.permissions import Permission
from medportal.core.reasons import Reason
from medportal.identity import recovery, signing_in, totp
from medportal.identity.errors import CodeRefused, SetupReplaced, TooManyCodes
from medportal.identity.factors import require_live, roles_that_require, second_factors
from medportal.identity.forms.second_factor import setup_schema
from medportal.identity.fresh import require_fresh
from medportal.identity.passkeys import passkeys_of
from medportal.identity.views.removal import Removal, carry_out, removal_page
from medportal.tenancy.tenant import OWN_ROLES
from medportal.web.flash import flash
from medportal.web.forms import Form, make_form
from medportal.web.i18n import _
from medportal.web.limits import posted_text

CODES_SHOWN = "medportal.identity:templates/recovery_codes_shown.pt"
BEGIN = "begin"
REPLACED = _(
    "You began again in another tab or window, so the picture that you scanned no longer "
    "counts. Remove it from the app, scan the one below and enter its code."
)
TOO_OFTEN = _("You have asked for this several times. Wait an hour and try again.")
NOT_THE_CODE = _(
    "That is not the code that the app should show now. Enter the newest one. If it happens "
    "again, check that the phone's clock is set automatically, or scan the picture again."
)


@view_config(
    route_name="account-second-factor",
    renderer="medportal.identity:templates/second_factor.pt",
    permission=Permission.ACCOUNT_CHANGE,
    request_method="GET",
)
def overview(request: Request) -> dict[str, Any]:
    """Show which second factors one has, and what can be done about them."""
    require_fresh(request)
    person_id = request.identity.person_id
    held = request.login.roles
    return {
        "factors": second_factors(request.db, person_id),
        "app_since": totp.app_since(request.db, person_id),
        "passkeys": passkeys_of(request.db, person_id),
        "codes_left": recovery.codes_left(request.db, person_id),
        "few_codes": recovery.FEW,
        "requiring": [
            request.tenant.roles[role].names[request.locale_name]
            for role in roles_that_require(request.tenant, held)
        ],
        "off_site": request.tenant.second_factor.remote_staff and held - OWN_ROLES,
    }


@view_config(
    route_name="account-totp",
    renderer="medportal.identity:templates/totp.pt",
    permission=Permission.ACCOUNT_CHANGE,
    request_method="GET",
)
def app_page(request: Request) -> dict[str, Any]:
    """Show the app that is being set up: its QR code and key; or how to begin."""
    require_fresh(request)
    return _app_page(request)


@view_config(
    route_name="account-totp",
    renderer="medportal.identity:templates/totp.pt",
    permission=Permission.ACCOUNT_CHANGE,
    request_method="POST",
)
def set_app_up(request: Request) -> Any:
    """Begin to set an app up, or check its first code and let it count."""
    require_fresh(request)
    person_id = request.identity.person_id
    vault = request.keys.vault
    if posted_text(request, "__formid__") == BEGIN:
        require_live(request.db, request.login)
        totp.begin_setup(request.db, vault, person_id, request.now)
        return HTTPSeeOther(request.route_path("account-totp"))
    page = _app_page(request)
    form: Form | None = page["form"]
    if form is None:
        return _nothing_to_confirm(request)
    values = form.validate(request.POST.items())
    if values is None:
        return page
    code = totp.read_code(values["code"]) or ""
    try:
        with request.database.reader() as session:
            checked = totp.check_setup(
                session, vault, person_id, values["setup"], code, request.now
            )
        return _finish(request, checked)
    except SetupReplaced:
        form.fill({"setup": page["mark"]})
        form.fail("code", REPLACED)
    except CodeRefused:
        form.fail("code", NOT_THE_CODE)
    return page


def _app_page(request: Request) -> dict[str, Any]:
    person_id = request.identity.person_id
    with request.database.reader() as session:
        since = totp.app_since(session, person_id)
        setup = totp.setup_of(session, request.keys.vault, person_id, request.now)
    if setup is None:
        return {"form": None, "app_since": since}
    institution = request.tenant.name(request.locale_name)
    uri = totp.provisioning_uri(setup.secret, request.login.person_name, institution)
    return {
        "form": make_form(request, setup_schema(setup.mark), submit=_("Confirm the app")),
        "app_since": since,
        "mark": setup.mark,
        "uri": uri,
        "picture": totp.qr_code(uri),
        "key": totp.in_groups(setup.secret),
    }


def _nothing_to_confirm(request: Request) -> Response:
    """Answer a form whose setup is over: it was confirmed already, or took too long."""
    with request.database.reader() as session:
        since = totp.app_since(session, request.identity.person_id)
    if since is None:
        flash(request, _("It took too long to set up the app. Start again."), "warn")
        return HTTPSeeOther(request.route_path("account-totp"))
    flash(request, _("Your app is set up."), "info")
    return HTTPSeeOther(request.route_path("account-second-factor"))


def _finish(request: Request, checked: totp.CheckedSetup) -> Any:
    """Let the app count, for the account and for this session.

    Raises ``SetupReplaced`` or ``SessionOver``.
    """
    person_id = request.identity.person_id
    made = fresh_codes(request)
    login = require_live(request.db, request.login)
    is_first = not second_factors(request.db, person_id)
    replaced = totp.finish_setup(request.db, person_id, checked, request.now)
    headers = signing_in.renew(request, login, Method.TOTP)
    request.audit(
        Action.SECOND_FACTOR_ADDED,
        object=person_id,
        details={"method": str(Method.TOTP), "replaced": int(replaced)},
    )
    codes = recovery.ensure_codes(request.db, person_id, request.now, made, is_first=is_first)
    flash(request, _("Your app is set up."), "ok")
    if codes:
        return show_codes(request, codes, headers)
    return HTTPSeeOther(request.route_path("account-second-factor"), headers=headers)


def fresh_codes(request: Request) -> recovery.FreshCodes | None:
    """Make the recovery codes that a new factor comes with, before the writing transaction."""
    person_id = request.identity.person_id
    with request.database.reader() as session:
        has_factor = bool(second_factors(session, person_id))
        has_codes = recovery.codes_left(session, person_id) > 0
    return None if has_factor and has_codes else recovery.make_codes(person_id)


def show_codes(
    request: Request, codes: list[str], headers: list[tuple[str, str]]
) -> dict[str, Any]:
    """Answer with the page that shows new recovery codes, this once.

    ``headers`` are what the browser gets besides, such as its new token.
    """
    request.audit(
        Action.RECOVERY_CODES_MADE,
        object=request.identity.person_id,
        details={"count": len(codes)},
    )
    request.response.headerlist.extend(headers)
    request.override_renderer = CODES_SHOWN
    return {"codes": codes, "today": request.now}


@view_config(
    route_name="account-totp-remove",
    renderer="medportal.identity:templates/totp_remove.pt",
    permission=Permission.ACCOUNT_CHANGE,
)
def remove_app(request: Request) -> Any:
    """Remove one's app, after the password was given once more."""
    require_fresh(request)
    person_id = request.identity.person_id
    with request.database.reader() as session:
        factors = second_factors(session, person_id)
    page = removal_page(request, _("Remove the app"), is_last=factors <= {Method.TOTP})
    removal = Removal(
        Method.TOTP, person_id, lambda: totp.remove(request.db, person_id), _too_short(request)
    )
    removed = carry_out(request, page["form"], removal)
    if removed is None:
        return page
    if removed:
        flash(request, _("Your app has been removed. Other devices were signed out."), "ok")
    return HTTPSeeOther(request.route_path("account-second-factor"))


def _too_short(request: Request) -> Any:
    return _(
        "Without the app, your password would be the only proof, and it is too short for that. "
        "First choose one of at least ${minimum} characters, under My account, Password. Then "
        "remove the app.",
        mapping={"minimum": request.tenant.passwords.minimum_length},
    )


@view_config(
    route_name="account-recovery-codes",
    renderer="medportal.identity:templates/recovery_codes.pt",
    permission=Permission.ACCOUNT_CHANGE,
)
def recovery_codes(request: Request) -> Any:
    """Make new recovery codes in the place of the old ones."""
    require_fresh(request)
    person_id = request.identity.person_id
    with request.database.reader() as session:
        has_factor = bool(second_factors(session, person_id))
        left = recovery.codes_left(session, person_id)
    if request.method != "POST" or not has_factor:
        return {"has_factor": has_factor, "codes_left": left}
    try:
        codes = _new_codes(request)
    except TooManyCodes:
        reasons = [Reason.TOO_MANY]
        request.audit(Action.RECOVERY_CODES_MADE, Outcome.DENIED, object=person_id, reasons=reasons)
        flash(request, TOO_OFTEN, "warn")
        return HTTPSeeOther(request.route_path("account-recovery-codes"))
    if not codes:
        # The factor was removed in another tab: there is nothing to stand in for.
        return HTTPSeeOther(request.route_path("account-recovery-codes"))
    return show_codes(request, codes, [])


def _new_codes(request: Request) -> list[str]:
    """Replace one's codes; none without a factor. Raises ``TooManyCodes`` or ``SessionOver``."""
    person_id = request.identity.person_id
    with request.database.reader() as session:
        recovery.require_room(session, person_id, request.now)
    made = recovery.make_codes(person_id)
    require_live(request.db, request.login)
    recovery.require_room(request.db, person_id, request.now)
    if not second_factors(request.db, person_id):
        return []
    return recovery.replace_codes(request.db, person_id, request.now, made)
