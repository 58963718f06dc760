"""``medportal tenant add``: an institution more, from nothing to its first administrator.

Everything that could be refused is looked at before anything is made. Then each step makes what
is missing and can be done again: the tenant file, keys and certificates, the database, the
administrator; last the ini file names the institution, and that is what makes it one. Whoever is
interrupted runs the same command again and it goes on; until then nothing serves the half of it.
"""

import json
import os
import re
import socket
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from string import Template

from medportal.core.errors import ConfigurationError
from medportal.ops import ini_file
from medportal.ops.institution import (
    create_keys,
    descriptor_of,
    migrate_database,
    renew_crl,
)
from medportal.ops.people import FirstAdmin, check_admin, make_admin
from medportal.ops.stores import migrate_documents
from medportal.pki.files import locked, write_file
from medportal.pki.partners import fingerprint, read_descriptor
from medportal.pki.profiles import is_institution
from medportal.settings import Settings
from medportal.tenancy.loader import read_tenant, shared_hosts
from medportal.tenancy.registry import Database
from medportal.tenancy.tenant import IdentifierScheme, Kind, Tenant

_HOST_AND_PORT = re.compile(r"(\S+):([1-9][0-9]{0,4})", re.ASCII)
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an operator says about a new institution; what is empty is as at those served here.

    ``listen`` is where its portal listens, ``endpoint`` where partners reach its receiver and
    ``exchange_listen`` where that listens; an institution that only sends has neither.
    """

    name: str
    kind: Kind
    name_en: str
    name_pt: str
    host: str
    listen: str = ""
    address: str = ""
    endpoint: str = ""
    exchange_listen: str = ""
    database: str = ""
    language: str = ""
    time_zone: str = ""


@dataclass(frozen=True, slots=True)
class Site:
    """The installation to which an institution is added.

    ``tenants_dir`` is where tenant files lie, ``settings`` are those of the ini file, and
    ``listening`` whose the ports are on which its portal listens.
    """

    ini: Path
    tenants_dir: Path
    settings: Settings
    listening: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be made: a tenant file and an ini file with their texts, and the institution."""

    tenant: Tenant
    settings: Settings
    file: Path
    text: str
    ini: Path
    ini_text: str
    is_begun: bool


@dataclass(frozen=True, slots=True)
class Added:
    """What was made. ``code`` opens the account of the first administrator.

    ``fingerprint`` is what people read out when a partner is to trust the institution.
    """

    tenant: str
    code: str | None
    link_mailed: bool
    fingerprint: str


def plan(site: Site, wanted: Wanted) -> Plan:
    """Return what adding an institution would make, and make nothing.

    Raises ``ConfigurationError`` with everything that is in the way.
    """
    problems = [*_problems_of_name(site, wanted.name), *_malformed(wanted)]
    if problems:
        raise ConfigurationError(*problems)
    file = site.tenants_dir / f"{wanted.name}.toml"
    text = _text(site, wanted)
    tenant = read_tenant(file.name, text, site.settings.variables)
    tenants = {**site.settings.tenants, tenant.id: tenant}
    problems = [*shared_hosts(tenants), *_problems_of_files(site, file, text, wanted.name)]
    ini_text = site.ini.read_text("utf-8")
    problems += _problems_of_ports(site, wanted, tenant, ini_text)
    try:
        new_ini = _ini_text(ini_text, wanted)
    except ini_file.NoPlace as error:
        problems.append(
            f"{site.ini.name}: {error}: is not written on lines of its own, so that nothing can "
            "be added to it: write it as production.ini does"
        )
        new_ini = ""
    if problems:
        raise ConfigurationError(*problems)
    settings = replace(site.settings, tenants=tenants)
    return Plan(tenant, settings, file, text, site.ini, new_ini, file.exists())


def carry_out(made: Plan, first: FirstAdmin, now: datetime, say: Say) -> Added:
    """Make an institution, going on where an earlier run stopped; ``say`` is told of each step.

    Raises ``ConfigurationError`` before anything is made for an administrator who is none.
    """
    tenant, settings = made.tenant, made.settings
    profile = check_admin(tenant, first)
    with locked(settings.state / ".tenant-add.lock"):
        if not made.file.exists():
            write_file(made.file, made.text.encode("utf-8"), _mode_of(made.ini))
        say(f"{made.file} is written")
        create_keys(settings, tenant, now)
        renew_crl(settings, tenant, now)
        say("keys and certificates are there")
        migrate_database(tenant)
        migrate_documents(tenant)
        say("the database is current")
        database = Database(tenant)
        try:
            welcome = make_admin(tenant, database, profile, now)
        finally:
            database.dispose()
        say("the first administrator is registered")
        _write_like(made.ini, made.ini_text)
        say(f"{made.ini} names the institution")
    said = fingerprint(read_descriptor(descriptor_of(settings, tenant, now), now))
    return Added(tenant.id, welcome.code, welcome.mail_sent, said)


def preview(made: Plan) -> list[str]:
    """Return what adding the institution would make, a line each."""
    home = made.settings.home(made.tenant.id)
    begun = " (is there already, from a run that was stopped)" if made.is_begun else ""
    return [
        f"write {made.file}{begun}",
        f"make keys and certificates in {home}, with an authority for {made.tenant.hostnames[0]}",
        f"make its database ({made.tenant.database_url.partition(':')[0]}) and bring it up to date",
        "register its first administrator and print the code that opens the account",
        f"add it to medportal.tenants in {made.ini}",
    ]


def next_steps(made: Plan, partner: str = "PARTNER") -> list[str]:
    """Return what is left for people to do, in order, as commands and sentences."""
    name = made.tenant.id
    steps = [
        f"medportal tenant check    (mail, networks and wards are still to be said in {made.file})",
        f"start or restart the portal and: medportal jobs {name}",
        f"give the code to the administrator, who opens {made.tenant.address}/activate",
        f"medportal partner export {name} --output {name}.partner    (give them the file, and read"
        " the fingerprint out by telephone)",
        f"medportal partner trust {name} {partner}.partner    (their file, after comparing)",
        f"there: medportal partner trust {partner} {name}.partner",
        f"medportal transfer send {name}",
    ]
    if made.tenant.exchange.endpoint:
        steps.append(f"medportal transfer receive {name}")
    return steps


# Checks


def _problems_of_name(site: Site, name: str) -> list[str]:
    if not is_institution(name):
        return [
            "the name of an institution has 2 to 31 lower-case letters, digits and hyphens, and "
            "begins with a letter, such as northlab"
        ]
    if name in site.settings.tenants:
        return [f"{name}: is served here already: see medportal tenant check"]
    if site.settings.credentials is not None:
        return [
            "ini: medportal.credentials_dir: this file is for a process of one institution; use "
            "the operator's, see docs/deployment.md"
        ]
    return []


def _malformed(wanted: Wanted) -> list[str]:
    asked = {
        "--listen": wanted.listen,
        "--endpoint": wanted.endpoint,
        "--exchange-listen": wanted.exchange_listen,
    }
    problems = [
        f"{option}: write it as address:port, such as 127.0.0.1:8445"
        for option, address in asked.items()
        if address and not _port(address)
    ]
    if wanted.exchange_listen and not wanted.endpoint:
        problems.append("--exchange-listen: goes with --endpoint: where partners reach it")
    return problems


def _problems_of_files(site: Site, file: Path, text: str, name: str) -> list[str]:
    try:
        there = file.read_text("utf-8")
    except FileNotFoundError:
        home = site.settings.home(name)
        if home.exists():
            return [
                f"{home} is there already and belongs to something else: choose another name, or "
                "move the directory away"
            ]
        return []
    if there != text:
        return [
            f"{file} is there already and says something else. If it was made by a command that "
            "was stopped, repeat that one with the same words; if not, choose another name"
        ]
    return []


def _problems_of_ports(site: Site, wanted: Wanted, tenant: Tenant, ini_text: str) -> list[str]:
    taken = {
        port: f"the receiver of {other.id}"
        for other in site.settings.tenants.values()
        if (port := _port(other.exchange.listen))
    }
    taken |= {port: f"the portal of {owner}" for port, owner in site.listening.items()}
    problems = []
    asked = {"--listen": wanted.listen, "--exchange-listen": tenant.exchange.listen}
    for option, address in asked.items():
        if not address:
            continue
        port = _port(address)
        if port in taken:
            problems.append(f"{option}: port {port} is taken by {taken[port]}")
        elif not _is_free(address):
            problems.append(
                f"{option}: {address} is in use on this machine, or not allowed: choose another"
            )
        taken[port] = f"{option} of the new institution"
    if ini_file.has_listeners(ini_text) and not wanted.listen:
        problems.append("--listen: say where the portal of the new institution listens")
    return problems


def _port(address: str) -> int:
    """Return the port of an address, 0 if there is none."""
    match = _HOST_AND_PORT.fullmatch(address)
    port = int(match[2]) if match else 0
    return port if port <= 65_535 else 0


def _is_free(address: str) -> bool:
    host, _colon, port = address.rpartition(":")
    try:
        (family, kind, proto, _name, where), *_rest = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        with socket.socket(family, kind, proto) as probe:
            # As servers do, so that connections just closed do not count as taken.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except OSError:
        return False
    return True


# Texts


def _text(site: Site, wanted: Wanted) -> str:
    """Return the tenant file; what nobody said is as at the institution served first."""
    likeness = next(iter(site.settings.tenants.values()), None)
    texts = files("medportal.ops") / "tenant_files"
    port = wanted.listen.rpartition(":")[2]
    default_address = f"https://{wanted.host}" + (f":{port}" if port not in {"", "443"} else "")
    values = {
        "name": wanted.name,
        "kind": wanted.kind.value,
        "name_en": wanted.name_en,
        "name_pt": wanted.name_pt,
        "host": wanted.host,
        "address": wanted.address or default_address,
        "database": wanted.database or f"sqlite:///{{state}}/{wanted.name}/portal.sqlite",
        "language": wanted.language or (likeness.default_language if likeness else "en"),
        "time_zone": wanted.time_zone or (likeness.time_zone if likeness else "UTC"),
    }
    head = Template((texts / "institution.toml").read_text("utf-8")).substitute(
        {name: _quoted(value) for name, value in values.items()},
        identifiers=_identifiers(likeness.identifiers if likeness else None),
        exchange=_exchange(wanted),
    )
    roles = (texts / f"{wanted.kind.value}_roles.toml").read_text("utf-8")
    text = f"{head.rstrip()}\n\n{roles}"
    tomllib.loads(text)
    return text


def _quoted(value: str) -> str:
    """Return a basic string of TOML: JSON's escapes are among its own (toml.io, v1.0.0)."""
    if not value.isprintable():
        raise ConfigurationError("names and addresses are written in letters, digits and signs")
    return json.dumps(value, ensure_ascii=False)


def _identifiers(scheme: IdentifierScheme | None) -> str:
    if scheme is not None and not scheme.is_numeric:
        return f"[identifiers]\nscheme = {_quoted(scheme.standard)}\n"
    digits = scheme.digits if scheme else 8
    name = scheme.scheme if scheme else "citizen-card"
    return f"[identifiers]\nscheme = {_quoted(name)}\ndigits = {digits}\n"


def _exchange(wanted: Wanted) -> str:
    if not wanted.endpoint:
        return ""
    listen = wanted.exchange_listen or f"0.0.0.0:{wanted.endpoint.rpartition(':')[2]}"
    return f"\n[exchange]\nendpoint = {_quoted(wanted.endpoint)}\nlisten = {_quoted(listen)}\n"


def _ini_text(text: str, wanted: Wanted) -> str:
    text = ini_file.with_tenant(text, wanted.name)
    if ini_file.has_listeners(text):
        text = ini_file.with_listener(text, wanted.name, wanted.listen)
    return text


def _mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def _write_like(path: Path, text: str) -> None:
    """Replace a file in one step, with the owner and mode that it has."""
    known = path.stat()
    write_file(path, text.encode("utf-8"), known.st_mode & 0o777)
    if os.geteuid() == 0:
        os.chown(path, known.st_uid, known.st_gid)
