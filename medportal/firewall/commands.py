"""The commands ``medportal firewall``; :func:`register` adds them to a command line.

They need no ini file and no institution: a router has neither.
"""

from pathlib import Path

import click

from medportal.core.errors import ConfigurationError
from medportal.firewall.loader import DEFAULT_POLICY, load
from medportal.firewall.policy import Host, Policy
from medportal.firewall.render import Format, render


def register(main: click.Group) -> None:
    """Add the commands to a command line."""
    main.add_command(firewall)


@click.group()
def firewall() -> None:
    """What may talk to what: the rules of each host, in words, as files, loaded."""


_policy_option = click.option(
    "--policy",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    default=DEFAULT_POLICY,
    show_default=True,
    help="The policy's file.",
)


def _host(policy: Policy, name: str) -> Host:
    if name not in policy.hosts:
        known = ", ".join(policy.hosts)
        raise ConfigurationError(f"--host: the policy names no such host; it names {known}")
    return policy.hosts[name]


@firewall.command("render")
@_policy_option
@click.option("--host", "name", required=True, help="The host of the policy.")
@click.option(
    "--format",
    "form",
    type=click.Choice([str(form) for form in Format]),
    default=str(Format.NFT),
    show_default=True,
    help="A file for nftables, or a shell script that sets ufw up.",
)
def firewall_render(file: Path, name: str, form: str) -> None:
    """Print a host's rules; the same policy gives the same bytes."""
    policy = load(file)
    click.echo(render(policy, _host(policy, name), Format(form)), nl=False)
