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


class TeamRefused(AccessError):
    """Somebody cannot be put into the team of a ward; ``code`` says why, for the form."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)


class GlassRefused(AccessError):
    """The glass is not broken; ``code`` says why, for the form."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)


class ReviewRefused(AccessError):
    """A review that somebody may not close, or not any more; ``code`` says why, for the form."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)


class RuleRefused(AccessError):
    """A patient's rule that cannot be made or ended; ``code`` says why, for the form."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)


class ComplaintRefused(AccessError):
    """A complaint, or an answer to one, that cannot be taken; ``code`` says why."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)


class RepresentativeRefused(AccessError):
    """Somebody cannot stand for a patient; ``code`` says why, for the form."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)
