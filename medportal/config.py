"""What the portal is made of: one list, in the order in which it is put together."""

from collections.abc import Mapping
from typing import Any

from pyramid.authorization import DENY_ALL
from pyramid.config import Configurator

from medportal.keys import TenantKeys
from medportal.logs import configure_logging
from medportal.pki.profiles import Group
from medportal.settings import Settings, parse_settings
from medportal.tenancy.registry import TenantRegistry
from medportal.vault.stores import documents_of

ROOMS = (
    "pyramid_tm",
    "pyramid_retry",
    "medportal.tenancy",
    "medportal.vault",
    "medportal.web",
    "medportal.audit.requests",
    "medportal.identity",
    "medportal.patients",
    "medportal.access",
    "medportal.erasure",
    "medportal.records",
    "medportal.exports",
    "medportal.results",
    "medportal.admin",
    "medportal.demo.mailbox",
    "medportal.routes",
)
#: The portal signs and opens records, and indexes patients under keys shared with partners.
PORTAL_GROUPS = (Group.PORTAL, Group.PAIR)
#: A view that names no permission asks for one that nobody has.
NO_SUCH_PERMISSION = "nobody:nothing:never"


class Nothing:
    """The default context: gives nothing to anybody."""

    __acl__ = [DENY_ALL]

    def __init__(self, request: object) -> None:
        """Take the request, as every root factory does."""


def make_app(raw: Mapping[str, str]) -> Any:
    """Return the WSGI application for the settings of an ini file's ``[app:main]``.

    Raises ``ConfigurationError`` with every problem at once.
    """
    settings = parse_settings(raw)
    configure_logging()
    config = Configurator(settings=_pyramid_settings(raw, settings), root_factory=Nothing)
    config.registry["settings"] = settings
    config.registry["tenants"] = TenantRegistry(settings.tenants)
    config.registry["keys"] = {
        tenant_id: TenantKeys(
            tenant, settings.home(tenant_id), PORTAL_GROUPS, settings.secrets(tenant_id)
        )
        for tenant_id, tenant in settings.tenants.items()
    }
    config.add_request_method(
        lambda request: request.registry["keys"][request.tenant.id], "keys", reify=True
    )
    config.add_request_method(
        lambda request: documents_of(request.tenant, request.db), "documents", reify=True
    )
    config.set_default_permission(NO_SUCH_PERMISSION)
    for room in ROOMS:
        config.include(room)
    config.commit()
    return config.make_wsgi_app()


def _pyramid_settings(raw: Mapping[str, str], settings: Settings) -> dict[str, Any]:
    return {
        **raw,
        "medportal.hsts": "true" if settings.hsts else "false",
        "tm.manager_hook": "pyramid_tm.explicit_manager",
        "tm.annotate_user": "false",
        "retry.attempts": "3",
    }
