"""The head of an institution's log that is remembered outside its database."""

from pathlib import Path

from medportal.audit.heads import Head, SignedHead
from medportal.pki.files import PRIVATE, write_file
from medportal.settings import Settings
from medportal.tenancy.tenant import Tenant


class PinnedHead:
    """The last head signed, remembered outside the database.

    Whoever rewrites the database, and its own last head with it, gets no new signature: the
    log has to continue this head. It is written after the commit, so it may be one behind.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Head | None:
        """Return the head, ``None`` before the first. Raises ``MalformedHead``."""
        try:
            return SignedHead.from_bytes(self._path.read_bytes()).head
        except FileNotFoundError:
            return None

    def write(self, signed: SignedHead) -> None:
        """Remember a head."""
        write_file(self._path, signed.to_bytes(), PRIVATE)


def pinned_head(settings: Settings, tenant: Tenant) -> PinnedHead:
    """Return where an institution remembers its last head."""
    return PinnedHead(settings.home(tenant.id) / "audit" / "last.head")
