"""What a clinical record says, as frozen values without any encoding (PURE).

A record of kind ``clinical`` is made by a laboratory, one of kind ``medical`` by a
hospital: the original's two kinds of record, kept under its own words.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from typing import Protocol

from medportal.core.categories import Category
from medportal.core.ids import is_id
from medportal.records.errors import InvalidContent, Problem

MAX_TEXT = 8_000
MAX_REASON = 500
MAX_NAME = 200
MAX_NUMBER = 64
MAX_LABEL = 40
MAX_OBSERVATIONS = 300
# Nine digits, which every address and every database takes.
MAX_VERSION = 999_999_999
MAX_DIGITS = 12
EARLIEST = date(1870, 1, 1)
# A date has no zone: somewhere on Earth it may already be tomorrow.
AHEAD_OF_UTC = timedelta(hours=14)
# Clocks of well-kept machines differ by less than this.
CLOCK_SKEW = timedelta(minutes=5)
# A category of ICD-10 and, after the point, one or two more digits: A00, I10, Z99.9, M16.10.
DIAGNOSIS_CODE = re.compile(r"[A-Z][0-9]{2}(?:\.[0-9]{1,2})?")
_LOINC = re.compile(r"[0-9]{1,7}-[0-9]")
# These reorder the text around them, so that what is read is not what was signed.
BIDI_CONTROLS = frozenset(
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)


class RecordKind(StrEnum):
    """Who makes such records: a laboratory (clinical) or a hospital (medical)."""

    CLINICAL = "clinical"
    MEDICAL = "medical"


class RecordStatus(StrEnum):
    """Where a version stands in the life of its record; FHIR's own words.

    ``CORRECTED`` mends what was wrong, ``AMENDED`` adds to what was right, and
    ``ENTERED_IN_ERROR`` takes back a record that should never have been.
    """

    FINAL = "final"
    AMENDED = "amended"
    CORRECTED = "corrected"
    ENTERED_IN_ERROR = "entered-in-error"


class Sex(StrEnum):
    """Administrative gender in FHIR's words, used to choose a reference range."""

    FEMALE = "female"
    MALE = "male"
    OTHER = "other"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Quantity:
    """A measured value with its UCUM unit; the decimal keeps its trailing zeros."""

    value: Decimal
    unit: str


@dataclass(frozen=True, slots=True)
class Coded:
    """A value chosen from a short list, such as the blood type ``A+``."""

    code: str


@dataclass(frozen=True, slots=True)
class BloodPressure:
    """Systolic and diastolic arterial pressure, both in mm[Hg]."""

    systolic: Decimal
    diastolic: Decimal


Value = Quantity | Coded | BloodPressure


@dataclass(frozen=True, slots=True)
class Observation:
    """One observation: the LOINC code of what was observed, and its value."""

    code: str
    value: Value


@dataclass(frozen=True, slots=True)
class Subject:
    """The person a record is about, as the institution that made it knew them.

    ``identifier_scheme`` names the scheme of ``number`` (see the tenant's identifier
    schemes); ``name`` is the whole name as the person writes it.
    """

    identifier_scheme: str
    number: str
    name: str
    birth_date: date
    sex: Sex


@dataclass(frozen=True, slots=True)
class ClinicalRecord:
    """One version of one record; everything in it is signed by its author.

    ``effective`` is when the observations were true of the patient: a date, or an
    aware instant in UTC. ``institution`` is the id of the institution that made the record
    (not its name, which may change), and ``author_id`` the internal id of the author
    there. ``replaces`` is the SHA-256 digest, in hexadecimal, of the content of
    the version before, and stands in every version but the first. ``change_reason`` says why
    there is another version, in the words of who made it; a first version has none.
    ``diagnosis_code`` is the ICD-10 code of ``diagnosis`` where somebody gave one.
    """

    id: str
    version: int
    kind: RecordKind
    category: Category
    status: RecordStatus
    effective: date | datetime
    author_id: str
    author_name: str
    institution: str
    observations: tuple[Observation, ...] = ()
    diagnosis: str | None = None
    notes: str | None = None
    replaces: str | None = None
    change_reason: str | None = None
    diagnosis_code: str | None = None

    def observation(self, code: str) -> Observation | None:
        """Return the observation of that LOINC code, if the record has one."""
        return next((one for one in self.observations if one.code == code), None)


class ValueRules(Protocol):
    """What judges single values; the catalogue does (a port only to point downward)."""

    def problems(self, observation: Observation) -> tuple[Problem, ...]:
        """Return what makes this observation impossible to store."""

    def sensitive(self, observation: Observation) -> Category | None:
        """Return the sensitive category that a record with this has to have, if any."""


def effective_date(record: ClinicalRecord) -> date:
    """Return the day of ``record.effective``; of an instant, the day in UTC."""
    effective = record.effective
    return effective.date() if isinstance(effective, datetime) else effective


def age_on(birth_date: date, day: date) -> int:
    """Return the age in completed years on ``day``; negative before birth."""
    before_birthday = (day.month, day.day) < (birth_date.month, birth_date.day)
    return day.year - birth_date.year - before_birthday


def validate(
    record: ClinicalRecord,
    catalogue: ValueRules,
    *,
    now: datetime,
    subject: Subject | None = None,
) -> ClinicalRecord:
    """Return ``record`` if it may be signed and stored.

    Checks form (:func:`check_form`), the reason of a later version, the time line and every
    value against the catalogue. Raises ``InvalidContent`` with all problems.
    """
    problems = [*check_form(record), *_time_problems(record, now, subject)]
    # Not part of the form: versions were made before reasons were, and stay readable.
    if record.version > 1 and record.change_reason is None:
        problems.append(Problem("change_reason", "required"))
    for observation in record.observations:
        problems.extend(catalogue.problems(observation))
        # Whoever makes a record cannot, by a slip or on purpose, show it to more people.
        if catalogue.sensitive(observation) not in (None, record.category):
            problems.append(Problem("category", "not-sensitive-enough"))
    if subject is not None:
        problems.extend(check_subject(subject))
    if problems:
        raise InvalidContent(tuple(problems))
    return record


def check_form(record: ClinicalRecord) -> tuple[Problem, ...]:
    """Return what is wrong with a record whatever the catalogue says.

    This holds for received records too, whose catalogue may be newer than ours, and for what is
    kept.
    """
    return tuple(_form_problems(record))


def check_arrival(record: ClinicalRecord, *, now: datetime) -> tuple[Problem, ...]:
    """Return what is wrong with a record that a partner sent, whatever the catalogue says.

    Its time counts: a day far ahead would stand above all others, and keep the patient's records
    from being erased. What is kept already is not asked (:func:`check_form`), and stays readable.
    """
    return (*check_form(record), *_time_problems(record, now, None))


def check_subject(subject: Subject) -> tuple[Problem, ...]:
    """Return what is wrong with a subject: empty, overlong or unprintable parts."""
    return tuple(_subject_problems(subject))


def text_problem(text: str, limit: int, *, lines: bool = False) -> str | None:
    """Return the code of what is wrong with a text, or ``None``.

    ``lines`` allows line feeds and tabs. Refused are control characters, lone surrogates,
    unassigned and private characters and those that reorder the text around them.
    """
    if not text.strip():
        return "required"
    if text != text.strip():
        return "space-around"
    if len(text) > limit:
        return "too-long"
    if text.isprintable():
        # Nothing of category C, whatever is refused below among it; nearly every text is such.
        return None
    allowed = "\n\t" if lines else ""
    return next(("unprintable" for c in text if c not in allowed and not _printable(c)), None)


def _printable(character: str) -> bool:
    refused = {"Cc", "Cs", "Co", "Cn"}
    return unicodedata.category(character) not in refused and character not in BIDI_CONTROLS


def _form_problems(record: ClinicalRecord) -> Iterator[Problem]:
    for field in ("id", "author_id"):
        if not is_id(getattr(record, field)):
            yield Problem(field, "malformed")
    yield from _text_problems("author_name", record.author_name, MAX_NAME)
    yield from _text_problems("institution", record.institution, MAX_NAME)
    yield from _optional_text_problems(record)
    yield from _version_problems(record)
    yield from _observation_problems(record)
    if isinstance(record.effective, datetime) and record.effective.utcoffset() != timedelta(0):
        yield Problem("effective", "not-utc")


def _text_problems(field: str, text: str, limit: int, *, lines: bool = False) -> Iterator[Problem]:
    code = text_problem(text, limit, lines=lines)
    if code is not None:
        yield Problem(field, code, {"limit": str(limit)} if code == "too-long" else {})


def _optional_text_problems(record: ClinicalRecord) -> Iterator[Problem]:
    for field in ("diagnosis", "notes"):
        text = getattr(record, field)
        if text is not None:
            yield from _text_problems(field, text, MAX_TEXT, lines=True)
    if record.change_reason is not None:
        yield from _text_problems("change_reason", record.change_reason, MAX_REASON, lines=True)
    if record.diagnosis_code is not None:
        if not is_diagnosis_code(record.diagnosis_code):
            yield Problem("diagnosis_code", "not-a-diagnosis-code")
        if record.diagnosis is None:
            yield Problem("diagnosis", "required-with-code")


def _version_problems(record: ClinicalRecord) -> Iterator[Problem]:
    if not 1 <= record.version <= MAX_VERSION:
        yield Problem("version", "malformed")
    first = record.version == 1
    if first != (record.replaces is None) or first != (record.status is RecordStatus.FINAL):
        yield Problem("replaces", "not-a-successor")
    if first and record.change_reason is not None:
        yield Problem("change_reason", "not-a-successor")
    if record.replaces is not None and not _is_digest(record.replaces):
        yield Problem("replaces", "malformed")


def is_diagnosis_code(text: str) -> bool:
    """Tell whether a text has the shape of an ICD-10 code; not whether there is such a code."""
    return DIAGNOSIS_CODE.fullmatch(text) is not None


def is_loinc(code: object) -> bool:
    """Tell whether ``code`` has the shape of a LOINC code with the right check digit.

    The check digit is Mod 10 (Luhn), as the LOINC Users' Guide describes it.
    """
    return isinstance(code, str) and _LOINC.fullmatch(code) is not None and _is_checked(code)


# The same few codes stand in all records, and none of them says of whom.
@lru_cache(maxsize=1024)
def _is_checked(code: str) -> bool:
    number, check = code[:-2], code[-1]
    doubled = "".join(
        str(int(digit) * (2 if place % 2 == 0 else 1)) for place, digit in enumerate(number[::-1])
    )
    return int(check) == -sum(map(int, doubled)) % 10


def _is_digest(text: str) -> bool:
    return len(text) == 64 and all(c in "0123456789abcdef" for c in text)


def _is_well_formed(one: Observation) -> bool:
    """Tell whether an observation can be written down at all, whatever it means."""
    labels = [one.value.unit] if isinstance(one.value, Quantity) else []
    if isinstance(one.value, Coded):
        labels = [one.value.code]
    short = all(text_problem(label, MAX_LABEL) is None for label in labels)
    return is_loinc(one.code) and short and all(map(_is_plain, numbers(one.value)))


def _observation_problems(record: ClinicalRecord) -> Iterator[Problem]:
    observations = record.observations
    texts = record.diagnosis, record.notes
    retracted = record.status is RecordStatus.ENTERED_IN_ERROR
    if not observations and texts == (None, None) and not retracted:
        yield Problem("observations", "empty-record")
    if len(observations) > MAX_OBSERVATIONS:
        yield Problem("observations", "too-many", {"limit": str(MAX_OBSERVATIONS)})
    if len({one.code for one in observations}) != len(observations):
        yield Problem("observations", "twice")
    for position, one in enumerate(observations):
        if not _is_well_formed(one):
            yield Problem(f"observations.{position}", "malformed")


def numbers(value: Value) -> tuple[Decimal, ...]:
    """Return the numbers in a value: one, two for a blood pressure, none for a code."""
    match value:
        case Quantity():
            return (value.value,)
        case BloodPressure():
            return (value.systolic, value.diastolic)
    return ()


def _is_plain(number: Decimal) -> bool:
    """Tell whether a decimal is finite, short, and written without exponent or minus zero."""
    sign, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int) or not -MAX_DIGITS <= exponent <= 0:
        return False
    return len(digits) <= MAX_DIGITS and not (sign and number == 0)


def _time_problems(
    record: ClinicalRecord, now: datetime, subject: Subject | None
) -> Iterator[Problem]:
    effective = record.effective
    if isinstance(effective, datetime):
        in_future = effective.tzinfo is not None and effective > now + CLOCK_SKEW
    else:
        in_future = effective > (now.astimezone(UTC) + AHEAD_OF_UTC).date()
    if in_future:
        yield Problem("effective", "in-the-future")
    if effective_date(record) < EARLIEST:
        yield Problem("effective", "too-early", {"earliest": EARLIEST.isoformat()})
    # A day of slack: the place of birth may have been a day ahead of UTC.
    elif subject is not None and (subject.birth_date - effective_date(record)).days > 1:
        yield Problem("effective", "before-birth")


def _subject_problems(subject: Subject) -> Iterator[Problem]:
    yield from _text_problems("identifier_scheme", subject.identifier_scheme, MAX_NUMBER)
    yield from _text_problems("number", subject.number, MAX_NUMBER)
    yield from _text_problems("name", subject.name, MAX_NAME)
    if subject.birth_date < EARLIEST:
        yield Problem("birth_date", "too-early", {"earliest": EARLIEST.isoformat()})
