"""Secrets under a passphrase: Argon2id and the envelope (PURE).

The result is canonical CBOR ``{format, purpose, iterations, lanes, memory_kib, salt,
sealed}``; purpose and parameters are bound into the envelope as its context. On the host
that also holds the passphrase file this protects backups and copies of the key file, not
the host.
"""

import secrets
import threading
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from medportal.core import canonical
from medportal.vault.envelope import open_, seal
from medportal.vault.errors import (
    KeyFileError,
    UnknownVersion,
    WrongKey,
    WrongPassphrase,
)
from medportal.vault.kdf import KEY_LENGTH

FORMAT = "medportal key file 1"
SALT_LENGTH = 16
MAX_MEMORY_KIB = 1024 * 1024
MAX_ITERATIONS = 16
MAX_LANES = 16


@dataclass(frozen=True, slots=True)
class Cost:
    """Argon2id parameters. The default is RFC 9106, section 4, second recommendation."""

    iterations: int = 3
    lanes: int = 4
    memory_kib: int = 64 * 1024


DEFAULT_COST = Cost()
_ONE_AT_A_TIME = threading.Lock()


def protect(purpose: str, secret: bytes, passphrase: bytes, cost: Cost = DEFAULT_COST) -> bytes:
    """Return ``secret`` under ``passphrase``, for ``purpose`` only.

    Raises ``KeyFileError`` for an empty passphrase.
    """
    if not passphrase:
        raise KeyFileError("the passphrase is empty")
    salt = secrets.token_bytes(SALT_LENGTH)
    context = _context(purpose, cost)
    sealed = seal(_derive(passphrase, salt, cost), secret, context=context)
    return canonical.encode({"format": FORMAT, **context, "salt": salt, "sealed": sealed})


def unprotect(purpose: str, data: bytes, passphrase: bytes) -> bytes:
    """Return the secret.

    Raises ``WrongPassphrase``, ``UnknownVersion``, ``Tampered`` (the envelope was changed)
    or ``KeyFileError`` (not such a file, of another purpose, or absurd parameters).
    """
    cost, salt, sealed = _parse(purpose, data)
    try:
        return open_(_derive(passphrase, salt, cost), sealed, context=_context(purpose, cost))
    except WrongKey:
        raise WrongPassphrase("the passphrase does not open the key file") from None


def _context(purpose: str, cost: Cost) -> dict[str, str | int]:
    return {
        "purpose": purpose,
        "iterations": cost.iterations,
        "lanes": cost.lanes,
        "memory_kib": cost.memory_kib,
    }


def _derive(passphrase: bytes, salt: bytes, cost: Cost) -> bytes:
    # Two at once in one process wait for each other's lanes for ever, or fail with MemoryError:
    # OpenSSL's Argon2 takes its threads from one number for the whole process (cryptography 50).
    with _ONE_AT_A_TIME:
        return Argon2id(
            salt=salt,
            length=KEY_LENGTH,
            iterations=cost.iterations,
            lanes=cost.lanes,
            memory_cost=cost.memory_kib,
        ).derive(passphrase)


def _parse(purpose: str, data: bytes) -> tuple[Cost, bytes, bytes]:
    try:
        fields = canonical.decode(data)
    except canonical.NotCanonical:
        raise KeyFileError("not a key file") from None
    if not isinstance(fields, dict) or "format" not in fields:
        raise KeyFileError("not a key file")
    if fields["format"] != FORMAT:
        raise UnknownVersion("a key file of an unknown format")
    if fields.get("purpose") != purpose:
        raise KeyFileError("a key file of another purpose")
    return _cost(fields), _bytes(fields, "salt"), _bytes(fields, "sealed")


def _cost(fields: dict[str, Any]) -> Cost:
    """Read the parameters within bounds, so that a changed file cannot exhaust the host."""
    lanes = _bounded(fields, "lanes", 1, MAX_LANES)
    return Cost(
        iterations=_bounded(fields, "iterations", 1, MAX_ITERATIONS),
        lanes=lanes,
        memory_kib=_bounded(fields, "memory_kib", 8 * lanes, MAX_MEMORY_KIB),
    )


def _bounded(fields: dict[str, Any], name: str, low: int, high: int) -> int:
    value = fields.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise KeyFileError(f"{name} is out of bounds")
    return value


def _bytes(fields: dict[str, Any], name: str) -> bytes:
    value = fields.get(name)
    if not isinstance(value, bytes) or len(value) < SALT_LENGTH:
        raise KeyFileError(f"{name} is missing or malformed")
    return value
