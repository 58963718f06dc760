"""What every command gets: the ini file and its variables, parsed when a command asks for them."""

import configparser
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medportal.cli import output
from medportal.core.errors import ConfigurationError

if TYPE_CHECKING:
    from medportal.settings import Settings
    from medportal.tenancy.registry import Database


@dataclass(frozen=True, slots=True)
class Context:
    """What every command gets: the ini file and its variables, parsed when asked for."""

    config: Path
    overrides: dict[str, str]
    as_json: bool

    @property
    def options(self) -> dict[str, str]:
        """Return the variables of the ini file's own ``[variables]``, then those given."""
        return {**ini_variables(self.config), **self.overrides}

    def settings(self, *, may_be_empty: bool = False) -> "Settings":
        """Return the settings. Raises ``ConfigurationError`` with every problem.

        ``may_be_empty`` takes an ini file that serves no institution yet.
        """
        # Late, as everywhere in this package: a line of help needs none of it.
        from medportal.settings import parse_settings

        return parse_settings(self.raw(), may_be_empty=may_be_empty)

    def raw(self) -> dict[str, str]:
        """Return the values of the ini file's application. Raises ``ConfigurationError``."""
        from pyramid.paster import get_appsettings

        try:
            return dict(get_appsettings(str(self.config), options=self.options))
        except (configparser.Error, LookupError, ImportError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{self.config}: {_in_words(error)}") from error

    def listening(self) -> dict[int, str]:
        """Return whose the ports are on which the ini file's portal listens.

        Raises ``ConfigurationError``.
        """
        from medportal.server import parse_listeners

        parser = configparser.ConfigParser(
            defaults={"here": str(self.config.parent.absolute()), **self.options}
        )
        try:
            parser.read(self.config, "utf-8")
            said = parser.get("server:main", "listen", fallback="").strip()
        except (configparser.Error, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{self.config}: {_in_words(error)}") from error
        return {each.port: each.tenant_id for each in parse_listeners(said)} if said else {}

    def with_overrides(self, more: dict[str, str]) -> "Context":
        """Return the same context with other variables."""
        return replace(self, overrides={**self.overrides, **more})

    def portal_command(self) -> list[str]:
        """Return the command that serves the portal with these variables."""
        # pserve imports Pyramid before any of our code could quiet this warning.
        quiet = "ignore:pkg_resources is deprecated:UserWarning"
        pserve = [sys.executable, "-W", quiet, "-m", "pyramid.scripts.pserve", str(self.config)]
        return [*pserve, *(f"{name}={value}" for name, value in self.options.items())]

    def own_command(self, *words: str) -> list[str]:
        """Return the command that runs this program again with these variables."""
        command = [sys.executable, "-m", "medportal.cli", "--config", str(self.config)]
        for name, value in self.overrides.items():
            command += ["--set", f"{name}={value}"]
        return [*command, *words]

    def show(self, rows: list[dict[str, Any]], title: str) -> None:
        """Print rows as was asked for, see :func:`medportal.cli.output.show`."""
        output.show(rows, title, as_json=self.as_json)


def database_of(settings: "Settings", name: str) -> "Database":
    """Return the database of an institution; it is closed when the command ends.

    Raises ``ConfigurationError`` for an institution that is not there.
    """
    from medportal.tenancy.registry import TenantRegistry

    database = TenantRegistry(settings.tenants).database(settings.tenant(name).id)
    click.get_current_context().call_on_close(database.dispose)
    return database


def ini_variables(config: Path) -> dict[str, str]:
    """Return what an ini file's ``[variables]`` section holds.

    PasteDeploy lets a file's own defaults win over variables given on the command line, so
    they cannot stand in its ``[DEFAULT]``. Raises ``ConfigurationError``.
    """
    parser = configparser.ConfigParser(defaults={"here": str(config.parent)})
    try:
        parser.read(config, "utf-8")
        found = dict(parser["variables"]) if parser.has_section("variables") else {}
    except (configparser.Error, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{config}: {_in_words(error)}") from error
    found.pop("here", None)
    return found


def _in_words(error: Exception) -> str:
    """Return what is wrong with an ini file, without a value of it: one may be a secret."""
    match error:
        case configparser.InterpolationError():
            return f"[{error.section}] {error.option}: a variable is unknown or malformed"
        case UnicodeDecodeError():
            return "is not a text in UTF-8"
        case ImportError():
            return "[app:main] use: names a package that is not installed"
    return str(error).splitlines()[0] if str(error) else type(error).__name__
