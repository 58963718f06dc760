"""``request.audit``: put an event on the request's tail, so that it commits before the page.

An event that cannot be written makes the request an error: no audit, no read.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from pyramid.request import Request
from sqlalchemy.orm import Session

from medportal.audit.append import append_all
from medportal.audit.events import MAX_TEXT, Action, Event, Outcome
from medportal.tenancy.requests import inserting


def includeme(config: Any) -> None:
    """Register the request method, and the events of a request that it keeps."""
    config.add_request_method(audit, "audit")
    config.add_request_method(_events, "_audited", reify=True)


def _events(request: Request) -> list[Event]:
    """Return the events of a request, none yet; they are written in one statement at its end."""
    events: list[Event] = []

    def write(session: Session) -> None:
        append_all(session, events)

    request.tail.append(inserting(write))
    return events


def audit(
    request: Request,
    action: Action,
    outcome: Outcome = Outcome.ALLOWED,
    *,
    actor: str | None = None,
    patient: str | None = None,
    object: str | None = None,
    reasons: Iterable[str] = (),
    basis: str | None = None,
    details: Mapping[str, str | int] | None = None,
) -> None:
    """Record what this request did; the actor is whoever is signed in, unless given.

    ``basis`` is the id of what the answer rested on: an assignment, a rule, a broken glass.
    """
    event = event_of(
        request,
        action,
        outcome,
        actor=actor,
        patient=patient,
        object=object,
        reasons=reasons,
        basis=basis,
        details=details,
    )
    request._audited.append(event)


def event_of(
    request: Request,
    action: Action,
    outcome: Outcome,
    *,
    actor: str | None = None,
    basis: str | None = None,
    details: Mapping[str, str | int] | None = None,
    **rest: Any,
) -> Event:
    """Return the event of a request, without writing it.

    An event about a patient says in which roles the actor came, from where, and on what basis:
    the patient is told.
    """
    identity = request.identity
    told = dict(details or {})
    if identity and rest.get("patient"):
        told["place"] = "on-site" if identity.on_site else "remote"
        told["roles"] = ",".join(sorted(identity.roles))[:MAX_TEXT]
    if basis:
        told["basis"] = basis
    return Event.create(
        action,
        outcome,
        now=request.now,
        actor=actor or (identity.person_id if identity else None),
        session=identity.session_id if identity else None,
        details=told,
        **rest,
    )
