"""My mail address: change it, call a change off, confirm a new one."""

from typing import Any

from pyramid.httpexceptions import HTTPNotFound, HTTPSeeOther
from pyramid.request import Request
from pyramid.view import view_config

from medportal.audit.events import Action, Outcome
from medportal.core.permissions import Permission
from medportal.core.reasons import Reason
from medportal.identity import email_change
from medportal.identity.errors import EmailChangeRefused
from medportal.identity.factors import require_live
from medportal.identity.forms.email import confirmation_schema, email_schema
from medportal.identity.fresh import require_fresh
from medportal.identity.people import contact_of
from medportal.web.flash import flash
from medportal.web.forms import Form, make_form
from medportal.web.i18n import _
from medportal.web.limits import posted_text, sent_text

REFUSALS = {
    Reason.NOTHING_NEW: _("That is the address that we have already."),
    Reason.TOO_MANY: _("You have asked for this several times. Wait an hour and try again."),
}


@view_config(
    route_name="account-email",
    renderer="medportal.identity:templates/email.pt",
    permission=Permission.ACCOUNT_CHANGE,
)
def my_email(request: Request) -> Any:
    """Show one's address and what is about to become of it; ask for another."""
    require_fresh(request)
    form = make_form(request, email_schema(), submit=_("Send me a link"))
    if request.method == "POST":
        values = form.validate(request.POST.items())
        if values is not None and _request_own(request, form, values["email"]):
            flash(request, _("We have emailed a link to the new address. Open it to confirm."))
            return HTTPSeeOther(request.route_path("account-email"))
    person_id = request.identity.person_id
    return {
        "form": form,
        "has_mail": request.tenant.mail is not None,
        "email": contact_of(request.db, person_id).email,
        "changes": email_change.pending_changes(request.db, person_id, request.now),
    }


@view_config(
    route_name="account-email-cancel",
    permission=Permission.ACCOUNT_CHANGE,
    request_method="POST",
)
def cancel(request: Request) -> Any:
    """Call off a change of one's address, one's own or the staff's."""
    change_id = posted_text(request, "change")
    require_live(request.db, request.login)
    gone = email_change.cancel(request.db, request.identity.person_id, change_id, request.now)
    if gone is None:
        flash(request, _("That change has happened or was called off already."), "warn")
        return HTTPSeeOther(request.route_path("account-email"))
    request.audit(
        Action.EMAIL_CHANGE_CANCELLED,
        object=request.identity.person_id,
        details={"change": gone.id, "by-staff": int(gone.effective_at is not None)},
    )
    flash(request, _("The change was called off. Your address stays as it is."), "ok")
    return HTTPSeeOther(request.route_path("account-email"))


@view_config(
    route_name="email-confirm",
    renderer="medportal.identity:templates/email_confirm.pt",
    permission=Permission.ACCOUNT_CHANGE,
)
def confirm(request: Request) -> Any:
    """Confirm a new address; the button does it, since mail programs open links by themselves.

    Whoever asked for the change is the one who confirms it, signed in: a link that went to a
    stranger by a slip of the keyboard is nothing to the stranger.
    """
    token, person_id = sent_text(request, "link"), request.identity.person_id
    change = email_change.find_by_link(request.db, person_id, token, request.now)
    if change is None:
        request.response.status_int = 410
        return {"form": None, "change": None}
    form = make_form(
        request,
        confirmation_schema(token),
        submit=_("Confirm this address"),
        action=request.route_path("email-confirm"),
    )
    if request.method == "POST" and form.validate(request.POST.items()) is not None:
        return _confirm(request, token)
    return {"form": form, "change": change}


def _request_own(request: Request, form: Form, new_email: str) -> bool:
    if request.tenant.mail is None:
        raise HTTPNotFound()
    person_id = request.identity.person_id
    require_live(request.db, request.login)
    try:
        change_id = email_change.request_own(request.db, person_id, new_email, request.now)
    except EmailChangeRefused as error:
        request.audit(
            Action.EMAIL_CHANGE_REQUESTED,
            Outcome.DENIED,
            object=person_id,
            reasons=[error.reason],
        )
        form.fail("email", REFUSALS[error.reason])
        return False
    request.audit(Action.EMAIL_CHANGE_REQUESTED, object=person_id, details={"change": change_id})
    return True


def _confirm(request: Request, token: str) -> Any:
    require_live(request.db, request.login)
    done = email_change.confirm(request.db, request.identity.person_id, token, request.now)
    if done is None:
        request.response.status_int = 410
        return {"form": None, "change": None}
    request.audit(Action.EMAIL_CHANGED, object=done.person_id, details={"change": done.id})
    flash(request, _("Your email address has been changed."), "ok")
    return HTTPSeeOther(request.route_path("account"))
