"""``medportal portal``, ``jobs`` and ``run``: processes that stay until they are told to stop."""

import os
import signal
import sys
import threading
from collections.abc import Callable

import click

from medportal.cli.context import Context
from medportal.cli.output import say


@click.command()
@click.argument("names", nargs=-1)
@click.pass_obj
def jobs(context: Context, names: tuple[str, ...]) -> None:
    """File what arrived, sign the audit log, send mail, keep house, until SIGTERM."""
    from medportal.jobs import Jobs
    from medportal.tenancy.registry import TenantRegistry

    settings = context.settings()
    registry = TenantRegistry(settings.tenants)
    for name in names or settings.tenants:
        # A tenant behind the code is refused once, here, and not at every turn of its loop.
        registry.database(settings.tenant(name).id).require_current()
    made = [
        Jobs(settings, settings.tenant(name), registry.database(name))
        for name in names or settings.tenants
    ]
    for one in made:
        # As above: a key that cannot be opened would fail some step at every turn.
        one.require_keys()
    _run_until_stopped([one.run for one in made])


def _run_until_stopped(loops: list[Callable[[threading.Event], None]]) -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    threads = [threading.Thread(target=loop, args=(stop,)) for loop in loops]
    for thread in threads:
        thread.start()
    for thread in threads:
        # A bounded wait lets Python handle signals between the waits.
        while thread.is_alive():
            thread.join(0.5)


@click.command()
@click.pass_obj
def portal(context: Context) -> None:
    """Serve the portal until SIGTERM."""
    from medportal.config import PORTAL_GROUPS
    from medportal.keys import TenantKeys
    from medportal.pki.profiles import Purpose

    settings = context.settings()
    for tenant in settings.tenants.values():
        keys = TenantKeys(
            tenant, settings.home(tenant.id), PORTAL_GROUPS, settings.secrets(tenant.id)
        )
        keys.require(Purpose.RECORD, Purpose.WEB)
    command = context.portal_command()
    os.execv(command[0], command)  # noqa: S606  (this program, another module)


@click.command("run")
@click.option("--hospital-port", type=click.IntRange(1, 65535), default=8443, show_default=True)
@click.option("--laboratory-port", type=click.IntRange(1, 65535), default=8444, show_default=True)
@click.option("--exchange-port", type=click.IntRange(1, 65535), default=4000, show_default=True)
@click.option("--mail-port", type=click.IntRange(1, 65535), default=2525, show_default=True)
@click.pass_obj
def run_demonstration(
    context: Context, hospital_port: int, laboratory_port: int, exchange_port: int, mail_port: int
) -> None:
    """Prepare the demonstration, start every process and keep them running until Ctrl-C."""
    from medportal.ops.demonstration import Ports, run

    ports = Ports(hospital_port, laboratory_port, exchange_port, mail_port)
    sys.exit(run(context, ports, say=say))
