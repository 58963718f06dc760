"""Start the sender or the receiver of an institution with what they may hold, and no more."""

import structlog

from medportal.core.errors import ConfigurationError
from medportal.keys import TenantKeys
from medportal.pki.profiles import Group
from medportal.settings import Settings
from medportal.tenancy.registry import Database
from medportal.tenancy.tenant import Tenant
from medportal.transfer.commands import run_receiver, run_sender

log = structlog.get_logger()
#: Both face partners: the keys of the exchange and nothing that opens what is stored.
TRANSFER_GROUPS = (Group.EXCHANGE,)


def send(settings: Settings, tenant: Tenant) -> None:
    """Drain an institution's outbox until SIGTERM."""
    database = Database(tenant)
    try:
        run_sender(_keys(settings, tenant), database.engine)
    finally:
        database.dispose()


def receive(settings: Settings, tenant: Tenant) -> None:
    """Accept records for an institution until SIGTERM.

    Raises ``ConfigurationError`` where it has no address to listen on, or it is taken.
    """
    if not tenant.exchange.listen:
        raise ConfigurationError(f"{tenant.id}.toml: exchange.listen: say where to listen")
    database = Database(tenant)
    try:
        run_receiver(_keys(settings, tenant), database.engine, listening=_listening)
    except OSError as error:
        raise ConfigurationError(
            f"{tenant.id}.toml: exchange.listen: {tenant.exchange.listen} cannot be listened on"
        ) from error
    finally:
        database.dispose()


def _keys(settings: Settings, tenant: Tenant) -> TenantKeys:
    return TenantKeys(tenant, settings.home(tenant.id), TRANSFER_GROUPS)


def _listening(host: str, port: int) -> None:
    log.info("receiver listens", host=host, port=port)
