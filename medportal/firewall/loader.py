"""The policy's file."""

import tomllib
from pathlib import Path

from medportal.core.errors import ConfigurationError
from medportal.firewall.policy import Policy, parse

#: Where the policy lies, seen from the place that commands are given at.
DEFAULT_POLICY = Path("firewall/policy.toml")


def load(file: Path) -> Policy:
    """Return the policy in a file. Raises ``ConfigurationError`` with every problem."""
    try:
        data = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{file}: is not a text in UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{file}: {error}") from error
    return parse(str(file), data)
