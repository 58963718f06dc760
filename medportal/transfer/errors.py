"""What can go wrong between two institutions (PURE).

Every error carries a :class:`Code`; the code is what travels in an ERROR message and what logs
and the audit hold. It never holds what the peer sent.
"""

from enum import StrEnum

from medportal.core.errors import MedportalError


class Code(StrEnum):
    """Why a connection was given up, in one word for both sides."""

    FRAME_TOO_LONG = "frame-too-long"
    TRUNCATED = "truncated"
    MALFORMED = "malformed"
    UNKNOWN_MESSAGE = "unknown-message"
    UNKNOWN_CRITICAL = "unknown-critical-field"
    UNEXPECTED = "unexpected-message"
    VERSION = "unsupported-version"
    NO_COMMON_SUITE = "no-common-suite"
    SUITE = "suite-not-offered"
    GROUP = "key-exchange-group"
    TLS = "tls"
    UNKNOWN_PARTNER = "unknown-partner"
    REVOKED_PARTNER = "revoked-partner"
    CERTIFICATE = "certificate"
    INSTITUTION = "institution-mismatch"
    ADDRESSEE = "not-addressed-to-us"
    SIGNATURE = "signature"
    ALGORITHM = "signature-algorithm"
    TID_IN_USE = "tid-in-use"
    WINDOW = "window-exceeded"
    OFFER = "offer-signature"
    OFFER_KEY = "offer-key"
    SEALED = "sealed-content"
    DELIVERY = "delivery-signature"
    RECEIPT = "receipt"
    TIMEOUT = "timeout"
    TOO_MANY = "too-many-connections"
    STOPPING = "stopping"
    INTERNAL = "internal"


class TransferError(MedportalError):
    """A connection or a record that cannot go on, and the code that says why."""

    def __init__(self, code: Code, what: str = "") -> None:
        self.code = code
        super().__init__(f"{code}: {what}" if what else str(code))


class FrameError(TransferError):
    """Bytes that are no frame: too long, or cut off."""


class MessageError(TransferError):
    """A frame whose content is not a message of CRX/1."""


class ProtocolError(TransferError):
    """A message that has no place here or now, or whose proof does not hold."""

    def __init__(self, code: Code, what: str = "", tid: str | None = None) -> None:
        self.tid = tid
        super().__init__(code, what)


class Untrusted(TransferError):
    """A certificate, signature or statement that does not verify under the partner's CA."""


class ChannelError(TransferError):
    """TLS was not what CRX/1 demands, or broke."""


class ReceiverBusy(TransferError):
    """The receiver's storage cannot take records now (a full disk, a lock); nothing was kept."""


class FromFuture(ReceiverBusy):
    """By the clock here the author's certificate or list is of the future: not now, not never.

    Whoever was in order when the connection was made is so by a clock that went back since.
    """

    def __init__(self, what: str) -> None:
        super().__init__(Code.CERTIFICATE, what)
