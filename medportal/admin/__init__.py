"""Pages of the institution's administration and oversight: people, approvals, audit log.

Holds: people with their roles and accounts, what waits for a second person, the settings that
the institution's file leaves to its admins, deliveries, partners and what goes to them, the
audit log for those who oversee; and the one address for the edge itself, which fetches its keys.
May import: everything below; see the list in :mod:`medportal`.
Never does: clinical content. No page here opens a record.
Invariants: nobody changes their own account; what would open a patient's record, or give a
role that can, takes two people; each change has a reason, kept and audited.
Start reading at :mod:`medportal.identity.powers`, then :mod:`medportal.admin.approvals`.
"""

from typing import Any


def includeme(config: Any) -> None:
    """Register the views."""
    config.scan("medportal.admin.views")
