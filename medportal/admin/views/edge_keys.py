"""The files that the edge in front of the portal fetches for itself."""

from pyramid.httpexceptions import HTTPNotFound
from pyramid.request import Request
from pyramid.response import Response
from pyramid.security import NO_PERMISSION_REQUIRED
from pyramid.view import view_config

from medportal.audit.events import Action
from medportal.pki.carried import prepared
from medportal.web.edge import is_edge_itself


@view_config(route_name="edge-keys", permission=NO_PERMISSION_REQUIRED, request_method="GET")
def edge_keys(request: Request) -> Response:
    """Give the edge its renewed keys, which its own passphrase opens.

    Only where edges are trusted, and those show a certificate before anything is read: then who
    asks without a header that every edge sets is an edge itself, and nobody behind one.
    """
    found = prepared(request.keys.places.edge) if is_edge_itself(request) else None
    if found is None:
        raise HTTPNotFound()
    # A thief with the edge's certificate would be seen: the edge itself asks once a day.
    request.audit(Action.EDGE_KEYS_GIVEN, actor="process:edge")
    return Response(json_body=found, content_type="application/json", cache_control="no-store")
