"""Everything secret at rest, and the only door to it.

Holds: the sealed envelope, the key hierarchy (tenant key, one key per patient, one
random key per sealed record), the tenant keystore file, HPKE boxes for hosts that
may seal but not open, and the stores of sealed documents: SQL, or MongoDB in :mod:`mongo`.
May import: the standard library, cryptography, SQLAlchemy, pymongo, tenancy, web, db and core.
PURE: ``errors``, ``kdf``, ``envelope``, ``keyring``, ``passphrase``, ``sealing``.
Never does: decide who may read; log, print or ``repr`` key material; commit.
Invariants: one AES key never encrypts two messages; every wrap and every envelope is
bound to its context; what was changed in one bit does not open; a patient key that
was destroyed is never made again.
Start reading at :mod:`medportal.vault.envelope`, then :mod:`medportal.vault.service`.
"""

from typing import Any


def includeme(config: Any) -> None:
    """Answer requests that meet a store which cannot be used now."""
    config.include("medportal.vault.requests")
