"""Errors of the identity room."""

from medportal.core.errors import MedportalError
from medportal.core.reasons import Reason


class IdentityError(MedportalError):
    """Something about people and credentials that the caller has to tell."""


class WeakPassword(IdentityError):
    """A password that the policy refuses; ``code`` says why, for the form.

    ``minimum`` is the length in characters that was asked of it.
    """

    def __init__(self, code: str, minimum: int) -> None:
        self.code = code
        self.minimum = minimum
        super().__init__(code)


class ActivationRefused(IdentityError):
    """Unknown number, wrong, expired or used code or link: one answer for all."""


class LinkNeeded(IdentityError):
    """The code is right, and the mailed link is needed too."""

    def __init__(self, person_id: str) -> None:
        self.person_id = person_id
        super().__init__("link needed")


class CodeNotIssued(IdentityError):
    """The desk may not issue a code for this account alone; ``reason`` says why."""

    def __init__(self, reason: Reason) -> None:
        self.reason = reason
        super().__init__(str(reason))


class EmailChangeRefused(IdentityError):
    """A change of an address that is not taken up; ``reason`` says why."""

    def __init__(self, reason: Reason) -> None:
        self.reason = reason
        super().__init__(str(reason))


class WrongPassword(IdentityError):
    """The old password given for a change is not right."""


class Throttled(IdentityError):
    """Too many tries; ``seconds`` have to pass before the next."""

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds
        super().__init__("too many tries")


class CodeRefused(IdentityError):
    """A code of a second factor that does not count: wrong, used or too old.

    ``reason`` is for the audit log; whoever typed it hears one answer for all, but for
    ``TOO_MANY``: so many were wrong that only known browsers may still give one.
    """

    def __init__(self, reason: Reason) -> None:
        self.reason = reason
        super().__init__(str(reason))


class SetupReplaced(IdentityError):
    """The app that a page sets up is no longer the one that is being set up, or none is."""


class LastSecondFactor(IdentityError):
    """Without this second factor only a password would be left that is too short for that."""


class NotFresh(IdentityError):
    """A sensitive action by somebody who has not proved who they are of late.

    ``back`` is the page to come back to, where the view that asked knows better than the
    address of the request.
    """

    def __init__(self, back: str | None = None) -> None:
        self.back = back
        super().__init__("not confirmed lately")


class SessionOver(IdentityError):
    """A session that was ended, or no longer proves enough, while its request was under way."""


class TooManyCodes(IdentityError):
    """Recovery codes were made so often of late that the next ones have to wait."""


class MalformedAnswer(IdentityError):
    """What came in place of a passkey's answer is none that a browser makes."""


class PasskeyRefused(IdentityError):
    """A passkey's answer does not prove what it has to; ``reason`` is for the audit log.

    ``person_id`` and ``passkey_id`` say whose it seems to be, as far as that is known.
    """

    def __init__(
        self, reason: Reason, person_id: str | None = None, passkey_id: str | None = None
    ) -> None:
        self.reason = reason
        self.person_id = person_id
        self.passkey_id = passkey_id
        super().__init__(str(reason))


class TooManyPasskeys(IdentityError):
    """The account has as many passkeys as one may have."""


class AccountRefused(IdentityError):
    """Something that must not be done to this account; ``reason`` says why.

    ``NOTHING_NEW`` is for what is so already, because somebody was faster.
    """

    def __init__(self, reason: Reason) -> None:
        self.reason = reason
        super().__init__(str(reason))


class NotTheSamePerson(IdentityError):
    """The number is that of somebody with another name or date of birth."""
