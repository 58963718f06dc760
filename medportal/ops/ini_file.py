"""Add an institution to an ini file, and leave every other line as it is.

The lines are found as people write them: ``medportal.tenants = a b`` and a list under ``listen =``
in ``[server:main]``. What is written in another way is not touched but told.
"""

import re

_TENANTS = re.compile(r"^(medportal\.tenants[ \t]*[=:])[ \t]*(.*?)[ \t]*$", re.MULTILINE)
_SERVER = re.compile(r"^\[server:main\][ \t]*$", re.MULTILINE)
_SECTION = re.compile(r"^\[", re.MULTILINE)
#: The key with its value: the rest of the line, and the lines after it that are indented.
_LISTEN = re.compile(r"^listen[ \t]*[=:].*(?:\n[ \t]+\S.*)*", re.MULTILINE)


class NoPlace(Exception):
    """There is no line, or more than one, to which something would be added."""


def with_tenant(text: str, name: str) -> str:
    """Return an ini file that names one institution more. Raises ``NoPlace``."""
    found = list(_TENANTS.finditer(text))
    if len(found) != 1:
        raise NoPlace("medportal.tenants")
    line = found[0]
    return f"{text[: line.start()]}{line[1]} {f'{line[2]} {name}'.strip()}{text[line.end() :]}"


def has_listeners(text: str) -> bool:
    """Tell whether a file starts a portal: whether it says where one listens."""
    return _listen(text) is not None


def with_listener(text: str, name: str, address: str) -> str:
    """Return an ini file whose portal listens at one address more. Raises ``NoPlace``."""
    found = _listen(text)
    if found is None:
        raise NoPlace("listen")
    _start, end = found
    return f"{text[:end]}\n    {name} = {address}{text[end:]}"


def _listen(text: str) -> tuple[int, int] | None:
    """Return where the list of listeners stands."""
    section = _SERVER.search(text)
    if section is None:
        return None
    following = _SECTION.search(text, section.end())
    end = following.start() if following else len(text)
    found = _LISTEN.search(text, section.end(), end)
    return (found.start(), found.end()) if found else None
