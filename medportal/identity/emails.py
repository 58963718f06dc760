"""Mail addresses as people type them.

One form is kept: what servers everywhere take (RFC 5321 without quoted names and without
addresses in brackets), the domain in ASCII and lower case. Look-alike letters in a domain
become visible that way ("xn--..."), and nothing that is kept can end a header line.
"""

import re
import unicodedata

LONGEST = 254
_LONGEST_LOCAL = 64
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LOCAL = re.compile(rf"{_ATOM}(?:\.{_ATOM})*", re.ASCII)
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
# Letters and joiners that the two standards for international names read differently: the
# mail might go to one domain here and to another elsewhere (RFC 5894, section 7.2).
_READ_DIFFERENTLY = frozenset("\u00df\u03c2\u200c\u200d")


def normal_email(typed: str) -> str | None:
    """Return an address in its one form, or ``None`` for what is none that we take."""
    text = typed.strip(" \t\u00a0")
    if len(text) > LONGEST or text.count("@") != 1 or not text.isprintable():
        return None
    local, typed_domain = text.split("@")
    domain = _ascii_domain(typed_domain)
    if domain is None or len(local) > _LONGEST_LOCAL or not _LOCAL.fullmatch(local):
        return None
    address = f"{local}@{domain}"
    return address if len(address) <= LONGEST else None


def same_address(one: str, other: str) -> bool:
    """Tell whether two addresses in normal form lead to one mailbox, as servers have it.

    The standard lets servers tell "Ana" and "ana" apart; nobody knows one that does.
    """
    return one.casefold() == other.casefold()


def _ascii_domain(typed: str) -> str | None:
    if _READ_DIFFERENTLY & set(typed):
        return None
    try:
        text = unicodedata.normalize("NFC", typed).encode("idna").decode("ascii").lower()
    except UnicodeError:
        return None
    labels = text.split(".")
    if len(labels) < 2 or not all(_LABEL.fullmatch(label) for label in labels):
        return None
    # An address of a machine is not a domain.
    return None if labels[-1].isdigit() else text
