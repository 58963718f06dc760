"""Taking it along: records as FHIR bundles and as PDF, and the check of such a file.

Holds: what a file holds and how it is laid out, the pages that give one, and the offline
check of one (``medportal record verify``).
May import: records and everything below.
Never does: give a file without an audit event; take the author's signature off a record.
Start reading at the module that makes the bundle.
"""

from typing import Any


def includeme(config: Any) -> None:
    """Register the views."""
    config.scan("medportal.exports.views")
