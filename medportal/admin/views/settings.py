"""The institution's settings as they are loaded, what is edited here, and who changed what."""

from typing import Any

from chameleon.utils import Markup
from pyramid.httpexceptions import HTTPNotFound
from pyramid.request import Request
from pyramid.view import view_config
from sqlalchemy.engine import make_url

from medportal.admin import settings
from medportal.admin import settings_words as words
from medportal.admin.views.settings_answers import number_of
from medportal.audit.events import Action
from medportal.core.permissions import Permission
from medportal.identity.people import names_of
from medportal.tenancy.tenant import IdentifierScheme, Kind, Tenant
from medportal.web.i18n import LANGUAGES, _, plural, translate

ENGINES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
KINDS = {Kind.HOSPITAL: _("Hospital"), Kind.LABORATORY: _("Laboratory")}


@view_config(
    route_name="institution-settings",
    renderer="medportal.admin:templates/settings.pt",
    permission=Permission.SETTINGS_MANAGE,
)
def show(request: Request) -> dict[str, Any]:
    """Show every setting that a page may show, which of them are edited here, and by whom."""
    before = _asked_before(request)
    current = settings.newest(request.db, request.file_tenant)
    lines, has_older = settings.history(request.db, request.file_tenant, before)
    request.audit(Action.SETTINGS_VIEWED)
    return {
        "parts": _parts(request, current.tenant),
        "general": _general(request, current.tenant),
        "roles": _roles(request, current.tenant),
        "networks": current.tenant.staff_networks,
        "wards": current.tenant.wards,
        "mail": words.mail_words(request, current.tenant.mail),
        "left_out": words.left_out(request, current.overlaid),
        "is_readable": current.is_readable,
        "lines": lines,
        "names": names_of(request.db, [line.by for line in lines if line.by]),
        "key_words": lambda line: words.key_words(line.keys, request),
        "link": lambda number: _link(request, number),
        "older": lines[-1].number if has_older else None,
        "is_first": before is None,
    }


def _asked_before(request: Request) -> int | None:
    asked = request.GET.get("before")
    return None if asked is None else number_of(asked, HTTPNotFound)


def _parts(request: Request, tenant: Tenant) -> list[dict[str, Any]]:
    """Return what can be edited, part by part; with an address where it is edited here."""
    editable = settings.editable_parts(request.file_tenant)
    return [
        {
            "title": title,
            "rows": words.rows_of(request, tenant, part),
            "edit": request.route_path("institution-settings-edit", _query={"part": part})
            if part in editable
            else None,
        }
        for part, title in words.PARTS.items()
    ]


def _general(request: Request, tenant: Tenant) -> list[tuple[str, Any]]:
    """Return what only the file says."""
    partners = request.keys.trusted.partners()
    engine = make_url(tenant.database_url).get_backend_name()
    passwords = tenant.passwords
    rows: list[tuple[str, Any]] = [
        (_("Short name"), tenant.id),
        (_("Kind"), translate(request, KINDS[tenant.kind])),
        (_("Address of this portal"), tenant.address),
        (_("Host names"), ", ".join(tenant.hostnames)),
        (_("Language of the institution"), LANGUAGES[tenant.default_language]),
        (_("Time zone"), tenant.time_zone),
        (_("Demonstration"), words.yes_or_no(request, tenant.demonstration)),
        (_("How people are numbered"), _numbering(request, tenant.identifiers)),
        (_("Database"), ENGINES.get(engine, engine)),
        (
            _("Password hashing cost (argon2id)"),
            f"{passwords.memory_kib} KiB × {passwords.time_cost} × {passwords.parallelism}",
        ),
        (
            _("An email address changed by staff counts after"),
            words.minutes(request, int(tenant.email_delay.total_seconds()) // 60),
        ),
        (_("Where partners reach us"), tenant.exchange.endpoint),
        (_("Partners"), str(len(partners))),
    ]
    return [(translate(request, label), value) for label, value in rows]


def _numbering(request: Request, identifiers: IdentifierScheme) -> str:
    if not identifiers.digits:
        return identifiers.scheme
    digits = plural(request, "${n} digit", "${n} digits", identifiers.digits)
    return f"{identifiers.scheme} ({digits})"


def _roles(request: Request, tenant: Tenant) -> list[list[Any]]:
    """Return a row for each role: name and code, what it may do, what its sessions need."""
    language = request.locale_name
    return [
        [
            f"{role.names[language]} ({role.id})",
            words.grant_words(request, role),
            words.yes_or_no(request, role.second_factor),
            words.session_words(request, role.sessions or tenant.sessions),
        ]
        for role in tenant.roles.values()
    ]


def _link(request: Request, number: int) -> Any:
    address = request.route_path("institution-settings-version", version=number)
    label = translate(request, _("Version ${number}", mapping={"number": number}))
    return Markup(f'<a href="{address}">{label}</a>')
