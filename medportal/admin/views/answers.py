"""What the pages about people share: whom a page is about, its events, and codes handed over.

Carrying out what an administrator decides is in :mod:`medportal.admin.views.deed`.
"""

from typing import Any

from pyramid.httpexceptions import HTTPNotFound
from pyramid.request import Request

from medportal.admin.approvals import Asked
from medportal.admin.models import ApprovalKind
from medportal.audit.events import Action
from medportal.core.ids import is_id
from medportal.core.reasons import Reason
from medportal.identity import codes, directory
from medportal.identity.accounts import Noted
from medportal.identity.directory import PersonDetails
from medportal.identity.fresh import require_fresh


def person_of(request: Request) -> PersonDetails:
    """Return whom a page is about. Raises ``HTTPNotFound`` for nobody."""
    person_id = request.matchdict["person"]
    scheme = request.tenant.identifiers.scheme
    found = directory.details(request.db, scheme, person_id) if is_id(person_id) else None
    if found is None:
        raise HTTPNotFound()
    return found


def subject_of(request: Request) -> PersonDetails:
    """Return whose account a page changes, for somebody who proved lately who they are."""
    require_fresh(request)
    return person_of(request)


def patient_id(person: PersonDetails) -> str | None:
    """Return the patient whom an event concerns, so that it is found under them too."""
    return person.id if person.is_patient else None


def audit_deed(
    request: Request,
    person: PersonDetails,
    action: Action,
    note: Noted,
    *also: Reason,
    **details: str | int,
) -> None:
    """Write the event of a deed: its reasons, and of its note the id and the commitment."""
    request.audit(
        action,
        object=person.id,
        patient=patient_id(person),
        reasons=[note.reason, *also],
        details={**details, **note.details},
    )


def audit_request(
    request: Request, person: PersonDetails, asked: Asked, kind: ApprovalKind, **details: str
) -> None:
    """Write the event of a request that waits for a second person."""
    audit_deed(
        request,
        person,
        Action.APPROVAL_REQUESTED,
        asked.note,
        Reason.SECOND_PERSON_NEEDED,
        approval=asked.id,
        kind=str(kind),
        **details,
    )


def code_beforehand(request: Request) -> codes.FreshCode | None:
    """Return a code for what a form may need: slow, so before the transaction that writes."""
    return codes.make_code() if request.method == "POST" else None


def handed_over(request: Request, person_id: str, welcome: codes.Welcome) -> dict[str, Any]:
    """Return what stands on the paper with a code, and whether a mail went out with it."""
    return {
        "code": welcome.code,
        "mail_sent": welcome.mail_sent,
        "way_in": str(codes.way_in(request.db, request.tenant, person_id)),
        "activate_url": request.route_url("activate"),
        "reset_url": request.route_url("reset"),
    }
