"""Errors of the identity room."""

from medportal.core.errors import MedportalError


class IdentityError(MedportalError):
    """Something about people and credentials that the caller has to tell."""


class WeakPassword(IdentityError):
    """A password that the policy refuses; ``code`` says why, for the form."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)


class ActivationRefused(IdentityError):
    """Unknown number, wrong code, expired code or used code: one answer for all."""


class WrongPassword(IdentityError):
    """The old password given for a change is not right."""


class Throttled(IdentityError):
    """Too many tries; ``seconds`` have to pass before the next."""

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds
        super().__init__("too many tries")
