"""The catalogue as it is shipped, and everything that a broken one is told."""

from dataclasses import replace
from decimal import Decimal

import pytest

from medportal.core.categories import Category
from medportal.records.catalogue import Catalogue, ValueKind, parse
from medportal.records.content import (
    BloodPressure,
    Coded,
    Observation,
    Quantity,
    RecordKind,
)
from medportal.records.errors import CatalogueError, InvalidContent, UnknownObservation

GOOD = """
format = 1
[[group]]
key = "kidney"
category = "laboratory"
names = { en = "Kidney", pt = "Rim" }
[[observation]]
key = "sodium"
loinc = "2951-2"
group = "kidney"
value = "quantity"
forms = ["clinical"]
names = { en = "Sodium", pt = "Sódio" }
unit = "mmol/L"
unit_text = "mmol/L"
decimals = 1
plausible = ["90", "210"]
range = [{ low = "135", high = "145" }]
"""


def test_what_the_forms_show(catalogue: Catalogue) -> None:
    shown = {
        kind: [one.key for _, members in catalogue.entered_in(kind) for one in members]
        for kind in RecordKind
    }
    # The observations of the original's two forms.
    original = {"blood-type", "blood-pressure", "body-temperature"}
    assert original <= set(shown[RecordKind.CLINICAL])
    assert original | {"height", "weight"} <= set(shown[RecordKind.MEDICAL])
    laboratory = [key for key in shown[RecordKind.CLINICAL] if key not in original]
    assert len(laboratory) >= 25
    assert "haemoglobin" not in shown[RecordKind.MEDICAL]
    assert "systolic" not in shown[RecordKind.CLINICAL]


def test_looking_things_up(catalogue: Catalogue) -> None:
    haemoglobin = catalogue.by_key("haemoglobin")
    assert catalogue.by_code("718-7") is haemoglobin
    assert catalogue.find("718-7") is haemoglobin
    assert catalogue.find("1-8") is None
    assert haemoglobin.name("pt") == "Hemoglobina"
    assert haemoglobin.name("de") == "Haemoglobin"
    for look_up in (catalogue.by_key, catalogue.by_code):
        with pytest.raises(UnknownObservation):
            look_up("nothing")


def test_compound_and_own_category(catalogue: Catalogue) -> None:
    pressure = catalogue.by_key("blood-pressure")
    assert [part.code for part in catalogue.components(pressure)] == ["8480-6", "8462-4"]
    # A blood type stands among the vital signs on the form, and is a laboratory's finding.
    assert catalogue.by_key("blood-type").category is Category.LABORATORY
    assert pressure.category is Category.VITAL_SIGNS


def test_only_what_is_below_a_thousand_has_three_decimals(catalogue: Catalogue) -> None:
    three = {one.key for one in catalogue.definitions.values() if one.decimals == 3}
    assert three == {"urine-specific-gravity"}


COMMON = {
    "blood-pressure body-temperature heart-rate respiratory-rate oxygen-saturation",
    "height weight bmi",
    "haemoglobin leucocytes neutrophils lymphocytes monocytes eosinophils basophils platelets",
    "mean-cell-volume mean-cell-haemoglobin red-cell-distribution-width reticulocytes",
    "inr prothrombin-time aptt fibrinogen d-dimer",
    "glucose fasting-glucose hba1c",
    "cholesterol hdl-cholesterol ldl-cholesterol non-hdl-cholesterol triglycerides",
    "creatinine urea egfr uric-acid sodium potassium chloride calcium magnesium phosphate",
    "alt ast ggt alkaline-phosphatase bilirubin direct-bilirubin albumin total-protein lipase",
    "crp sedimentation-rate procalcitonin",
    "tsh free-t4 free-t3 thyroid-peroxidase-antibodies",
    "iron ferritin transferrin transferrin-saturation folate vitamin-b12 vitamin-d",
    "troponin-i troponin-t ck-mb nt-probnp creatine-kinase ldh",
    "arterial-ph arterial-carbon-dioxide arterial-oxygen base-excess lactate",
    "urine-glucose urine-protein urine-nitrite urine-specific-gravity urine-albumin-creatinine",
    "hiv syphilis-treponemal hepatitis-b-surface-antigen hepatitis-c-antibodies rubella-igg",
}


def test_what_laboratories_and_wards_measure_every_day_is_there(catalogue: Catalogue) -> None:
    wanted = {key for line in COMMON for key in line.split()}
    assert wanted <= set(catalogue.definitions)


def test_every_range_keeps_the_decimals_of_its_value(catalogue: Catalogue) -> None:
    for definition in catalogue.definitions.values():
        for one in definition.ranges:
            for limit in (one.low, one.high, one.critical_low, one.critical_high):
                decimals = 0 if limit is None else -limit.as_tuple().exponent
                assert decimals <= definition.decimals, definition.key


def test_answers_have_words_in_both_languages(catalogue: Catalogue) -> None:
    assert catalogue.answer("positive", "pt") == "positivo"
    assert catalogue.answer("positive", "de") == "positive"
    assert catalogue.answer("A+", "pt") == "A+"
    spoken = {code for one in catalogue.definitions.values() for code in one.options}
    assert set(catalogue.answers) <= spoken


@pytest.mark.parametrize(
    ("key", "category"),
    [
        ("hiv", Category.SEXUAL_HEALTH),
        ("hepatitis-c-viral-load", Category.SEXUAL_HEALTH),
        ("pregnancy-test", Category.SEXUAL_HEALTH),
        ("ethanol", Category.SUBSTANCE_USE),
        ("lithium", Category.MENTAL_HEALTH),
        ("factor-v-leiden", Category.GENETICS),
    ],
)
def test_what_is_sensitive_makes_its_record_so(
    catalogue: Catalogue, key: str, category: Category
) -> None:
    one, sodium = (Observation(catalogue.by_key(k).code, Coded("x")) for k in (key, "sodium"))
    for kind in RecordKind:
        assert catalogue.category_for(kind, (sodium, one)) is category
        # Whoever enters it cannot choose to show it to more people.
        assert catalogue.category_for(kind, (one,), Category.LABORATORY) is category
    # For FHIR it is a laboratory's finding all the same.
    assert catalogue.by_key(key).category is Category.LABORATORY


def test_the_category_of_ordinary_records(catalogue: Catalogue) -> None:
    sodium = (Observation("2951-2", Quantity(Decimal(140), "mmol/L")),)
    assert catalogue.category_for(RecordKind.CLINICAL, sodium) is Category.LABORATORY
    assert catalogue.category_for(RecordKind.MEDICAL, sodium) is Category.CLINICAL_NOTE
    chosen = Category.MENTAL_HEALTH
    assert catalogue.category_for(RecordKind.MEDICAL, sodium, chosen) is chosen
    unknown = (Observation("1-8", Coded("x")),)
    assert catalogue.category_for(RecordKind.CLINICAL, unknown) is Category.LABORATORY


def test_two_sensitive_categories_are_two_records(catalogue: Catalogue) -> None:
    hiv, ethanol = (
        Observation(catalogue.by_key(key).code, Coded("x")) for key in ("hiv", "ethanol")
    )
    with pytest.raises(InvalidContent) as caught:
        catalogue.category_for(RecordKind.CLINICAL, (hiv, ethanol))
    assert [(one.field, one.code) for one in caught.value.problems] == [
        ("category", "two-categories")
    ]
    with pytest.raises(InvalidContent):
        catalogue.category_for(RecordKind.CLINICAL, (hiv,), Category.GENETICS)


@pytest.mark.parametrize(
    ("observation", "found"),
    [
        (Observation("2823-3", Quantity(Decimal("4.2"), "mmol/L")), []),
        (Observation("2823-3", Quantity(Decimal("4.25"), "mmol/L")), ["too-many-decimals"]),
        (Observation("2823-3", Quantity(Decimal("42"), "mmol/L")), ["implausible"]),
        (Observation("2823-3", Quantity(Decimal("4.2"), "mg/dL")), ["wrong-unit"]),
        (Observation("2823-3", Quantity(Decimal("NaN"), "mmol/L")), ["not-a-number"]),
        (Observation("2823-3", Coded("A+")), ["wrong-kind-of-value"]),
        (Observation("882-1", Coded("A+")), []),
        (Observation("882-1", Coded("C+")), ["not-an-option"]),
        (Observation("85354-9", BloodPressure(Decimal(120), Decimal(80))), []),
        (Observation("85354-9", BloodPressure(Decimal(400), Decimal(80))), ["implausible"]),
        (
            Observation("85354-9", BloodPressure(Decimal(80), Decimal(80))),
            ["diastolic-not-below-systolic"],
        ),
        # A component is no observation of its own.
        (Observation("8480-6", Quantity(Decimal(120), "mm[Hg]")), ["unknown-observation"]),
        (Observation("1-8", Coded("A+")), ["unknown-observation"]),
    ],
)
def test_values_that_are_refused(
    catalogue: Catalogue, observation: Observation, found: list[str]
) -> None:
    assert [problem.code for problem in catalogue.problems(observation)] == found


def test_bounds_are_told_with_their_unit(catalogue: Catalogue) -> None:
    (problem,) = catalogue.problems(Observation("2823-3", Quantity(Decimal(42), "mmol/L")))
    assert problem.field == "potassium"
    assert problem.params == {"low": "1", "high": "12", "unit": "mmol/L"}


def test_a_small_catalogue() -> None:
    sodium = parse(GOOD).by_key("sodium")
    assert sodium.kind is ValueKind.QUANTITY
    assert sodium.plausible == (Decimal(90), Decimal(210))
    assert replace(sodium.ranges[0], from_age=0).from_age == 0 != sodium.ranges[0].from_age


COMPOUND = """
[[observation]]
key = "pressure"
loinc = "85354-9"
group = "kidney"
value = "blood-pressure"
names = { en = "P", pt = "P" }
components = ["systolic", "diastolic"]
"""


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("format = 1", "format = 2", "format must be 1"),
        ("format = 1", "format = ", "not TOML"),
        ("[[group]]", "[group]", "group must be a list of tables"),
        ('key = "kidney"', "", "group: key must be a text"),
        ('key = "sodium"', "key = 7", "observation: key must be a text"),
        ('group = "kidney"', 'group = "liver"', "sodium: no group of that name"),
        ('category = "laboratory"', 'category = "genetics"', "kidney: category is unknown"),
        ('category = "laboratory"', 'category = "laboratory"\nloinc = "1-1"', "kidney: loinc"),
        ('loinc = "2951-2"', 'loinc = "2951-3"', "sodium: loinc is not a LOINC code"),
        ('loinc = "2951-2"', 'loinc = "2951-2"\nalso = ["2951-3"]', "sodium: loinc"),
        ('loinc = "2951-2"', 'loinc = "2951-2"\nalso = 7', "also must be a list of texts"),
        ('loinc = "2951-2"', 'loinc = "2951-2"\nwas = ["2951-3"]', "sodium: loinc"),
        ('loinc = "2951-2"', 'loinc = "2951-2"\nwas = ["2951-2"]', "that was wrong is in use"),
        ('value = "quantity"', 'value = "picture"', "sodium: value is unknown"),
        ('value = "quantity"', 'value = "coded"', "options and a coded value go together"),
        ('value = "quantity"', 'value = "blood-pressure"', "sodium: components"),
        ('forms = ["clinical"]', 'forms = ["paper"]', "sodium: forms has an unknown kind"),
        ('pt = "Sódio"', 'pt = ""', "sodium: names must give each of en, pt"),
        ('en = "Sodium", pt', "pt", "sodium: names must give each of en, pt"),
        ('unit = "mmol/L"', "unit = 7", "sodium: unit must be a text"),
        ('unit = "mmol/L"', "", "unit and a quantity go together"),
        ("decimals = 1", "decimals = 4", "decimals must be a whole number from 0 to 3"),
        ("decimals = 1", "decimals = true", "decimals must be a whole number from 0 to 3"),
        (
            'decimals = 1\nplausible = ["90", "210"]',
            'decimals = 3\nplausible = ["90", "1000"]',
            "three decimals need bounds below a thousand",
        ),
        ("decimals = 1", 'sensitive = "laboratory"', "sensitive must be a sensitive category"),
        ("decimals = 1", 'sensitive = "secret"', "sensitive must be a sensitive category"),
        ("decimals = 1", 'usual = ["positive"]', "usual and critical options"),
        ("decimals = 1", 'critical = ["positive"]', "usual and critical options"),
        (
            "[[observation]]",
            '[[answer]]\ncode = "positive"\n[[observation]]',
            "answer: names must give each of en, pt",
        ),
        ("decimals = 1", "colour = 1", "sodium: unknown key colour"),
        ('["90", "210"]', '["210", "90"]', "plausible bounds"),
        ('["90", "210"]', "[90, 210]", "plausible must be a list of texts"),
        ('["90", "210"]', '["ninety", "210"]', "low must be a decimal in quotes"),
        ('low = "135"', "low = 135.0", "low must be a decimal in quotes"),
        ('low = "135"', 'low = "Infinity"', "low must be a decimal in quotes"),
        ('low = "135"', 'low = "150"', "a range is out of order"),
        ('low = "135"', 'low = "80"', "a range is out of order"),
        ('low = "135", high = "145"', "", "a range is out of order"),
        ('low = "135"', 'sex = "other", low = "135"', "sex must be female or male"),
        ('low = "135"', 'from_age = 90, to_age = 80, low = "135"', "a range is out of order"),
        ('low = "135"', 'from_age = -1, low = "135"', "from_age must be a whole number"),
        ('low = "135"', 'mood = "good", low = "135"', "sodium: range: unknown key mood"),
        ("range = [{", 'range = [{ high = "145" }, {', "two ranges overlap"),
        ("range = [{", 'range = [{ sex = "male", high = "145" }, {', "two ranges overlap"),
    ],
)
def test_a_broken_catalogue_says_what_is_wrong(old: str, new: str, problem: str) -> None:
    assert old in GOOD
    with pytest.raises(CatalogueError) as caught:
        parse(GOOD.replace(old, new, 1))
    assert any(problem in one for one in caught.value.problems)
    assert problem in str(caught.value)


def test_ranges_of_two_sexes_or_ages_do_not_overlap() -> None:
    for ranges in (
        '[{ sex = "male", high = "145" }, { sex = "female", high = "145" }]',
        '[{ to_age = 49, high = "145" }, { from_age = 50, high = "145" }]',
        '[{ from_age = 50, high = "145" }, { to_age = 49, high = "145" }]',
    ):
        text = GOOD.replace('[{ low = "135", high = "145" }]', ranges)
        assert len(parse(text).by_key("sodium").ranges) == 2


def test_the_whole_catalogue_is_checked() -> None:
    observation = GOOD[GOOD.index("[[observation]]") :]
    with pytest.raises(CatalogueError) as caught:
        parse(GOOD + observation + COMPOUND)
    assert caught.value.problems == (
        "two observations have one key",
        "two observations have one code",
        "pressure: a component is not defined",
    )
