"""Errors of the results room."""

from medportal.core.errors import MedportalError


class ResultsError(MedportalError):
    """Something about results, or about those that were held back."""


class HeldRefused(ResultsError):
    """A decision about a held result that cannot be taken; ``code`` says why, for the page."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)
