"""Mail addresses as they are written into an envelope (PURE).

Forms check what people type. This is the last look before a server is told: whatever stands in
the database, no address ends a line, adds a header or a second recipient.
"""

import re
import unicodedata
from dataclasses import dataclass, field

from medportal.mail.errors import Problem, Unsendable

#: In octets (RFC 5321, 4.5.3.1).
LONGEST, LONGEST_LOCAL = 254, 64
_LOCAL = re.compile(r'[^\s@<>()\[\],;:\\"]{1,64}')
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Mailbox:
    """An address: what stands before the @, and a domain in ASCII (A-labels, RFC 5890)."""

    local: str = field(repr=False)
    domain: str = field(repr=False)

    @property
    def address(self) -> str:
        """Return the whole address."""
        return f"{self.local}@{self.domain}"

    @property
    def needs_utf8(self) -> bool:
        """Tell whether only a server with SMTPUTF8 (RFC 6531) can take it."""
        return not self.local.isascii()


def mailbox(text: str) -> Mailbox:
    """Return the mailbox of an address. Raises ``Unsendable``.

    Stricter than RFC 5321: no quoted local parts, no comments, no address literals.
    """
    if len(text) > LONGEST:
        raise Unsendable(Problem.ADDRESS_MALFORMED)
    local, _at, domain = text.rpartition("@")
    local = unicodedata.normalize("NFC", local)
    if not _is_local(local):
        raise Unsendable(Problem.ADDRESS_MALFORMED)
    found = Mailbox(local, _ascii_domain(domain))
    if len(found.address.encode("utf-8")) > LONGEST:
        raise Unsendable(Problem.ADDRESS_MALFORMED)
    return found


def _is_local(local: str) -> bool:
    dots = local.startswith(".") or local.endswith(".") or ".." in local
    # Control, format and surrogate characters have no shape; nobody could tell them from none.
    shapeless = any(unicodedata.category(sign).startswith(("C", "Z")) for sign in local)
    # What looks like an encoded word would be decoded when it is put into a header.
    if _LOCAL.fullmatch(local) is None or dots or shapeless or "=?" in local:
        return False
    return len(local.encode("utf-8")) <= LONGEST_LOCAL


def _ascii_domain(domain: str) -> str:
    try:
        ascii_form = domain.encode("idna").decode("ascii").lower()
    except UnicodeError:
        raise Unsendable(Problem.ADDRESS_MALFORMED) from None
    labels = ascii_form.split(".")
    if len(labels) < 2 or not all(_LABEL.fullmatch(label) for label in labels):
        raise Unsendable(Problem.ADDRESS_MALFORMED)
    return ascii_form
