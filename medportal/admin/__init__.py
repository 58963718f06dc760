"""Pages of the institution's administration and oversight: deliveries, audit log.

Holds: what waits and why, the audit log for those who oversee access.
May import: everything below; see the list in :mod:`medportal`.
Never does: clinical content. No page here opens a record.
Start reading at :mod:`medportal.admin.views`.
"""

from typing import Any


def includeme(config: Any) -> None:
    """Register the views."""
    config.scan("medportal.admin.views")
