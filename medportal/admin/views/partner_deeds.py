"""What administrators do about a partner: hold what goes there, let it go, try again at once."""

from datetime import datetime
from typing import Any

import colander
from pyramid.httpexceptions import HTTPNotFound, HTTPSeeOther
from pyramid.request import Request
from pyramid.view import view_config

from medportal.admin.partner_words import HOLD_REASONS
from medportal.admin.views.partners import hold_words, name_in, partner_of
from medportal.audit.events import Action, Outcome
from medportal.core.ids import is_id
from medportal.core.permissions import Permission
from medportal.core.reasons import Reason
from medportal.delivery import holds, waiting
from medportal.delivery.holds import Hold
from medportal.identity.fresh import require_fresh
from medportal.pki.partners import Partner
from medportal.web.flash import flash
from medportal.web.forms import hidden, make_form, radios
from medportal.web.i18n import _
from medportal.web.limits import posted_text

PAGE = "medportal.admin:templates/partner_deed.pt"
HELD_ALREADY = _("What goes to this partner is held already.")
NOT_HELD = _("What goes to this partner is not held any more.")


@view_config(route_name="partner-hold", permission=Permission.PARTNERS_MANAGE, renderer=PAGE)
def hold(request: Request) -> Any:
    """Hold what goes to a partner, after its consequences were told."""
    require_fresh(request)
    partner = partner_of(request)
    if request.method != "POST" and holds.find_hold(request.db, partner.institution):
        return _back(request, partner, HELD_ALREADY, "info")
    form = make_form(request, _hold_schema(), submit=_("Hold it"), danger=True)
    values = form.validate(request.POST.items()) if request.method == "POST" else None
    if values is None:
        return {
            **_page(request, partner, _("Hold what goes to this partner")),
            "consequences": (
                _("Nothing new is sent to this partner until somebody lets it go again."),
                _("What is written meanwhile waits, in its order. Nothing is lost."),
                _("What was sent already gets its receipt. What the partner sends us still comes."),
                _("Results reach patients there later: tell those who wait for them."),
            ),
            "form": form,
        }
    reason = Reason(values["reason"])
    who = request.identity.person_id
    if not holds.hold(request.db, partner.institution, who, reason, request.now):
        _audit(request, Action.PARTNER_HELD, partner, Reason.NOTHING_NEW, Outcome.DENIED)
        return _back(request, partner, HELD_ALREADY, "info")
    _audit(request, Action.PARTNER_HELD, partner, reason)
    return _back(request, partner, _("From now on nothing new is sent to this partner."))


@view_config(route_name="partner-let-go", permission=Permission.PARTNERS_MANAGE, renderer=PAGE)
def let_go(request: Request) -> Any:
    """Let go what was held, if it is still the hold that the page showed."""
    require_fresh(request)
    partner = partner_of(request)
    held = holds.find_hold(request.db, partner.institution)
    if held is None:
        if request.method == "POST":
            _audit(request, Action.PARTNER_LET_GO, partner, Reason.NOTHING_NEW, Outcome.DENIED)
        return _back(request, partner, NOT_HELD, "info")
    form = make_form(request, _seen_schema(), submit=_("Let it go"))
    values = form.validate(request.POST.items()) if request.method == "POST" else None
    if values is not None and _is_seen(values["seen"], held):
        return _end(request, partner, held)
    if values is not None:
        # Somebody let it go and held it anew, for a reason that this page did not show.
        _audit(request, Action.PARTNER_LET_GO, partner, Reason.CHANGED_MEANWHILE, Outcome.DENIED)
        form = make_form(request, _seen_schema(), submit=_("Let it go"))
        form.fail(None, _("A colleague has held it anew meanwhile. Look at the reason below."))
    form.fill({"seen": _seal(held)})
    return {
        **_page(request, partner, _("Let go what goes to this partner")),
        "consequences": (_("What waits is sent from now on, in its order."),),
        "hold": hold_words(request, held),
        "form": form,
    }


def _end(request: Request, partner: Partner, held: Hold) -> HTTPSeeOther:
    if not holds.let_go(request.db, held):
        _audit(request, Action.PARTNER_LET_GO, partner, Reason.NOTHING_NEW, Outcome.DENIED)
        return _back(request, partner, NOT_HELD, "info")
    _audit(request, Action.PARTNER_LET_GO, partner, held.reason)
    return _back(request, partner, _("What waits is sent from now on."))


@view_config(
    route_name="partner-again", permission=Permission.PARTNERS_MANAGE, request_method="POST"
)
def again(request: Request) -> HTTPSeeOther:
    """Let one transfer that waits, or all of them, be tried again at once."""
    partner = partner_of(request)
    tid = posted_text(request, "transfer")
    if tid:
        return _one_again(request, partner, tid)
    count = waiting.hurry_all(request.db, partner.institution, request.now)
    request.audit(Action.DELIVERY_HURRIED, details={"partner": partner.institution, "count": count})
    if not count:
        return _back(request, partner, _("Nothing waits for a later time."), "info")
    message = _("Number of transfers that are tried again now: ${n}.", mapping={"n": count})
    return _back(request, partner, message)


def _one_again(request: Request, partner: Partner, tid: str) -> HTTPSeeOther:
    name = partner.institution
    if not is_id(tid) or waiting.place_of(request.db, name, tid) is None:
        raise HTTPNotFound()
    done = waiting.hurry(request.db, name, tid, request.now)
    request.audit(
        Action.DELIVERY_HURRIED,
        Outcome.ALLOWED if done else Outcome.DENIED,
        object=tid,
        reasons=[] if done else [Reason.NOTHING_NEW],
        details={"partner": name},
    )
    if not done:
        words = _("This transfer is being sent, or does not wait any more.")
        return _back(request, partner, words, "info")
    return _back(request, partner, _("The transfer is tried again now."))


def _hold_schema() -> colander.Schema:
    schema = colander.Schema()
    schema.add(
        colander.SchemaNode(
            colander.String(),
            name="reason",
            title=_("Reason"),
            validator=colander.OneOf([str(reason) for reason in HOLD_REASONS]),
            widget=radios([(str(reason), words) for reason, words in HOLD_REASONS.items()]),
        )
    )
    return schema


def _seen_schema() -> colander.Schema:
    schema = colander.Schema()
    schema.add(
        colander.SchemaNode(colander.String(), name="seen", title="", missing="", widget=hidden())
    )
    return schema


def _seal(held: Hold) -> str:
    return held.since.isoformat()


def _is_seen(seen: str, held: Hold) -> bool:
    try:
        return datetime.fromisoformat(seen) == held.since
    except (ValueError, TypeError):
        return False


def _page(request: Request, partner: Partner, title: Any) -> dict[str, Any]:
    return {
        "title": title,
        "name": name_in(request, partner),
        "path": request.route_path("partner", partner=partner.institution),
        "hold": None,
    }


def _audit(
    request: Request,
    action: Action,
    partner: Partner,
    reason: Reason,
    outcome: Outcome = Outcome.ALLOWED,
) -> None:
    details = {"partner": partner.institution}
    request.audit(action, outcome, reasons=[reason], details=details)


def _back(request: Request, partner: Partner, message: Any, kind: str = "ok") -> HTTPSeeOther:
    flash(request, message, kind)
    return HTTPSeeOther(request.route_path("partner", partner=partner.institution))
