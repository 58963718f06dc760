"""Synthetic patients with years of records, the same for the same seed (PURE).

Every patient is made from the seed and their own position alone, so that asking for more
patients changes nothing about the first ones. All are adults, because the catalogue's
reference ranges are those of adults.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from random import Random

from medportal.core.categories import Category
from medportal.demo import vocabulary
from medportal.demo.people import HOSPITAL, LABORATORY, SCHEME
from medportal.demo.physiology import Body, make_body
from medportal.records.catalogue import Catalogue, Definition
from medportal.records.content import (
    BloodPressure,
    ClinicalRecord,
    Coded,
    Observation,
    Quantity,
    RecordKind,
    RecordStatus,
    Sex,
    Subject,
)

COUNT = 100
YEARS = 8
YEAR = 365.25
# The people of the original all have numbers that begin with 1.
FIRST_NUMBER = 30_000_000
NUMBERS = 60_000_000
# A prime that does not divide NUMBERS: its multiples meet every number once.
STRIDE = 15_485_863

# Condition -> chance that an adult of 80 has it; at 20 nobody has.
CHANCES: Mapping[str, float] = {
    "diabetes": 0.35,
    "hypertension": 0.75,
    "dyslipidaemia": 0.6,
    "hypothyroidism": 0.15,
    "iron-deficiency": 0.18,
    "kidney": 0.18,
    "anxiety": 0.2,
}
# Blood types as often as they are in Portugal, roughly, in percent.
BLOOD_TYPES = {"A+": 40, "O+": 36, "A-": 7, "O-": 6, "B+": 7, "B-": 1, "AB+": 2, "AB-": 1}

BLOOD_COUNT = ("haemoglobin", "erythrocytes", "leucocytes", "platelets")
PANELS: Mapping[str, tuple[str, ...]] = {
    "general": (*BLOOD_COUNT, "fasting-glucose", "creatinine", "urea-nitrogen", "crp"),
    "lipids": ("cholesterol", "hdl-cholesterol", "triglycerides"),
    "liver": ("alt", "ast", "ggt", "alkaline-phosphatase", "bilirubin"),
    "electrolytes": ("creatinine", "sodium", "potassium", "chloride", "calcium", "uric-acid"),
    "diabetes": ("fasting-glucose", "hba1c", "creatinine"),
    "thyroid": ("tsh", "free-t4"),
    "iron": (*BLOOD_COUNT, "ferritin", "iron", "vitamin-b12"),
    "coagulation": ("inr", "prothrombin-time"),
    "vitamins": ("vitamin-d", "vitamin-b12"),
    "inflammation": ("crp", "sedimentation-rate"),
}
# The panels that each condition asks for at every sampling.
FOLLOW_UP: Mapping[str, tuple[str, ...]] = {
    "diabetes": ("diabetes",),
    "hypertension": ("electrolytes",),
    "dyslipidaemia": ("lipids",),
    "hypothyroidism": ("thyroid",),
    "iron-deficiency": ("iron",),
    "kidney": ("electrolytes",),
}


@dataclass(frozen=True, slots=True)
class Author:
    """Somebody whose id and name stand in records."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class SyntheticPatient:
    """A patient, the institutions that know them, and their records, oldest first.

    A record's ``institution`` says where it was made: ``medical`` ones at the hospital,
    ``clinical`` ones at the laboratory.
    """

    subject: Subject
    city: str
    phone: str
    email: str
    tenants: tuple[str, ...]
    records: tuple[ClinicalRecord, ...]


@dataclass(frozen=True, slots=True)
class _Case:
    """Everything that the records of one patient are made from."""

    rng: Random
    subject: Subject
    body: Body
    blood_type: str
    height: float
    language: str
    today: date
    years: int
    catalogue: Catalogue

    def age(self, day: date) -> float:
        return (day - self.subject.birth_date).days / YEAR

    def day(self, age: float) -> date:
        return self.subject.birth_date + timedelta(days=round(age * YEAR))


def generate(
    seed: int,
    *,
    today: date,
    authors: Mapping[str, Sequence[Author]],
    catalogue: Catalogue,
    count: int = COUNT,
    years: int = YEARS,
) -> Iterator[SyntheticPatient]:
    """Yield ``count`` patients with records of the last ``years`` years before ``today``.

    ``authors`` gives for "hospital" and for "laboratory" whom records are written by; each
    patient keeps one doctor. ``count`` is at most ``NUMBERS``.
    """
    for position in range(count):
        yield _patient(seed, position, today, authors, catalogue, years)


def citizen_number(seed: int, position: int) -> str:
    """Return the number of the patient at ``position``: eight digits, none twice."""
    return str(FIRST_NUMBER + (seed * 7 + position * STRIDE) % NUMBERS)


def _patient(
    seed: int,
    position: int,
    today: date,
    authors: Mapping[str, Sequence[Author]],
    catalogue: Catalogue,
    years: int,
) -> SyntheticPatient:
    # A text as seed: Random hashes it, the same in every process.
    rng = Random(f"medportal synthetic {seed}/{position}")  # noqa: S311  (not for secrets)
    case = _case(rng, citizen_number(seed, position), today, catalogue, years)
    # Chosen by position, not by chance: everything else must not depend on who the authors
    # are, so that each institution, loading alone, makes the same patients and records.
    doctor, responsible = (
        authors[tenant][position % len(authors[tenant])] for tenant in (HOSPITAL, LABORATORY)
    )
    records = [*_visits(case, doctor)]
    at_laboratory = rng.random() < 0.85
    if at_laboratory:
        records += _samplings(case, responsible)
    number = case.subject.number
    return SyntheticPatient(
        subject=case.subject,
        city=rng.choice(vocabulary.CITIES),
        # No Portuguese operator has numbers that begin with 900.
        phone=f"+351 900 {number[2:5]} {number[5:]}",
        email=f"patient-{number}@people.example",
        tenants=(HOSPITAL, LABORATORY) if at_laboratory else (HOSPITAL,),
        records=tuple(sorted(records, key=lambda record: (str(record.effective), record.id))),
    )


def _case(rng: Random, number: str, today: date, catalogue: Catalogue, years: int) -> _Case:
    sex = rng.choice((Sex.FEMALE, Sex.MALE))
    # Old enough to have been an adult in all the years that are made up.
    age = rng.triangular(19 + years, 92, 58)
    subject = Subject(SCHEME, number, _name(rng, sex), _birth_date(today, age), sex)
    return _Case(
        rng=rng,
        subject=subject,
        body=make_body(sex, _onsets(rng, age, years), rng),
        blood_type=rng.choices(tuple(BLOOD_TYPES), tuple(BLOOD_TYPES.values()))[0],
        height=rng.gauss(175 if sex is Sex.MALE else 162, 6),
        language=rng.choice(("en", "pt")),
        today=today,
        years=years,
        catalogue=catalogue,
    )


def _name(rng: Random, sex: Sex) -> str:
    given = rng.choice(vocabulary.GIVEN_NAMES[sex])
    return " ".join([given, *rng.sample(vocabulary.SURNAMES, rng.choice((1, 2, 2)))])


def _birth_date(today: date, age: float) -> date:
    return today - timedelta(days=round(age * YEAR))


def _onsets(rng: Random, age: float, years: int) -> dict[str, float]:
    """Draw conditions: diagnosed before our records begin, or within them."""
    share = max(0.0, (age - 20) / 60)
    drawn = [name for name, chance in CHANCES.items() if rng.random() < chance * share]
    return {name: age - rng.uniform(0.5, years * 1.3) for name in drawn}


def _spread(case: _Case, per_year: float) -> Iterator[date]:
    """Yield days at irregular intervals, about ``per_year`` of them a year."""
    age = case.age(case.today) - case.years + case.rng.uniform(0, 1 / per_year)
    while age < case.age(case.today) - 1 / YEAR:
        yield case.day(age)
        age += case.rng.uniform(0.5, 1.5) / per_year


def _visits(case: _Case, doctor: Author) -> Iterator[ClinicalRecord]:
    chronic = [name for name in case.body.onset if name != "anxiety"]
    seen = [case.day(age) for age in case.body.onset.values()]
    begin = case.day(case.age(case.today) - case.years)
    days = {*_spread(case, 0.7 + 0.5 * len(chronic)), *(day for day in seen if day >= begin)}
    for place, day in enumerate(sorted(days)):
        yield _visit(case, doctor, day, first=place == 0)
    yield from _confidential(case, doctor, begin)


def _visit(case: _Case, doctor: Author, day: date, *, first: bool) -> ClinicalRecord:
    rng = case.rng
    fever = rng.random() < 0.06
    return _record(
        case,
        doctor,
        day,
        RecordKind.MEDICAL,
        Category.CLINICAL_NOTE,
        tuple(_vital_signs(case, day, fever=fever, first=first)),
        diagnosis=_diagnosis(case, day, fever=fever),
    )


def _vital_signs(case: _Case, day: date, *, fever: bool, first: bool) -> Iterator[Observation]:
    rng, by_key = case.rng, case.catalogue.by_key
    if first:
        yield Observation(by_key("blood-type").code, Coded(case.blood_type))
        yield _quantity(by_key("height"), case.height)
    yield _blood_pressure(case, day)
    warmth = rng.uniform(1.3, 2.8) if fever else 0.0
    for key in ("body-temperature", "heart-rate", "weight", "respiratory-rate"):
        extra = {"body-temperature": warmth, "heart-rate": warmth * 9}.get(key, 0.0)
        yield _measured(case, key, day, extra)
    if fever or rng.random() < 0.4:
        yield _measured(case, "oxygen-saturation", day)


def _blood_pressure(case: _Case, day: date) -> Observation:
    catalogue = case.catalogue
    systolic, diastolic = (
        _rounded(catalogue.by_key(key), case.body.measure(key, case.age(day), case.rng))
        for key in ("systolic", "diastolic")
    )
    # Independent draws could meet; a pulse needs some pressure.
    diastolic = min(diastolic, systolic - 20)
    return Observation(catalogue.by_key("blood-pressure").code, BloodPressure(systolic, diastolic))


def _diagnosis(case: _Case, day: date, *, fever: bool) -> str | None:
    rng = case.rng
    new = [name for name, age in case.body.onset.items() if case.day(age) == day]
    known = [name for name, age in case.body.onset.items() if case.day(age) < day]
    texts = vocabulary.DIAGNOSES
    if fever:
        return rng.choice(vocabulary.ACUTE_WITH_FEVER[case.language])
    if named := [name for name in new if name != "anxiety"]:
        return texts[named[0]][case.language][0]
    if (known := [name for name in known if name != "anxiety"]) and rng.random() < 0.5:
        return texts[rng.choice(known)][case.language][1]
    return rng.choice(vocabulary.ACUTE[case.language]) if rng.random() < 0.2 else None


def _confidential(case: _Case, doctor: Author, begin: date) -> Iterator[ClinicalRecord]:
    """Yield records of a sensitive category, which start closed to most readers."""
    if "anxiety" not in case.body.onset:
        return
    onset = case.day(case.body.onset["anxiety"])
    texts = vocabulary.DIAGNOSES["anxiety"][case.language]
    for day, text in zip((onset, onset + timedelta(days=120)), texts, strict=True):
        if begin <= day < case.today:
            kind, category = RecordKind.MEDICAL, Category.MENTAL_HEALTH
            yield _record(case, doctor, day, kind, category, (), diagnosis=text)


def _samplings(case: _Case, responsible: Author) -> Iterator[ClinicalRecord]:
    chronic = [name for name in case.body.onset if name in FOLLOW_UP]
    for place, day in enumerate(_spread(case, 0.8 + 0.5 * len(chronic))):
        keys = _ordered(case, day, chronic, place)
        observations = tuple(_results(case, keys, day, first=place == 0))
        notes = vocabulary.LABORATORY_NOTES[case.language]
        yield _record(
            case,
            responsible,
            day,
            RecordKind.CLINICAL,
            Category.LABORATORY,
            observations,
            notes=case.rng.choice(notes) if case.rng.random() < 0.08 else None,
        )


def _ordered(case: _Case, day: date, chronic: list[str], place: int) -> list[str]:
    """Return the keys of the tests ordered: by conditions, by routine, and by chance.

    The general panel is always among them.
    """
    rng = case.rng
    # Tests for a condition begin while it builds up, before anybody has named it.
    due = [name for name in chronic if case.age(day) > case.body.onset[name] - 2]
    panels = [panel for name in due for panel in FOLLOW_UP[name]]
    panels += ["general", "lipids"] if place % 2 == 0 else ["general"]
    panels += rng.sample(tuple(PANELS), rng.choice((0, 1, 1, 2)))
    wanted = {key for panel in panels for key in PANELS[panel]}
    return [key for key in case.catalogue.definitions if key in wanted]


def _results(case: _Case, keys: list[str], day: date, *, first: bool) -> Iterator[Observation]:
    by_key = case.catalogue.by_key
    if first:
        yield Observation(by_key("blood-type").code, Coded(case.blood_type))
    inflamed = case.rng.uniform(8, 70) if case.rng.random() < 0.04 else 0.0
    values = {key: case.body.measure(key, case.age(day), case.rng) for key in keys}
    values["crp"] += inflamed
    values.update(_derived(values, case.rng))
    for key in case.catalogue.definitions:
        if key in values:
            yield _quantity(by_key(key), values[key])


def _derived(values: Mapping[str, float], rng: Random) -> dict[str, float]:
    """Return what follows from other values, so that a reader finds no contradiction."""
    derived = {"haematocrit": values["haemoglobin"] * 2.95 + rng.gauss(0, 0.3)}
    derived["mean-cell-volume"] = derived["haematocrit"] * 10 / values["erythrocytes"]
    derived["neutrophils"] = values["leucocytes"] * rng.uniform(0.52, 0.62)
    derived["lymphocytes"] = values["leucocytes"] * rng.uniform(0.26, 0.34)
    if "cholesterol" in values:
        # Friedewald's formula, in mg/dL.
        others = values["hdl-cholesterol"] + values["triglycerides"] / 5
        derived["ldl-cholesterol"] = values["cholesterol"] - others
    return derived


def _measured(case: _Case, key: str, day: date, extra: float = 0.0) -> Observation:
    value = case.body.measure(key, case.age(day), case.rng) + extra
    return _quantity(case.catalogue.by_key(key), value)


def _quantity(definition: Definition, value: float) -> Observation:
    return Observation(definition.code, Quantity(_rounded(definition, value), definition.unit))


def _rounded(definition: Definition, value: float) -> Decimal:
    """Return ``value`` with the decimals of the definition and within what is plausible."""
    step = Decimal(1).scaleb(-definition.decimals)
    low, high = definition.plausible
    return min(max(Decimal(value), low + step), high).quantize(step)


def _record(
    case: _Case,
    author: Author,
    day: date,
    kind: RecordKind,
    category: Category,
    observations: tuple[Observation, ...],
    *,
    diagnosis: str | None = None,
    notes: str | None = None,
) -> ClinicalRecord:
    return ClinicalRecord(
        id=f"{case.rng.getrandbits(128):032x}",
        version=1,
        kind=kind,
        category=category,
        status=RecordStatus.FINAL,
        effective=day,
        author_id=author.id,
        author_name=author.name,
        institution=HOSPITAL if kind is RecordKind.MEDICAL else LABORATORY,
        observations=observations,
        diagnosis=diagnosis,
        notes=notes,
    )
