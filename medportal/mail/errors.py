"""What can go wrong with a mail, as codes (PURE).

A server's own words never get into an exception of this room: they may repeat the address.
"""

from enum import StrEnum

from medportal.core.errors import MedportalError


class Problem(StrEnum):
    """What went wrong last, as kept with the mail and shown to operators."""

    # The server cannot be used, whatever the mail.
    CANNOT_CONNECT = "cannot-connect"
    CONNECTION_LOST = "connection-lost"
    TIMED_OUT = "timed-out"
    CERTIFICATE_NOT_VALID = "certificate-not-valid"
    TLS_NOT_OFFERED = "tls-not-offered"
    TLS_FAILED = "tls-failed"
    SIGN_IN_NOT_OFFERED = "sign-in-not-offered"
    SIGN_IN_REFUSED = "sign-in-refused"
    SERVER_REFUSES = "server-refuses"
    SENDER_REFUSED = "sender-refused"
    # Files of ours.
    PASSWORD_FILE = "password-file"  # noqa: S105  (a name)
    AUTHORITY_FILE = "authority-file"
    # The server answered about this one mail.
    RECIPIENT_REFUSED = "recipient-refused"
    RECIPIENT_DEFERRED = "recipient-deferred"
    CONTENT_REFUSED = "content-refused"
    CONTENT_DEFERRED = "content-deferred"
    # Nobody was asked.
    ADDRESS_MALFORMED = "address-malformed"
    ADDRESS_UNSUPPORTED = "address-unsupported"
    TOO_OLD = "too-old"
    #: Its words and its parameters do not fit: a fault of ours.
    NOT_COMPOSED = "not-composed"
    NO_SERVER = "no-server"


class MailError(MedportalError):
    """A mail could not be sent."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(problem)


class ServerFault(MailError):
    """The server cannot be used now; this says nothing about any mail, and none was accepted."""


class Interrupted(MailError):
    """The conversation broke off while a mail was being handed over.

    Whether it was accepted is not known, if it broke off at the very end.
    """


class Refused(MailError):
    """The server answered that it does not take this mail: ``final``, or not now."""

    def __init__(self, problem: Problem, *, final: bool) -> None:
        self.final = final
        super().__init__(problem)


class Unsendable(MailError):
    """The mail cannot be put into a form that this server takes."""


class LostClaim(MedportalError):
    """The mail is no longer this sender's: it took longer than its lease."""
