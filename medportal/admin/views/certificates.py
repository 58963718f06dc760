"""The institution's certificates, how they stand, and its authority's public files.

The page is for admins. The files are for everybody and for other software: the authority's
certificate and its revocation list, and those of former authorities, in DER.
"""

from typing import Any

from pyramid.httpexceptions import HTTPNotFound
from pyramid.request import Request
from pyramid.response import Response
from pyramid.security import NO_PERMISSION_REQUIRED
from pyramid.view import view_config

from medportal.audit.events import Action
from medportal.core.permissions import Permission
from medportal.pki.expiry import State
from medportal.pki.profiles import Purpose
from medportal.pki.published import FILES_SECONDS, published
from medportal.pki.requests import grouped
from medportal.pki.standing import (
    AUTHORITY,
    EDGE_AUTHORITY,
    EDGE_KEYS,
    EDGE_LIST,
    FORMER,
    LIST,
    PartnerStanding,
    Standing,
    edge_standings,
    is_ca_here,
    partner_standings,
    standings,
)
from medportal.records.presentation import institution_name
from medportal.web.headers import mark_as_public
from medportal.web.i18n import _

WHAT_WORDS = {
    AUTHORITY: _("Authority, which certifies the others"),
    FORMER: _("Former authority"),
    LIST: _("List of withdrawn certificates"),
    Purpose.WEB: _("The portal, for browsers"),
    EDGE_KEYS[Purpose.EDGE]: _("From the edge to the portal"),
    EDGE_KEYS[Purpose.WEB]: _("The portal, for the edge"),
    EDGE_AUTHORITY: _("Authority between the edge and the portal"),
    EDGE_LIST: _("List of withdrawn certificates between the edge and the portal"),
    Purpose.CHANNEL: _("Connections with partners"),
    Purpose.EXCHANGE: _("Exchange with partners"),
    Purpose.RECORD: _("Signatures of records"),
    Purpose.RECEIPT: _("Signatures of receipts"),
    Purpose.HEAD: _("Signatures of the audit log"),
    Purpose.HEAD_PQ: _("Signatures of the audit log, against quantum computers"),
}
STATE_WORDS = {
    State.IN_USE: ("ok", _("In use")),
    State.RENEW: ("warn", _("To be renewed")),
    State.EXPIRED: ("bad", _("Ended")),
    State.REVOKED: ("bad", _("Withdrawn")),
    State.RETIRING: ("warn", _("Being replaced")),
}


@view_config(
    route_name="certificates",
    permission=Permission.SETTINGS_MANAGE,
    request_method="GET",
    renderer="medportal.admin:templates/certificates.pt",
)
def certificates(request: Request) -> dict[str, Any]:
    """Show how every certificate stands, and the authorities of partners."""
    request.audit(Action.CERTIFICATES_VIEWED)
    directory = request.keys.places.pki
    between = edge_standings(request.keys.places.edge, request.now)
    found = [*standings(directory, request.now), *between]
    return {
        "lines": [_line(each) for each in found],
        "partners": [_partner(request, each) for each in partner_standings(directory, request.now)],
        "is_ca_here": is_ca_here(directory),
        "needs_work": any(each.state is not State.IN_USE for each in found),
        "name": request.tenant.id,
    }


def _line(each: Standing) -> tuple[Any, str, Any, Any, tuple[str, Any], str]:
    what: Any = WHAT_WORDS.get(each.what, each.what)
    state = STATE_WORDS[each.state]
    if each.has_request:
        state = ("warn", _("Requested, waits for its certificate"))
    left, serial = left_words(each.days_left), grouped(each.serial)
    return what, serial, each.not_after, left, state, each.fingerprint


def _partner(request: Request, each: PartnerStanding) -> tuple[Any, Any, Any, tuple[str, Any], str]:
    end = each.retires or each.not_after
    left = (end - request.now).days
    state = ("ok", _("Trusted"))
    if each.successor:
        state = ("warn", _("Has a new authority: compare its fingerprint, and trust it"))
    if each.revoked:
        state = ("bad", _("Revoked"))
    shown = each.successor or each.fingerprint
    return institution_name(request, each.institution), end, left_words(left), state, shown


def left_words(days: int) -> Any:
    """Return how long something is still good, in words."""
    if days < 0:
        return _("over")
    if days == 0:
        return _("less than a day")
    if days == 1:
        return _("1 day")
    return _("${days} days", mapping={"days": days})


@view_config(
    route_name="authority-file", permission=NO_PERMISSION_REQUIRED, request_method=("GET", "HEAD")
)
def authority_file(request: Request) -> Response:
    """Give a public file of the authority by its name."""
    found = published(request.keys.places.pki, request.matchdict["name"])
    if found is None:
        raise HTTPNotFound()
    mark_as_public(request, FILES_SECONDS)
    response = Response(body=found.der, content_type=found.content_type, conditional_response=True)
    response.etag = found.etag
    response.last_modified = found.made
    return response
