"""Categories of clinical content and which of them are sensitive (PURE).

The category is part of the signed content. What is not mapped is sensitive.
"""

from enum import StrEnum


class Category(StrEnum):
    """What kind of content a record holds, coarse enough for a rule."""

    VITAL_SIGNS = "vital-signs"
    LABORATORY = "laboratory"
    CLINICAL_NOTE = "clinical-note"
    MENTAL_HEALTH = "mental-health"
    SEXUAL_HEALTH = "sexual-health"
    SUBSTANCE_USE = "substance-use"
    GENETICS = "genetics"


ORDINARY = frozenset({Category.VITAL_SIGNS, Category.LABORATORY, Category.CLINICAL_NOTE})


def is_sensitive(category: Category | str) -> bool:
    """Tell whether a category starts closed to all but the treating doctor."""
    return category not in ORDINARY
