"""Patients of an institution: registry, wards, where their results go, partners' index.

Holds: who is a patient here, in which ward and bed, which hospitals are named to receive
results, and the pseudonym index by which partners ask.
May import: identity, pki, audit, vault, tenancy, web, db, core.
Never does: clinical content; deciding who may see whom.
Invariant: registering a patient and indexing them for every partner is one transaction.
Start reading at :mod:`medportal.patients.service`.
"""

from typing import Any


def includeme(config: Any) -> None:
    """Register the views."""
    config.scan("medportal.patients.views")
