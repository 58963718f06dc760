"""Who may see what, and why: the decision, its facts, its projection into ACLs, grants.

Holds: the decision table (:mod:`decisions`, PURE), care assignments, the loading of facts,
traversal contexts, the minting of grants, the writing of denials.
May import: delivery, keys, patients, identity, pki, audit, vault, tenancy, web, db, core.
Never does: reading clinical content.
Invariants: no grant without a decision that allows it; a denial and an absence look alike.
Start reading at :data:`medportal.access.decisions.TABLE`.
"""

from typing import Any


def includeme(config: Any) -> None:
    """Wire the denial tween and the views."""
    config.include("medportal.access.denials")
    config.include("medportal.access.navigation")
    config.include("medportal.access.banner")
    config.scan("medportal.access.views")
