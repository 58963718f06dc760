"""Who somebody is: people, accounts, passwords, sessions, the security policy.

Holds: people with typed identifiers, credentials (argon2id), role grants, server-side
sessions of which the cookie holds a random token and the database its hash, activation by
a code handed over at the desk.
May import: pki, audit, vault, tenancy, web, db, core.
Never does: deciding what somebody may see; that is access's.
Invariants: one person per identifier and tenant; a session of another tenant is nobody.
Start reading at :mod:`medportal.identity.service`.
"""

from typing import Any


def includeme(config: Any) -> None:
    """Set the security policy and scan the views."""
    config.include("medportal.identity.policy")
    config.scan("medportal.identity.views")
