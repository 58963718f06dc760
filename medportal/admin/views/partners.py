"""Partners: who is trusted, what waits for them, when something last went well, and how much.

Nothing about a patient or a record is read or shown here.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pyramid.httpexceptions import HTTPNotFound
from pyramid.request import Request
from pyramid.view import view_config

from medportal.admin.partner_words import HOLD_REASONS, STATES, trust_tag, why
from medportal.admin.views.carried import carried
from medportal.admin.views.certificates import left_words
from medportal.audit.events import Action
from medportal.core.ids import is_id
from medportal.core.permissions import Permission
from medportal.delivery import holds, waiting
from medportal.delivery.holds import Hold
from medportal.delivery.waiting import Queue, Transfer
from medportal.identity.people import names_of
from medportal.pki.partners import Partner
from medportal.pki.standing import partner_standing
from medportal.records.presentation import KINDS
from medportal.web.i18n import _

PAGE = 25


@view_config(
    route_name="partners",
    permission=Permission.PARTNERS_MANAGE,
    request_method="GET",
    renderer="medportal.admin:templates/partners.pt",
)
def partners(request: Request) -> dict[str, Any]:
    """List partners: trust, certificate, what waits, and when something last went well."""
    after = request.GET.get("after", "")
    ids = [each for each in request.keys.trusted.institutions() if each > after]
    page = ids[:PAGE]
    request.audit(Action.PARTNERS_VIEWED, details={"count": len(page)})
    return {
        "lines": _lines(request, page),
        "is_first": not after,
        "next": page[-1] if len(ids) > PAGE else None,
        **carried(request),
    }


def _lines(request: Request, ids: Sequence[str]) -> list[dict[str, Any]]:
    """Return one line a partner; as many queries for all of them as for one."""
    queued: dict[str, list[Queue]] = {}
    for line in waiting.queues(request.db, ids):
        queued.setdefault(line.partner, []).append(line)
    held = holds.holds(request.db, *ids) if ids else {}
    sent = waiting.last_sent(request.db, ids)
    received = waiting.last_received(request.db, ids)
    return [
        {
            **_about(request, request.keys.trusted.get(each)),
            "waiting": sum(line.count for line in queued.get(each, [])),
            "oldest": min((line.oldest for line in queued.get(each, [])), default=None),
            "is_held": each in held,
            "sent": sent.get(each),
            "received": received.get(each),
        }
        for each in ids
    ]


def _about(request: Request, partner: Partner) -> dict[str, Any]:
    standing = partner_standing(partner, request.now)
    end = standing.retires or standing.not_after
    return {
        "id": partner.institution,
        "name": name_in(request, partner),
        "path": request.route_path("partner", partner=partner.institution),
        "trust": trust_tag(standing),
        "end": end,
        "left": left_words((end - request.now).days),
    }


def name_in(request: Request, partner: Partner) -> str:
    """Return a partner's name in the page's language."""
    return str(partner.names.get(request.locale_name) or partner.institution)


def partner_of(request: Request) -> Partner:
    """Return whom a page is about. Raises ``HTTPNotFound`` for nobody."""
    found = request.keys.trusted.find(request.matchdict["partner"])
    if found is None:
        raise HTTPNotFound()
    partner: Partner = found
    return partner


@view_config(
    route_name="partner",
    permission=Permission.PARTNERS_MANAGE,
    request_method="GET",
    renderer="medportal.admin:templates/partner.pt",
)
def partner_page(request: Request) -> dict[str, Any]:
    """Show one partner: its certificates, its queue, each transfer that waits."""
    partner = partner_of(request)
    name = partner.institution
    after = _cursor(request, name)
    found = waiting.waiting(request.db, name, request.now, after, waiting.PAGE + 1)
    page, more = found[: waiting.PAGE], len(found) > waiting.PAGE
    queues = waiting.queues(request.db, [name])
    resting = waiting.resting(request.db, [name])
    request.audit(Action.PARTNERS_VIEWED, details={"partner": name})
    return {
        **_about(request, partner),
        "standing": partner_standing(partner, request.now),
        "partner": partner,
        "last": {
            "sent": waiting.last_sent(request.db, [name]).get(name),
            "received": waiting.last_received(request.db, [name]).get(name),
            "spoken": waiting.last_spoken(request.db, [name]).get(name),
        },
        "hold": hold_words(request, holds.find_hold(request.db, name)),
        "queues": [_queue(line) for line in (*queues, *resting)],
        "count": sum(line.count for line in queues),
        "transfers": [_transfer(request, name, each) for each in page],
        "refused": [
            (each.tid[:8], why(each.reason), each.settled_at)
            for each in waiting.refused(request.db, name, request.now)
        ],
        "is_first": after is None,
        "next": page[-1].tid if more else None,
        **carried(request, name),
    }


def _cursor(request: Request, partner: str) -> tuple[datetime, str] | None:
    """Return the key of the last transfer of the page before, whether it waits still or not."""
    after = request.GET.get("after")
    if after is None:
        return None
    place = waiting.place_of(request.db, partner, after) if is_id(after) else None
    if place is None:
        raise HTTPNotFound()
    return place


def _queue(line: Queue) -> tuple[str, Any, Any, int, datetime, datetime | None]:
    return (
        KINDS[line.state],
        STATES[line.state],
        why(line.reason),
        line.count,
        line.oldest,
        line.next_at,
    )


def _transfer(request: Request, partner: str, each: Transfer) -> dict[str, Any]:
    state = (KINDS[each.state], STATES[each.state])
    return {
        "tid": each.tid,
        "short": each.tid[:8],
        "state": ("wait", _("Being sent")) if each.sending else state,
        "why": why(each.reason),
        "attempts": each.attempts,
        "since": each.created_at,
        "next_at": each.next_at,
        "action": request.route_path("partner-again", partner=partner),
        "may_hurry": not each.sending,
    }


def hold_words(request: Request, hold: Hold | None) -> dict[str, Any] | None:
    """Return who holds what goes to a partner, since when and why."""
    if hold is None:
        return None
    return {
        "since": hold.since,
        "by": names_of(request.db, [hold.by]).get(hold.by, "–"),
        "why": HOLD_REASONS[hold.reason],
    }
