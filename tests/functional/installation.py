"""Two institutions in one application, and the people who use them: what tests name."""

import shutil
from copy import copy
from dataclasses import dataclass, field
from datetime import date
from http.cookiejar import Cookie
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session
from webtest import TestApp, TestResponse

from medportal.access.care import assign
from medportal.access.models import CareKind
from medportal.config import make_app
from medportal.core.clock import utcnow
from medportal.identity.credentials import set_password
from medportal.identity.people import Profile, register_person
from medportal.jobs import Jobs
from medportal.keys import TenantKeys
from medportal.patients import partner_index
from medportal.patients.service import Registration, build_partner_index, register_patient
from medportal.settings import Settings, parse_settings
from medportal.tenancy.registry import TenantRegistry
from medportal.web.csrf import COOKIE as TOKEN_COOKIE

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "quiet rivers carry small boats"
TENANTS = ("hospital", "laboratory")
PORT = 8443
NUMBERS = {
    "admin": "12345678",
    "doctor": "19573526",
    "other_doctor": "13907452",
    "nurse": "16240817",
    "ward_clerk": "15378965",
    "patient": "17645234",
    "porter": "17564920",
    "volunteer": "17564532",
    "patient_assistant": "14789078",
    "clinical_assistant": "18509738",
    "privacy_officer": "14435096",
    "auditor": "15960273",
    "responsible": "15288625",
}
CAST = {
    "hospital": [name for name in NUMBERS if name != "responsible"],
    "laboratory": ["admin", "privacy_officer", "auditor", "responsible", "patient"],
}
CARING = ("doctor", "nurse", "porter", "volunteer", "patient_assistant", "clinical_assistant")


def tenant_files(
    directory: Path, urls: dict[str, str], documents: dict[str, str] | None = None
) -> Path:
    """Write the tenants' files with other databases and cheap password hashes.

    ``documents`` is what their tables of that name say, if not that they are in SQL.
    """
    directory.mkdir(parents=True)
    for name in TENANTS:
        text = (ROOT / "tenants" / f"{name}.toml").read_text("utf-8")
        text = text.replace(f"sqlite:///{{state}}/{name}/portal.sqlite", urls[name])
        text = text.replace(
            "minimum_length = 15",
            "minimum_length = 15\ntime_cost = 1\nmemory_kib = 8",
        )
        if documents:
            text = text.replace('[documents]\nstore = "sql"', f"[documents]\n{documents[name]}")
        (directory / f"{name}.toml").write_text(text, "utf-8")
    return directory


@dataclass
class Browser:
    """Somebody's browser at one institution."""

    app: TestApp
    tenant: str

    def get(self, path: str, **kw: Any) -> TestResponse:
        return self.app.get(path, **kw)

    def sign_in(self, number: str, password: str = PASSWORD) -> TestResponse:
        """Post what the form of the sign-in page posts; test_sign_in.py sends the form itself."""
        if TOKEN_COOKIE not in self.cookies:
            self.get("/sign-in")
        fields = {
            "csrf_token": self.token(),
            "__formid__": "form",
            "number": number,
            "password": password,
            "next": "/",
        }
        return self.app.post("/sign-in", fields, expect_errors=True)

    @property
    def cookies(self) -> dict[str, str]:
        return {cookie.name: cookie.value for cookie in self.app.cookiejar}

    def token(self) -> str:
        """Return the CSRF token that stands in the forms of this browser's pages.

        It is the one of the browser's cookie; reading a page for it takes a tenth of a second.
        """
        return self.cookies.get(TOKEN_COOKIE) or self.get("/help").forms[0]["csrf_token"].value

    def post(self, path: str, fields: dict[str, str], **kw: Any) -> TestResponse:
        return self.app.post(path, {"csrf_token": self.token(), **fields}, **kw)


@dataclass
class Installation:
    """A running portal with two tenants; no processes besides."""

    settings: Settings
    raw: dict[str, str]
    app: Any
    registry: TenantRegistry
    ids: dict[tuple[str, str], str] = field(default_factory=dict)
    #: What a browser has that was at the sign-in page of a tenant, and did nothing there.
    visited: dict[str, list[Cookie]] = field(default_factory=dict)

    def browser(self, tenant: str = "hospital") -> Browser:
        """Return a browser with no cookies."""
        environ = {
            "HTTP_HOST": f"{tenant}.localhost:{PORT}",
            "wsgi.url_scheme": "https",
            "SERVER_PORT": str(PORT),
            "REMOTE_ADDR": "127.0.0.1",
        }
        return Browser(TestApp(self.app, extra_environ=environ), tenant)

    def signed_in(self, role: str, tenant: str = "hospital") -> Browser:
        """Return the browser of somebody who has signed in."""
        browser = self.browser(tenant)
        if tenant not in self.visited:
            browser.get("/sign-in")
            self.visited[tenant] = [copy(cookie) for cookie in browser.app.cookiejar]
        for cookie in self.visited[tenant]:
            browser.app.cookiejar.set_cookie(copy(cookie))
        response = browser.sign_in(NUMBERS[role])
        assert response.status_int == 303, response.text
        return browser

    def person(self, role: str, tenant: str = "hospital") -> str:
        return self.ids[tenant, role]

    def keys(self, tenant: str) -> TenantKeys:
        return TenantKeys(self.settings.tenant(tenant), self.settings.home(tenant))

    def session(self, tenant: str) -> Session:
        return self.registry.database(tenant).writer()

    def jobs(self, tenant: str) -> Jobs:
        tenant_ = self.settings.tenant(tenant)
        return Jobs(self.settings, tenant_, self.registry.database(tenant))

    def events(self, tenant: str) -> list[tuple[str, str, str | None, str | None]]:
        """Return (action, outcome, actor, patient) of every event, oldest first."""
        from medportal.audit.models import AuditEvent as E

        with self.session(tenant) as session:
            rows = session.execute(
                select(E.action, E.outcome, E.actor, E.patient).order_by(E.at, E.id)
            )
            return [tuple(row) for row in rows]


def raw_settings(tenants: Path, state: Path) -> dict[str, str]:
    return {
        "medportal.production": "false",
        "medportal.tenants": " ".join(TENANTS),
        "medportal.tenants_dir": str(tenants),
        "medportal.state_dir": str(state),
        "medportal.variable.exchange_port": "4000",
        "medportal.variable.mail_port": "2525",
        "medportal.variable.hospital_port": "8443",
        "medportal.variable.laboratory_port": "8444",
    }


def install(
    directory: Path,
    key_material: Path,
    urls: dict[str, str],
    documents: dict[str, str] | None = None,
) -> Installation:
    """Put an installation together in an empty directory."""
    state = directory / "state"
    shutil.copytree(key_material, state)
    raw = raw_settings(tenant_files(directory / "tenants", urls, documents), state)
    settings = parse_settings(raw)
    app = make_app(raw)
    made = Installation(settings, raw, app, TenantRegistry(settings.tenants))
    for tenant in TENANTS:
        with made.session(tenant) as session, session.begin():
            _people(made, session, tenant)
    return made


def _people(made: Installation, session: Session, tenant_id: str) -> None:
    tenant = made.settings.tenant(tenant_id)
    now = utcnow()
    keys = made.keys(tenant_id)
    for key in keys.partner_keys():
        build = partner_index.begin_index(session, key)
        build_partner_index(session, build, "")
        partner_index.finish_index(session, build, now)
    for role in CAST[tenant_id]:
        profile = Profile(
            name="Amanda Júlio" if role == "patient" else f"Person {role}",
            birth_date=date(1980, 2, 3),
            sex="female",
            language="en",
        )
        if role == "patient":
            person_id, _ = register_patient(
                session,
                Registration(
                    "citizen-card",
                    NUMBERS[role],
                    profile,
                    ward="Cardiology" if tenant.wards else "",
                    bed="12" if tenant.wards else "",
                    destinations=("hospital",) if tenant_id == "laboratory" else (),
                ),
                keys.partner_keys(),
                by=None,
                now=now,
            )
        else:
            person_id = register_person(
                session,
                scheme="citizen-card",
                number=NUMBERS[role],
                profile=profile,
                role=role.removeprefix("other_"),
                by=None,
                now=now,
            ).person_id
        set_password(session, person_id, tenant.passwords, PASSWORD, now)
        made.ids[tenant_id, role] = person_id
    session.flush()
    for role in CARING if tenant_id == "hospital" else ():
        assign(
            session,
            patient_id=made.ids[tenant_id, "patient"],
            staff_id=made.ids[tenant_id, role],
            kind=CareKind.TREATING if role == "doctor" else CareKind.TEAM,
            assignable_roles=CARING,
            treating_roles=("doctor",),
            by=None,
            now=now,
        )
