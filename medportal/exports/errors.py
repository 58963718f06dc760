"""What can be wrong with taking records along, and with a file that was taken along (PURE)."""

from medportal.core.errors import MedportalError


class ExportError(MedportalError):
    """The family of this room."""


class TooManyRecords(ExportError):
    """More records than one file takes; ``limit`` says how many it does."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(f"more than {limit} records")


class TooLargeForPaper(ExportError):
    """More versions or bytes than a paper takes, which is made in memory; FHIR takes them."""


class TooManyExports(ExportError):
    """Somebody took so many files of late that the next one has to wait."""


class UnreadableFile(ExportError):
    """A file that is no export, whatever it is; the message says what is wrong in words.

    Nothing of the file's content is in the message.
    """
