"""What a browser says of itself, in words that its owner knows (PURE).

A hint for somebody who looks at a list of their own sessions, and no more: every browser can
say anything, and nothing is decided by it.
"""

#: What stands in the header, and what people call it; the first that is found counts, since
#: most browsers also name those that they descend from.
BROWSERS = (
    ("Edg/", "Edge"),
    ("EdgA/", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
)
SYSTEMS = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("CrOS", "ChromeOS"),
    ("Windows", "Windows"),
    ("Mac OS X", "Mac"),
    ("Linux", "Linux"),
)


def device(user_agent: str) -> tuple[str | None, str | None]:
    """Return browser and system of a ``User-Agent`` header, ``None`` for what it does not say."""
    return _first(BROWSERS, user_agent), _first(SYSTEMS, user_agent)


def _first(names: tuple[tuple[str, str], ...], text: str) -> str | None:
    return next((name for mark, name in names if mark in text), None)
