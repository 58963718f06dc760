"""Paths inside this portal (PURE)."""

import re

HOME = "/"
LONGEST = 500
# One leading slash and no second one or backslash, which browsers read as another host.
_INSIDE = re.compile(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]*")


def safe_path(candidate: object, otherwise: str = HOME) -> str:
    """Return ``candidate`` if it is a path inside this portal, else ``otherwise``.

    Used for every "where to go next" that came from a browser, so that a link cannot send
    somebody from our sign-in to a stranger's page.
    """
    if not isinstance(candidate, str) or len(candidate) > LONGEST:
        return otherwise
    return candidate if _INSIDE.fullmatch(candidate) else otherwise
