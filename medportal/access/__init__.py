"""Who may see what, and why: the decision, and what it is made from and leads to.

Holds: the decision table (:mod:`decisions`, PURE) with its conditions and the precedence of
patients' rules (:mod:`rules`); the loading of facts, traversal contexts, grants, denials; care
(:mod:`care`, :mod:`wards`, :mod:`stays`, :mod:`representatives`); patients' rules
(:mod:`patient_rules`, :mod:`preview`); emergency access (:mod:`glass`) and its reviews; the access
log (:mod:`log`, :mod:`lines`, :mod:`explanations`) and complaints.
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
