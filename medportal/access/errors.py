"""Errors of the access room."""

from medportal.core.errors import MedportalError


class AccessError(MedportalError):
    """Something about who may do what."""


class NotPermitted(AccessError):
    """A grant was asked for that the decision does not allow."""


class AssignmentRefused(AccessError):
    """A care assignment that makes no sense; ``code`` says why, for the form."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)
