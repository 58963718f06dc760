"""The commands ``medportal firewall``; :func:`register` adds them to a command line.

They need no ini file and no institution: a router has neither.
"""

import json
import sys
from pathlib import Path

import click

from medportal.core.errors import ConfigurationError
from medportal.firewall import apply as loading
from medportal.firewall.errors import FirewallError
from medportal.firewall.loader import DEFAULT_POLICY, load
from medportal.firewall.pending import DEFAULT_STATE, Pending
from medportal.firewall.policy import Host, Policy
from medportal.firewall.render import Format, render
from medportal.firewall.rules import rules_of
from medportal.firewall.words import Level, findings, sentences


def register(main: click.Group) -> None:
    """Add the commands to a command line."""
    main.add_command(firewall)


@click.group()
def firewall() -> None:
    """What may talk to what: the rules of each host, in words, as files, loaded."""


def _say(line: str, **fields: str | int | None) -> None:
    """Print a line, or with ``--json`` its parts."""
    as_json = getattr(click.get_current_context().find_root().obj, "as_json", False)
    click.echo(json.dumps(fields, ensure_ascii=False, sort_keys=True) if as_json else line)


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


@firewall.command("check")
@_policy_option
@click.option("--host", "name", help="One host of the policy; all unless given.")
def firewall_check(file: Path, name: str | None) -> None:
    """Say each rule in words, and what to look at twice; exit status 1 where that is a problem."""
    policy = load(file)
    for host in [_host(policy, name)] if name else policy.hosts.values():
        for sentence in sentences(policy, host):
            _say(sentence, host=host.name, rule=sentence)
    found = findings(policy)
    for finding in found:
        level, words = str(finding.level), finding.words
        _say(f"{level}: {words}", level=level, finding=words)
    if any(finding.level == Level.PROBLEM for finding in found):
        sys.exit(1)


_state_option = click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    default=DEFAULT_STATE,
    show_default=True,
    help="Where it is remembered what comes back.",
)


@firewall.command("apply")
@_policy_option
@_state_option
@click.option("--host", "name", required=True, help="The host of the policy that this machine is.")
@click.option(
    "--confirm-within",
    "seconds",
    type=click.IntRange(5, 3600),
    help="Load the rules; after so many seconds the former ones come back unless confirmed.",
)
@click.option("--background", is_flag=True, help="Do not wait here for the confirmation.")
@click.option("--any-machine", is_flag=True, help="Also where the host's address is not.")
def firewall_apply(
    file: Path, state: Path, name: str, seconds: int | None, background: bool, any_machine: bool
) -> None:
    """Load a host's rules into nftables, its own table alone; without a time, only check them."""
    policy = load(file)
    host = _host(policy, name)
    if not any_machine:
        loading.require_machine(rules_of(policy, host))
    text = render(policy, host, Format.NFT)
    if seconds is None:
        loading.check(text)
        click.echo(f"nft takes the rules of {name}. Nothing is loaded without --confirm-within.")
        return
    made = loading.apply(text, name, seconds, state)
    click.echo(
        f"The rules of {name} are loaded. In {seconds} seconds the former ones come back, unless "
        "somebody says: medportal firewall confirm"
    )
    if not background:
        _wait(state, made)


def _wait(state: Path, made: Pending) -> None:
    """Wait beside the reverter, and do its work should it be killed."""
    click.echo("Better confirm from a new connection: that proves that there can be one.")
    try:
        kept = loading.watch(state, made.token)
    except KeyboardInterrupt:
        loading.revert(state)
        kept = False
    if not kept:
        raise FirewallError("not confirmed: the rules of before are back")
    click.echo("Confirmed.")


@firewall.command("confirm")
@_state_option
def firewall_confirm(state: Path) -> None:
    """Keep the rules that were loaded."""
    kept = loading.confirm(state)
    click.echo(f"The rules of {kept.host} stay, until this machine restarts.")


@firewall.command("revert")
@_state_option
def firewall_revert(state: Path) -> None:
    """Bring back the rules of before, without waiting."""
    gone = loading.revert(state)
    click.echo(f"The rules of {gone.host} are gone; those of before are back.")


@firewall.command("status")
@_state_option
def firewall_status(state: Path) -> None:
    """Say whether rules wait to be confirmed; those whose time is up are taken back."""
    waiting = loading.status(state)
    if waiting is None:
        _say("No rules wait to be confirmed.", waiting=None)
        return
    left = int(waiting.left)
    words = f"The rules of {waiting.host} go in {left} seconds unless confirmed."
    _say(words, waiting=waiting.host, seconds=left)
