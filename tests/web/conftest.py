"""A small application made of the web room alone, with stand-ins for what rooms above give."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from threading import Thread
from types import SimpleNamespace
from typing import Any

import colander
import pytest
from pyramid.config import Configurator
from pyramid.exceptions import BadCSRFOrigin, BadCSRFToken, URLDecodeError
from pyramid.httpexceptions import (
    HTTPForbidden,
    HTTPNotFound,
    HTTPSeeOther,
    HTTPServiceUnavailable,
)
from pyramid.security import NO_PERMISSION_REQUIRED
from pyramid_retry import mark_error_retryable
from webtest import TestApp

from medportal.routes import ROUTES
from medportal.web import forms
from medportal.web.errors import misdirected_page
from medportal.web.flash import flash
from medportal.web.i18n import _
from medportal.web.layout import Helpers

ORIGIN = "https://hospital.localhost:8443"


@dataclass(frozen=True)
class StandInTenant:
    """What the web room looks at in a tenant."""

    id: str = "hospital"
    kind: str = "hospital"
    names: dict[str, str] = field(
        default_factory=lambda: {"en": "Saint Luke's Hospital", "pt": "Hospital de São Lucas"}
    )
    colours: dict[str, str] = field(
        default_factory=lambda: {
            "brand": "#0f5c5c",
            "brand_text": "#ffffff",
            "accent": "#0a6280",
        }
    )
    default_language: str = "en"


LABORATORY = StandInTenant(
    id="laboratory",
    kind="laboratory",
    names={"en": "Tagus Laboratory", "pt": "Laboratório do Tejo"},
    colours={"brand": "#4b2e83", "brand_text": "#ffffff", "accent": "#5a3ea0"},
    default_language="pt",
)
TENANTS = {"hospital.localhost": StandInTenant(), "laboratory.localhost": LABORATORY}


class StandInPolicy:
    """Signed in is who sends the cookie ``person``; signing in asks a "database" each time."""

    def identity(self, request: Any) -> Any:
        request.registry["asked"].append("identity")
        name = request.cookies.get("person")
        return SimpleNamespace(person_id=name) if name else None

    def authenticated_userid(self, request: Any) -> Any:
        return request.identity and request.identity.person_id

    def permits(self, request: Any, context: Any, permission: str) -> bool:
        return permission == "yes"


class Visit(colander.Schema):
    """One field of each kind."""

    number = colander.SchemaNode(
        colander.String(),
        title=_("Citizen card number"),
        description="8 digits, no check digit.",
        validator=colander.Length(min=8, max=8),
        widget=forms.text(autocomplete="username", numeric=True, width=10),
    )
    secret = colander.SchemaNode(
        colander.String(), title=_("Password"), widget=forms.password("current-password")
    )
    born = colander.SchemaNode(
        colander.Date(), title="Date of birth", widget=forms.date_parts("bday")
    )
    height = colander.SchemaNode(
        colander.Decimal(),
        title="Height",
        missing=None,
        widget=forms.text(decimal=True, unit="cm", width=5),
    )
    sex = colander.SchemaNode(
        colander.String(),
        title="Sex",
        validator=colander.OneOf(["f", "m"]),
        widget=forms.radios([("f", "Female"), ("m", "Male")]),
    )
    ward = colander.SchemaNode(
        colander.String(),
        title="Ward",
        missing=None,
        validator=colander.OneOf(["a", "b"]),
        widget=forms.select([("", "Choose"), ("a", "Cardiology"), ("b", "Surgery")]),
    )
    needs = colander.SchemaNode(
        colander.Set(),
        title="Support needs",
        missing=frozenset(),
        widget=forms.checkboxes([("w", "Wheelchair"), ("i", "Interpreter")]),
    )
    consent = colander.SchemaNode(
        colander.Boolean(), title="Send the result by itself", widget=forms.checkbox()
    )
    notes = colander.SchemaNode(colander.String(), title="Notes", missing="", widget=forms.area(3))


class Pressure(colander.Schema):
    """A section within a form."""

    systolic = colander.SchemaNode(
        colander.Integer(), title="Systolic", widget=forms.text(unit="mmHg", width=3)
    )


class WithSection(colander.Schema):
    """A form with a section."""

    hidden = colander.SchemaNode(colander.String(), missing="", widget=forms.hidden())
    pressure = Pressure(title="Blood pressure", description="At rest.")


GALLERY = """
<metal:page use-macro="layout" i18n:domain="medportal">
<metal:title fill-slot="title">Gallery</metal:title>
<metal:before fill-slot="before"><metal:x use-macro="ui.macros['back']"
   tal:define="back '/'; words 'My patients'"/></metal:before>
<metal:content fill-slot="content">
  <h1>Maria Conceição Albuquerque</h1>
  <metal:x use-macro="ui.macros['notice']" tal:define="kind 'warn';
     words 'The signature of one record does not fit. Do not rely on it.'"/>
  <p>${h.tag('ok', 'Delivered')} ${h.tag('wait', 'Waiting')} ${h.tag('warn', 'High')}
     ${h.tag('bad', 'No such patient there')} ${h.tag('info', 'Received')}
     ${h.tag('plain', 'Porter')}</p>
  <p><metal:x use-macro="ui.macros['live-tag']" tal:define="url '/state'; kind 'wait';
     words 'Waiting'; final False"/></p>
  <ul class="actions">
    <li><a class="btn btn-primary" href="/form">New record</a></li>
    <li><metal:x use-macro="ui.macros['button']" tal:define="action '/plain'; words 'Print'"/></li>
    <li><metal:x use-macro="ui.macros['button']" tal:define="action '/plain';
        words 'End the assignment'; style 'danger'; fields {'id': '1'}"/></li>
  </ul>
  <h2>Who this is</h2>
  <metal:x use-macro="ui.macros['summary']" tal:define="rows rows"/>
  <metal:x use-macro="ui.macros['table']" tal:define="caption 'Laboratory results';
     columns columns; rows results; numeric {1}; empty 'x'"/>
  <metal:x use-macro="ui.macros['table']" tal:define="caption 'Heads'; numeric {};
     columns ['Partner', 'Root']; rows [['Laboratory', 'ab' * 32]]; empty 'x'"/>
  <metal:x use-macro="ui.macros['table']" tal:define="caption 'None'; columns []; rows [];
     empty 'There are no records yet. They appear here when a laboratory sends one.'"/>
  <h2>Her people</h2>
  <ul class="cards"><li class="card" tal:repeat="n (1, 2, 3)"><h3>Ward B, bed ${n}</h3>
     <p>Needs a wheelchair and speaks Portuguese.</p></li></ul>
</metal:content>
</metal:page>
"""


def gallery(request: Any) -> dict[str, Any]:
    """Show every part."""
    h = Helpers(request)
    return {
        "rows": [
            ("Date of birth", h.date(date(2025, 3, 7)), "/form", "Change"),
            ("Citizen card number", "12345678"),
            ("Blood type", None),
        ],
        "columns": ["Test", "Value", "Usual range", "Assessment"],
        "results": [
            ["Haemoglobin", f"{h.number(Decimal('13.40'))} g/dL", "12 – 16", h.tag("ok", "Usual")],
            ["Glucose", f"{h.number(1131)} mg/dL", "70 – 99", h.tag("warn", "High")],
        ],
    }


def show_form(request: Any) -> Any:
    """Show and take the form."""
    form = forms.make_form(
        request, Visit(), submit=_("Sign in"), secondary=[("/", "Back to the list")]
    )
    if request.method == "POST":
        values = form.validate(request.POST.items())
        if values is not None and values["number"] == "99999999":
            form.fail("number", "is not known here")
            form.fail(None, "Nothing fits.")
        elif values is not None:
            flash(request, _("Save"))
            return HTTPSeeOther("/gallery")
    return {"form": form}


def show_section(request: Any) -> Any:
    """Show and take the form with a section."""
    form = forms.make_form(request, WithSection(), form_id="section", danger=True)
    if form.is_submitted:
        values = form.validate(request.POST.items())
        if values is not None:
            request.registry["taken"].append(values)
            return HTTPSeeOther("/")
    return {"form": form.fill({"pressure": {"systolic": 120}})}


class Busy(Exception):
    """A database that is locked."""


mark_error_retryable(Busy)


def explode(request: Any) -> Any:
    """Raise what the address asks for."""
    request.registry["asked"].append("view")
    match request.matchdict["how"]:
        case "crash":
            try:
                raise KeyError("secret-marker")
            except KeyError as cause:
                raise RuntimeError("secret-marker") from cause
        case "missing":
            raise HTTPNotFound("secret-marker")
        case "hidden":
            raise HTTPForbidden("secret-marker")
        case "busy":
            raise Busy("secret-marker")
        case "away":
            raise HTTPServiceUnavailable(headers={"Retry-After": "7"})
        case "BadCSRFToken":
            raise BadCSRFToken("secret-marker")
        case "BadCSRFOrigin":
            raise BadCSRFOrigin("secret-marker")
        case "undecodable":
            raise URLDecodeError("utf-8", b"\xff", 0, 1, "secret-marker")
        case "misdirected":
            return misdirected_page(request)
        case "elsewhere":
            raise HTTPSeeOther("/help")
    return {}


FORM_PAGE = """
<metal:page use-macro="layout">
<metal:title fill-slot="title">Form</metal:title>
<metal:content fill-slot="content"><h1>Register a visit</h1>${form}</metal:content>
</metal:page>
"""


def compose(directory: Any, settings: dict[str, Any]) -> Any:
    """Return the WSGI application."""
    (directory / "gallery.pt").write_text(GALLERY, "utf-8")
    (directory / "form.pt").write_text(FORM_PAGE, "utf-8")
    config = Configurator(settings=settings, package="medportal")
    config.include("pyramid_retry")
    config.registry["asked"] = []
    config.registry["taken"] = []
    config.set_security_policy(StandInPolicy())
    config.add_request_method(
        lambda request: TENANTS.get(request.host.split(":")[0]), "tenant", reify=True
    )
    config.add_request_method(_person_name, "person_name", reify=True)
    config.add_request_method(
        lambda request: request.headers.get("X-Preference"), "language_preference", reify=True
    )
    config.set_default_permission("no")
    config.include("medportal.web")
    config.add_request_method(_nav, "nav", reify=True)
    for name, path, *_rest in ROUTES:
        config.add_route(name, path)
    for name, path in (
        ("gallery", "/gallery"),
        ("form", "/form"),
        ("section", "/section"),
        ("state", "/state"),
        ("plain", "/plain"),
        ("guarded", "/guarded"),
        ("explode", "/explode/{how}"),
    ):
        config.add_route(name, path)
    everybody = NO_PERMISSION_REQUIRED
    config.add_view(
        gallery, route_name="gallery", renderer=str(directory / "gallery.pt"), permission=everybody
    )
    for view, route in ((show_form, "form"), (show_section, "section")):
        config.add_view(
            view, route_name=route, renderer=str(directory / "form.pt"), permission=everybody
        )
    config.add_view(_next_state, route_name="state", renderer="json", permission=everybody)
    config.add_view(lambda r: {}, route_name="plain", renderer="json", permission=everybody)
    config.add_view(lambda r: {}, route_name="guarded", renderer="json")
    config.add_view(explode, route_name="explode", renderer="json", permission=everybody)
    config.add_view(lambda r: {}, route_name="home", renderer="json", permission=everybody)
    return config.make_wsgi_app()


def _nav(request: Any) -> list[tuple[str, str, bool]]:
    return [
        ("My patients", "/gallery", request.path == "/gallery"),
        ("Find a patient", "/form", request.path == "/form"),
        ("My account", "/section", request.path == "/section"),
    ]


def _person_name(request: Any) -> str | None:
    return request.cookies.get("person")


def _next_state(request: Any) -> dict[str, Any]:
    asked = request.registry["asked"]
    asked.append("state")
    if asked.count("state") < 2:
        return {"state": "waiting", "text": "Waiting", "kind": "wait", "final": False}
    return {
        "state": "delivered",
        "text": "Delivered, receipt 12",
        "kind": "ok",
        "final": True,
    }


@pytest.fixture(scope="session")
def composed(tmp_path_factory: Any) -> Any:
    """Return the application; it keeps nothing between requests but what tests look at."""
    return compose(tmp_path_factory.mktemp("app"), {"medportal.max_body_bytes": "20000"})


@pytest.fixture
def wsgi(composed: Any) -> Any:
    """Return the application with nothing asked of it yet."""
    composed.registry["asked"].clear()
    composed.registry["taken"].clear()
    return composed


@pytest.fixture
def app(wsgi: Any) -> TestApp:
    """Return a client that speaks HTTPS to the hospital, as a browser would."""
    return client(wsgi)


@pytest.fixture
def make_app(tmp_path: Any) -> Callable[[dict[str, Any]], TestApp]:
    """Return a function that makes a client of an application with other settings."""
    return lambda settings: client(compose(tmp_path, settings))


def client(wsgi: Any) -> TestApp:
    """Return a client that speaks HTTPS to the hospital."""
    return TestApp(
        wsgi,
        extra_environ={
            "wsgi.url_scheme": "https",
            "HTTP_HOST": "hospital.localhost:8443",
            "SERVER_PORT": "8443",
        },
    )


@pytest.fixture(scope="session")
def gallery_address(tmp_path_factory: Any) -> Iterator[str]:
    """Serve the application on this machine for a browser; yields its address."""
    from waitress.server import create_server

    server = create_server(
        compose(tmp_path_factory.mktemp("gallery"), {}), host="127.0.0.1", port=0, threads=4
    )
    thread = Thread(target=server.run, daemon=True)
    thread.start()
    yield f"http://hospital.localhost:{server.effective_port}"
    server.close()
