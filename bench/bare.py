"""The portal with one page more, for comparison: a query, a durable audit event, a line of text.

``bench.patient_page`` serves it by its own ini file, so that both pages go through one server.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sqlalchemy import text

from medportal.audit.append import append
from medportal.audit.events import Action, Event
from medportal.config import make_app
from medportal.core.clock import utcnow

PATH = "/bare"
TENANT = "hospital"
BODY = b"<!doctype html><title>bare</title><p>One query, one event.</p>"


class Bare:
    """The portal's application, and the page beside it."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.registry = app.registry

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        if environ["PATH_INFO"] != PATH:
            answer: Iterable[bytes] = self._app(environ, start_response)
            return answer
        with self.registry["tenants"].database(TENANT).writer() as session, session.begin():
            session.execute(text("SELECT 1"))
            append(session, Event.create(Action.PATIENTS_LISTED, now=utcnow(), actor="0" * 32))
        start_response(
            "200 OK", [("Content-Type", "text/html"), ("Content-Length", f"{len(BODY)}")]
        )
        return [BODY]


def app_factory(global_conf: Mapping[str, str], **settings: str) -> Bare:
    """Return the application, as PasteDeploy calls for it."""
    return Bare(make_app(settings))
