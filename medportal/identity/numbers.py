"""Identifier numbers as people type them (PURE)."""

import unicodedata

from medportal.tenancy.tenant import IdentifierScheme


def normal_number(scheme: IdentifierScheme, typed: str) -> str | None:
    """Return the number in its one form, or ``None`` if it is not one of the scheme.

    Spaces, dots and hyphens that people type for legibility are left out, full-width digits
    become plain ones; leading zeros stay, they are part of the number.
    """
    text = unicodedata.normalize("NFKC", typed)
    kept = "".join(ch for ch in text if ch not in " .-\u00a0\t")
    if len(kept) == scheme.digits and kept.isascii() and kept.isdigit():
        return kept
    return None
