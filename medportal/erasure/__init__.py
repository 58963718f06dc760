"""Erasure: a patient's key is destroyed, and with it everything that was sealed under it.

Holds: who asks and who agrees, the duty to keep, the ledger that is replayed before a restored
backup serves, and the pages.
May import: records, access, vault, patients and everything below.
Never does: erase on one person's word; say that what a partner holds is gone.
Invariants: nothing is destroyed before the ledger has its line; a key that was destroyed is never
made again.
Start reading at :mod:`medportal.erasure.models`.
"""

from typing import Any


def includeme(config: Any) -> None:
    """Register the views."""
    config.scan("medportal.erasure.views")
