"""Start the sender or the receiver of an institution with what they may hold, and no more."""

from collections.abc import Sequence

import structlog

from medportal.core.errors import ConfigurationError
from medportal.keys import TenantKeys
from medportal.ops.lists import keeping_lists
from medportal.pki.profiles import Group, Purpose
from medportal.settings import Settings
from medportal.tenancy.registry import Database
from medportal.tenancy.tenant import Tenant
from medportal.transfer.commands import run_receiver, run_sender

log = structlog.get_logger()
#: The sender opens what waits in the outbox, and nothing that is stored.
SENDER_GROUPS = (Group.EXCHANGE, Group.OUTBOX)
#: The receiver compares pseudonyms, and opens nothing that is stored or waits.
RECEIVER_GROUPS = (Group.EXCHANGE, Group.PAIR)


def send(settings: Settings, tenant: Tenant) -> None:
    """Drain an institution's outbox until SIGTERM."""
    database = Database(tenant)
    try:
        keys = _keys(settings, tenant, SENDER_GROUPS)
        with keeping_lists(database, keys.places.pki):
            run_sender(keys, database.engine)
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
        keys = _keys(settings, tenant, RECEIVER_GROUPS, Purpose.RECEIPT)
        with keeping_lists(database, keys.places.pki):
            run_receiver(keys, database.engine, listening=_listening)
    except OSError as error:
        raise ConfigurationError(
            f"{tenant.id}.toml: exchange.listen: {tenant.exchange.listen} cannot be listened on"
        ) from error
    finally:
        database.dispose()


def _keys(
    settings: Settings, tenant: Tenant, groups: Sequence[Group], *purposes: Purpose
) -> TenantKeys:
    keys = TenantKeys(tenant, settings.home(tenant.id), groups, settings.secrets(tenant.id))
    keys.require(*purposes)
    return keys


def _listening(host: str, port: int) -> None:
    log.info("receiver listens", host=host, port=port)
