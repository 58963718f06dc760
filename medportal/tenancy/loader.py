"""Read tenant files from disk.

Texts in a tenant file may hold ``{state}`` and other variables of the ini file, so that
one file serves development, tests and a deployment with other paths and ports.
"""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medportal.core.errors import ConfigurationError
from medportal.tenancy.tenant import Tenant, parse
from medportal.web.colour import contrast


def load_tenants(
    directory: Path, names: Sequence[str], variables: Mapping[str, str]
) -> dict[str, Tenant]:
    """Return the named tenants by id.

    Raises ``ConfigurationError`` with every problem of every file, and for a host name or an
    id that two tenants claim.
    """
    problems: list[str] = []
    tenants: dict[str, Tenant] = {}
    for name in names:
        try:
            tenant = _load(directory / f"{name}.toml", variables)
        except ConfigurationError as error:
            problems.extend(error.problems)
            continue
        if tenant.id != name:
            problems.append(f"{name}.toml: id: must be the same as the file's name")
        tenants[tenant.id] = tenant
    problems.extend(_shared_hosts(tenants))
    if problems:
        raise ConfigurationError(*problems)
    return tenants


def _load(path: Path, variables: Mapping[str, str]) -> Tenant:
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ConfigurationError(f"{path.name}: there is no such tenant file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path.name}: is not TOML: {error}") from error
    return parse(path.name, _substitute(data, variables, path.name), contrast)


def _substitute(value: Any, variables: Mapping[str, str], file: str) -> Any:
    if isinstance(value, dict):
        return {key: _substitute(item, variables, file) for key, item in value.items()}
    if isinstance(value, list):
        return [_substitute(item, variables, file) for item in value]
    if isinstance(value, str) and "{" in value:
        try:
            return value.format_map(variables)
        except (KeyError, ValueError, IndexError, AttributeError) as error:
            raise ConfigurationError(f"{file}: an unknown {{variable}}: {error}") from error
    return value


def _shared_hosts(tenants: Mapping[str, Tenant]) -> list[str]:
    owners: dict[str, str] = {}
    problems = []
    for tenant in tenants.values():
        for host in tenant.hostnames:
            other = owners.setdefault(host, tenant.id)
            if other != tenant.id:
                problems.append(f"{tenant.id}.toml: hostnames: {host} belongs to {other} already")
    return problems
