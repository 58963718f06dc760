"""The head of an institution's log that is remembered outside its database."""

from datetime import datetime
from pathlib import Path

from sqlalchemy.orm import Session

from medportal.audit.errors import LogDamaged
from medportal.audit.heads import Head, HeadSigner, SignedHead
from medportal.audit.merkle import EMPTY_ROOT
from medportal.audit.store import has_heads
from medportal.pki.files import PRIVATE, write_file
from medportal.settings import Settings
from medportal.tenancy.tenant import Tenant


class PinMissing(LogDamaged):
    """The log has heads, and the file beside the database that remembers the last is gone."""


class PinnedHead:
    """The last head signed, remembered outside the database.

    Whoever rewrites the database, and its own last head with it, gets no new signature: the
    log has to continue this head. It is written after the commit, so it may be one behind.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Head | None:
        """Return the head, ``None`` if there is no file. Raises ``MalformedHead``."""
        signed = self.signed()
        return signed.head if signed else None

    def signed(self) -> SignedHead | None:
        """Return the signed head, ``None`` if there is no file. Raises ``MalformedHead``."""
        try:
            return SignedHead.from_bytes(self._path.read_bytes())
        except FileNotFoundError:
            return None

    def require(self, session: Session) -> SignedHead | None:
        """Return the head, ``None`` if the log has no heads either.

        Raises ``PinMissing`` if it has: without the file a log that was rewritten or cut would be
        signed as if it had always been so. Raises ``MalformedHead``.
        """
        signed = self.signed()
        if signed is None and has_heads(session):
            raise PinMissing(
                "the log has signed heads, but the file audit/last.head that remembers the last one"
                " is gone: see that the log is whole with heads that partners hold"
                " (audit verify --head), then run: medportal audit pin"
            )
        return signed

    def begin(self, session: Session, signer: HeadSigner, now: datetime) -> Head:
        """Return the head, as :meth:`require`; remember that of the empty log before the first.

        So a process that dies after the first commit leaves a file that the log continues.
        """
        signed = self.require(session)
        if signed is None:
            signed = signer.sign(Head(signer.tenant, 0, EMPTY_ROOT, now))
            self.write(signed)
        return signed.head

    def write(self, signed: SignedHead) -> None:
        """Remember a head."""
        write_file(self._path, signed.to_bytes(), PRIVATE)


def pinned_head(settings: Settings, tenant: Tenant) -> PinnedHead:
    """Return where an institution remembers its last head."""
    return PinnedHead(settings.home(tenant.id) / "audit" / "last.head")
