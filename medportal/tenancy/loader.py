"""Read tenant files from disk.

Texts in a tenant file may hold ``{state}`` and other variables of the ini file, so that
one file serves development, tests and a deployment with other paths and ports. A brace that
is meant is written twice.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medportal.core.errors import ConfigurationError
from medportal.tenancy.parsing import parse
from medportal.tenancy.schemes import is_scheme
from medportal.tenancy.tenant import Tenant
from medportal.web.colour import contrast

_BRACES = re.compile(r"\{\{|\}\}|\{[^{}]*\}|[{}]")


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
    problems.extend(shared_hosts(tenants))
    if problems:
        raise ConfigurationError(*problems)
    return tenants


def _load(path: Path, variables: Mapping[str, str]) -> Tenant:
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError as error:
        raise ConfigurationError(f"{path.name}: there is no such tenant file") from error
    except OSError as error:
        raise ConfigurationError(f"{path.name}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path.name}: is not TOML: not a text in UTF-8") from error
    return read_tenant(path.name, text, variables)


def read_tenant(file: str, text: str, variables: Mapping[str, str]) -> Tenant:
    """Return the tenant that a file's text describes; ``file`` is what problems call it.

    Raises ``ConfigurationError`` with every problem.
    """
    try:
        data = tomllib.loads(text)
    except RecursionError as error:
        raise ConfigurationError(f"{file}: is not TOML: nested too deeply") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{file}: is not TOML: {error}") from error
    unknown: list[str] = []
    data = _substitute(data, variables, "", unknown)
    if unknown:
        raise ConfigurationError(*(_unknown(file, key, variables) for key in unknown))
    problems = _scheme_problems(file, data)
    try:
        tenant = parse(file, data, contrast)
    except ConfigurationError as error:
        raise ConfigurationError(*error.problems, *problems) from error
    if problems:
        raise ConfigurationError(*problems)
    return tenant


def _scheme_problems(file: str, data: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the name of a numbering scheme that looks like a standard's."""
    table = data.get("identifiers")
    name = table.get("scheme") if isinstance(table, dict) else None
    if not isinstance(name, str) or "." not in name or is_scheme(name):
        return []
    return [
        f"{file}: identifiers.scheme: python-stdnum has no such scheme, or none by which people "
        "can be told apart"
    ]


def _unknown(file: str, key: str, variables: Mapping[str, str]) -> str:
    # The text is not repeated: it may be an address with a password that holds a brace.
    known = ", ".join(f"{{{name}}}" for name in sorted(variables))
    return (
        f"{file}: {key}: holds an unknown {{variable}}; known are {known}; write {{{{ for a brace"
    )


def _substitute(value: Any, variables: Mapping[str, str], key: str, unknown: list[str]) -> Any:
    """Return ``value`` with its variables replaced; keys of texts with others go to ``unknown``."""
    if isinstance(value, dict):
        return {
            name: _substitute(item, variables, f"{key}.{name}".lstrip("."), unknown)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [_substitute(item, variables, key, unknown) for item in value]
    if not isinstance(value, str):
        return value
    try:
        return _BRACES.sub(lambda found: _replacement(found[0], variables), value)
    except KeyError:
        unknown.append(key)
        return value


def _replacement(found: str, variables: Mapping[str, str]) -> str:
    """Return what stands for braces; raises ``KeyError`` for what is no variable."""
    return found[0] if found in {"{{", "}}"} else variables[found[1:-1]]


def shared_hosts(tenants: Mapping[str, Tenant]) -> list[str]:
    """Return what is wrong with host names that two institutions claim."""
    owners: dict[str, str] = {}
    problems = []
    for tenant in tenants.values():
        for host in tenant.hostnames:
            other = owners.setdefault(host, tenant.id)
            if other != tenant.id:
                problems.append(f"{tenant.id}.toml: hostnames: {host} belongs to {other} already")
    return problems
