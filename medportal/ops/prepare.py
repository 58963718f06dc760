"""Prepare a demonstration: keys, databases, partners, data."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from medportal.core.clock import utcnow
from medportal.demo.load import DemoAccount, load
from medportal.demo.post_office import prepare_post_office
from medportal.ops.institution import create_keys, migrate_database, renew_crl, trust_each_other
from medportal.settings import Settings
from medportal.tenancy.registry import TenantRegistry


def prepare(
    settings: Settings, urls: Mapping[str, str], say: Callable[[str], None]
) -> list[DemoAccount]:
    """Make what is missing; ``say`` is told what is being done. Returns the accounts.

    An institution that was added beside the demonstration's is left as it is.
    """
    now = utcnow()
    settings = _of_demonstration(settings)
    for tenant in settings.tenants.values():
        made = create_keys(settings, tenant, now)
        renew_crl(settings, tenant, now)
        say(f"{tenant.id}: keys and certificates {'made' if made else 'are there'}")
        migrate_database(tenant)
        say(f"{tenant.id}: database is current")
    is_new = prepare_post_office(settings, utcnow())
    say(f"post office: password and certificate {'made' if is_new else 'are there'}")
    trust_each_other(settings, utcnow())
    say("the institutions trust each other")
    registry = TenantRegistry(settings.tenants)
    try:
        accounts = load(settings, registry, urls, utcnow())
    finally:
        registry.dispose()
    say(f"demonstration data is loaded: {len(accounts)} accounts")
    return accounts


def _of_demonstration(settings: Settings) -> Settings:
    """Return the settings with the demonstration's institutions, if there is one."""
    found = {name: tenant for name, tenant in settings.tenants.items() if tenant.demonstration}
    return replace(settings, tenants=found or settings.tenants)
