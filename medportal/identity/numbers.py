"""Identifier numbers as people type them."""

import unicodedata

from medportal.tenancy.schemes import normal_form
from medportal.tenancy.tenant import IdentifierScheme

_SEPARATORS = " .-/\t"
_LONGEST = 40


def normal_number(scheme: IdentifierScheme, typed: str) -> str | None:
    """Return the number in its one form, or ``None`` if it is not one of the scheme.

    Spaces, dots, hyphens and slashes that people type for legibility are left out, full-width
    digits become plain ones; leading zeros stay, they are part of the number. Where the scheme
    has check digits, they have to be right.
    """
    if len(typed) > _LONGEST:
        return None
    text = unicodedata.normalize("NFKC", typed)
    kept = "".join(ch for ch in text if ch not in _SEPARATORS)
    if not (kept.isascii() and kept.isalnum()):
        return None
    if scheme.standard:
        return normal_form(scheme.standard, kept)
    return kept if kept.isdigit() and len(kept) == scheme.digits else None
