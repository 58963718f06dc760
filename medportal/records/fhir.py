"""The exact bytes of a record: a FHIR R4 Bundle with one encoding (PURE).

These bytes are signed, sealed, sent and handed to the patient as they are; nothing ever
writes a record again to "the same" bytes, except to check that they are the one encoding.
The Bundle (type ``collection``) holds DiagnosticReport, Patient, Practitioner,
Organization, a Condition if there is a diagnosis, and one Observation for each value.
"""

from dataclasses import dataclass, replace
from decimal import Decimal

from medportal.records import exact_json
from medportal.records.catalogue import Catalogue, Definition
from medportal.records.content import (
    ClinicalRecord,
    Coded,
    Observation,
    Quantity,
    Subject,
    age_on,
    check_form,
    check_subject,
    effective_date,
    numbers,
)
from medportal.records.errors import (
    ContentTooLarge,
    FhirError,
    InvalidContent,
    NotCanonicalRecord,
    Problem,
    UnexpectedContent,
)
from medportal.records.fhir_read import read_bundle, read_quickly
from medportal.records.fhir_write import OBSERVATION_CATEGORIES, Shown, bundle
from medportal.records.interpret import (
    Interpretation,
    Urgency,
    interpret,
    interpret_answer,
    reference_range,
    urgency_of,
)

MAX_BYTES = 512 * 1024


@dataclass(frozen=True, slots=True)
class Reading:
    """A record as it was read: what it says, of whom, and what its author was shown.

    ``shown`` has one entry for each of ``record.observations``.
    """

    record: ClinicalRecord
    subject: Subject
    shown: tuple[Shown, ...]

    def interpretations(self) -> tuple[Interpretation, ...]:
        """Return how each number and answer lay when it was signed, parts one by one."""
        parts = (part for one in self.shown for part in (one.components or (one,)))
        return tuple(part.interpretation for part in parts)

    def urgency(self) -> Urgency:
        """Return how soon somebody should look at the record, as its author's catalogue has it."""
        return urgency_of(self.interpretations())


def to_fhir(record: ClinicalRecord, subject: Subject, catalogue: Catalogue) -> bytes:
    """Return the bytes of a record that ``content.validate`` has passed.

    The names, ranges and interpretations of the catalogue are written with the values.
    Raises ``InvalidContent`` for a record that could not be read back or that holds a
    value which the catalogue refuses.
    """
    values = (problem for one in record.observations for problem in catalogue.problems(one))
    problems = (*_problems(record, subject), *values)
    if problems:
        raise InvalidContent(problems)
    shown = tuple(_shown(record, subject, one, catalogue) for one in record.observations)
    return bundle(record, subject, shown).encode()


def from_fhir(content: bytes) -> tuple[ClinicalRecord, Subject]:
    """Return the record that ``content`` encodes, and its subject; see :func:`read`."""
    reading = read(content)
    return reading.record, reading.subject


def read(content: bytes) -> Reading:
    """Return everything that ``content`` says; no catalogue is needed for it.

    Raises a ``FhirError``: ``ContentTooLarge``, ``NotJson``, ``DuplicateKey``,
    ``NotANumber``, ``ContentTooDeep``, ``UnexpectedContent`` with the place, or
    ``NotCanonicalRecord`` if the record, written again, has other bytes: an unknown
    member, another order, a number written differently.
    """
    if len(content) > MAX_BYTES:
        raise ContentTooLarge(f"more than {MAX_BYTES} bytes")
    # Whatever is found amiss in haste is looked at again with care, and called by its name.
    return _read_quickly(content) or _read(content)


def _read_quickly(content: bytes) -> Reading | None:
    """Return a reading if ``content`` is the one encoding of a record; else ``None``.

    It may be read loosely, because what is read is written again: what has the same bytes is well
    formed and says nothing else.
    """
    try:
        found = read_quickly(exact_json.decode_to_compare(content))
    except FhirError:
        return None
    if found is None or _problems(*found[:2]) or bundle(*found).encode() != content:
        return None
    return Reading(*found)


def _read(content: bytes) -> Reading:
    record, subject, shown = read_bundle(exact_json.decode(content))
    problems = _problems(record, subject)
    if problems:
        raise UnexpectedContent(problems[0].field)
    if bundle(record, subject, shown).encode() != content:
        raise NotCanonicalRecord("not the one encoding of this record")
    return Reading(record, subject, shown)


def _problems(record: ClinicalRecord, subject: Subject) -> tuple[Problem, ...]:
    return (*check_form(record), *check_subject(subject))


def _shown(
    record: ClinicalRecord, subject: Subject, one: Observation, catalogue: Catalogue
) -> Shown:
    definition = catalogue.by_code(one.code)
    age = age_on(subject.birth_date, effective_date(record))
    if isinstance(one.value, Quantity):
        return _beside(definition, one.value.value, subject, age)
    if isinstance(one.value, Coded):
        meaning = interpret_answer(definition, one.value.code)
        return replace(_plain(definition, ()), interpretation=meaning)
    parts = zip(catalogue.components(definition), numbers(one.value), strict=True)
    # FHIR has a category for the whole observation only.
    components = [replace(_beside(*part, subject, age), category="") for part in parts]
    return _plain(definition, tuple(components))


def _plain(definition: Definition, components: tuple[Shown, ...]) -> Shown:
    return Shown(
        name=definition.name("en"),
        also=definition.also,
        category=OBSERVATION_CATEGORIES[definition.category],
        unit_text="",
        low=None,
        high=None,
        interpretation=Interpretation.UNKNOWN,
        components=components,
    )


def _beside(definition: Definition, value: Decimal, subject: Subject, age: int) -> Shown:
    limits = reference_range(definition, subject.sex, age)
    return replace(
        _plain(definition, ()),
        unit_text=definition.unit_text,
        low=None if limits is None else limits.low,
        high=None if limits is None else limits.high,
        interpretation=interpret(definition, value, subject.sex, age),
    )
