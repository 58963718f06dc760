"""Whether what a permission rests on lasts.

Emergency access ends after hours, a rule when the patient says so, and having written a record is
no reason to dispose of it. Whoever is to move a record, or to read what was taken back, looks
after the patient now, or has a role over everybody.
"""

from collections.abc import Iterable

from medportal.core.reasons import Reason

STANDING = frozenset({Reason.ROLE_ANY, Reason.ASSIGNED_CARE, Reason.TREATING, Reason.WARD_TEAM})


def is_standing(reasons: Iterable[Reason]) -> bool:
    """Tell whether one of the reasons of an answer lasts by itself."""
    return not STANDING.isdisjoint(reasons)
