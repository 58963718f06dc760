"""Random identifiers (PURE)."""

import re
import secrets

ID_LENGTH = 32
_PATTERN = re.compile(r"[0-9a-f]{32}")


def new_id() -> str:
    """Return 128 random bits as 32 lower-case hexadecimal digits.

    Random, so that an id tells neither order nor time nor how many there are.
    """
    return secrets.token_hex(16)


def is_id(text: str) -> bool:
    """Tell whether ``text`` has the shape of an id."""
    return _PATTERN.fullmatch(text) is not None
