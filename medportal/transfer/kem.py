"""One-use keys for records: HPKE with ML-KEM-768 and X25519 (PURE).

Base mode without associated data (RFC 9180); the context goes into ``info``. A fresh key
pair per record gives each record its own symmetric key, and forgetting the private half gives
secrecy of recorded traffic against later theft of every long-term key.
"""

from medportal.transfer.errors import Code, ProtocolError
from medportal.vault import sealing
from medportal.vault.errors import VaultError


class OneUseKey:
    """The private half of an offer. It lives in memory only and opens one record."""

    __slots__ = ("_private", "public")

    def __init__(self) -> None:
        """Make a key from the operating system's randomness; its bytes are never taken out.

        ``public`` are the 1,216 bytes that go into the offer.
        """
        self._private, self.public = sealing.make_pair()

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """Return what was sealed to this key. Raises ``ProtocolError`` if anything differs."""
        try:
            return sealing.open_by(self._private, sealed, info)
        except VaultError as error:
            raise ProtocolError(Code.SEALED) from error


def seal(public: bytes, plaintext: bytes, info: bytes) -> bytes:
    """Seal ``plaintext`` to an offer's public key.

    Raises ``ProtocolError`` for bytes that are no public key.
    """
    try:
        return sealing.seal_to(sealing.BoxPublicKey.from_bytes(public), plaintext, info)
    except VaultError as error:
        raise ProtocolError(Code.OFFER_KEY) from error
