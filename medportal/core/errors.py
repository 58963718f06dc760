"""The root of every error that medportal raises on purpose (PURE).

Each room derives a small family from it; views turn families into HTTP
answers, and nothing below the views knows HTTP.
"""


class MedportalError(Exception):
    """Something went wrong that medportal expects and can name.

    The message is for operators and logs: it never holds personal data,
    key material or a value that somebody typed.
    """


class ConfigurationError(MedportalError):
    """Settings, tenant files or key files are missing, malformed or unfit."""

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))
