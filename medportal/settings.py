"""Settings of a process, parsed once from its ini file.

Values are never echoed in errors. Nothing is read from the environment: granian copies it
into every WSGI environ.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from medportal.core.errors import ConfigurationError
from medportal.tenancy.loader import load_tenants
from medportal.tenancy.tenant import Tenant
from medportal.web.edge import SETTING as EDGES

VARIABLE_PREFIX = "medportal.variable."


@dataclass(frozen=True, slots=True)
class Settings:
    """What every medportal process knows of its surroundings."""

    production: bool
    hsts: bool
    state: Path
    tenants: Mapping[str, Tenant]
    variables: Mapping[str, str]
    credentials: Path | None = None

    def tenant(self, name: str) -> Tenant:
        """Return a tenant of this process; raises ``ConfigurationError`` if it is not served."""
        if name not in self.tenants:
            served = ", ".join(self.tenants)
            raise ConfigurationError(f"no tenant of that name is served here (served: {served})")
        return self.tenants[name]

    def home(self, tenant_id: str) -> Path:
        """Return the directory in which everything of one tenant lies."""
        return self.state / tenant_id

    def secrets(self, tenant_id: str) -> Path:
        """Return the directory of the passphrase files that this process is given."""
        return self.credentials or self.home(tenant_id) / "secrets"


def parse_settings(raw: Mapping[str, str], *, may_be_empty: bool = False) -> Settings:
    """Return the settings of an ini section; ``may_be_empty`` takes one that serves nobody yet.

    Raises ``ConfigurationError`` with every problem at once.
    """
    needed = ["medportal.tenants", "medportal.tenants_dir", "medportal.state_dir"]
    problems = [
        f"ini: {key} is missing"
        for key in (needed[1:] if may_be_empty else needed)
        if not raw.get(key, "").strip()
    ]
    production = _flag(raw, "medportal.production", True, problems)
    hsts = _flag(raw, "medportal.hsts", production, problems)
    _check_edges(raw, problems)
    credentials = _credentials(raw, problems)
    if problems:
        raise ConfigurationError(*problems)
    state = Path(raw["medportal.state_dir"]).resolve()
    variables = {
        key.removeprefix(VARIABLE_PREFIX): value
        for key, value in raw.items()
        if key.startswith(VARIABLE_PREFIX)
    } | {"state": str(state)}
    tenants = load_tenants(
        Path(raw["medportal.tenants_dir"]), raw.get("medportal.tenants", "").split(), variables
    )
    if production:
        _refuse_demonstration(tenants)
    return Settings(
        production=production,
        hsts=hsts,
        state=state,
        tenants=tenants,
        variables=variables,
        credentials=credentials,
    )


def _credentials(raw: Mapping[str, str], problems: list[str]) -> Path | None:
    """Return where a service manager puts this process's passphrases, if it does.

    The files there are named by group alone, so they are of one institution.
    """
    said = raw.get("medportal.credentials_dir", "").strip()
    if not said:
        return None
    if len(raw.get("medportal.tenants", "").split()) > 1:
        problems.append("ini: medportal.credentials_dir is for a process of one institution")
    return Path(said).resolve()


def _check_edges(raw: Mapping[str, str], problems: list[str]) -> None:
    """Note anything that is no address: a mistyped one would silently be believed by nobody."""
    try:
        for address in raw.get(EDGES, "").split():
            ipaddress.ip_address(address)
    except ValueError:
        problems.append(f"ini: {EDGES} must be addresses, separated by spaces")


def _flag(raw: Mapping[str, str], key: str, default: bool, problems: list[str]) -> bool:
    value = raw.get(key)
    if value is None:
        return default
    if value.lower() not in {"true", "false"}:
        problems.append(f"ini: {key} must be true or false")
        return default
    return value.lower() == "true"


def _refuse_demonstration(tenants: Mapping[str, Tenant]) -> None:
    problems = [
        f"{tenant.id}.toml: demonstration: a production portal serves no demonstration tenant"
        for tenant in tenants.values()
        if tenant.demonstration
    ]
    if problems:
        raise ConfigurationError(*problems)
