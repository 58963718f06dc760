"""What can be wrong with clinical content, typed or received (PURE).

No message holds a value that somebody typed or that came over the network: only the
place where it stood, a code and the limits that it missed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as with_default

from medportal.core.errors import MedportalError


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that a person can mend.

    ``field`` is a field of the form or of the record ("effective", "glucose",
    "blood-pressure.systolic"), ``code`` a message code of the translation catalogue, and
    ``params`` what its sentence needs: limits, units, counts, never what was typed.
    """

    field: str
    code: str
    params: Mapping[str, str] = with_default(default_factory=dict)


class RecordsError(MedportalError):
    """The root of what this room raises."""


class InvalidContent(RecordsError):
    """Clinical content that must not be stored; carries every problem at once."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        super().__init__(", ".join(f"{problem.field}: {problem.code}" for problem in problems))


class CatalogueError(RecordsError):
    """The catalogue of observations contradicts itself; carries every problem at once."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


class UnknownObservation(RecordsError):
    """The catalogue has no observation of that code or key."""


class FhirError(RecordsError):
    """Bytes that are not a record as this application writes it."""


class ContentTooLarge(FhirError):
    """More bytes than a record may have."""


class ContentTooDeep(FhirError):
    """Nested so deeply that no record can be meant."""


class NotJson(FhirError):
    """Not UTF-8, or not JSON as RFC 8259 defines it."""


class DuplicateKey(FhirError):
    """An object names a member twice: readers would disagree about its meaning."""


class NotANumber(FhirError):
    """NaN, Infinity, or a number in a form that no record uses."""


class UnexpectedContent(FhirError):
    """JSON, but not the resource that is expected at ``path``.

    ``path`` is made of names that this application knows and of positions.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(f"unexpected content at {path}")


class NotCanonicalRecord(FhirError):
    """A record that reads well, but whose bytes are not its one encoding."""


class StatementError(RecordsError):
    """A sealed content or an author statement is malformed."""


class StatementMismatch(StatementError):
    """A well-formed author statement that speaks of something else; names the field."""

    def __init__(self, field: str) -> None:
        self.field = field
        super().__init__(f"the author's statement does not fit: {field}")


class RecordDamaged(RecordsError):
    """What is stored of a record does not open, or its signature does not fit.

    ``code`` says which check failed; nothing of the content is shown.
    """

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)


class NotForThisPatient(RecordsError):
    """An inbox item that is about another patient than it was accepted for."""


class AlreadyFiled(RecordsError):
    """The origin has given this record's id to other content before."""


class CorrectionUnfit(RecordsError):
    """A later version that does not continue the record that is held; names in what."""

    def __init__(self, field: str) -> None:
        self.field = field
        super().__init__(f"the version does not fit what is held: {field}")


class OriginalMissing(RecordsError):
    """A version of a record that is held, without those in between."""


class VersionChanged(RecordsError):
    """Somebody else has made another version since this one was read."""


class NotAmendable(RecordsError):
    """A record that gets no further version here; ``code`` says why."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)


class OtherDemographics(RecordsError):
    """An inbox item whose name or birth date are not those of the registered patient."""


class PartnerNotTrusted(RecordsError):
    """An inbox item of an institution that is no partner any more."""
