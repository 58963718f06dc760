"""Who somebody is: people, accounts, passwords, sessions, the security policy.

Holds: people with typed identifiers; credentials (argon2id), second factors (TOTP, passkeys,
recovery codes); role grants and which roles are guarded; server-side sessions; the two halves
that choose a password (desk code, mailed link); changes of an email address; throttling.
May import: mail, pki, audit, vault, tenancy, web, db, core.
Never does: deciding what somebody may see; that is access's.
Invariants: one person per identifier and tenant; a session of another tenant is nobody; the
database holds no secret that opens anything; nothing slow happens while a write lock is held.
Start reading at :mod:`medportal.identity.sessions`, then :mod:`medportal.identity.views.sign_in`.
"""

from typing import Any


def includeme(config: Any) -> None:
    """Set the security policy and scan the views."""
    config.include("medportal.identity.policy")
    config.include("medportal.identity.withheld")
    config.scan("medportal.identity.views")
