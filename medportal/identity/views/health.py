"""Whether the institution can be served."""

from pyramid.request import Request
from pyramid.security import NO_PERMISSION_REQUIRED
from pyramid.view import view_config
from sqlalchemy.orm import Session


@view_config(
    route_name="healthz",
    renderer="json",
    permission=NO_PERMISSION_REQUIRED,
    request_method="GET",
)
def healthz(request: Request) -> dict[str, str]:
    """Say that this institution can be served: its database answers and is current."""
    session: Session = request.db
    session.connection()
    return {"status": "ok", "tenant": request.tenant.id}
