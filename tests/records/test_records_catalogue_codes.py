"""What the codes of the catalogue mean: the kind of quantity fits the unit, wrong codes stay away.

The kinds were looked up for each code (docs/catalogue.md says where) and stand beside the code,
not beside our key: whoever changes a code, or a unit, has to say here what it measures. Another
hospital reads a glucose in mmol/L under a code of mass per volume as eighteen times too low.
"""

from dataclasses import replace

import pytest

from medportal.records.catalogue import Catalogue, ValueKind
from medportal.records.content import ClinicalRecord, Coded, Observation
from medportal.records.entry import not_in_form, parse_entry, typed_of_record

MASS_PER_VOLUME = """
718-7 786-4 3255-7 48065-7 2345-7 1558-6 41653-7 1518-0 1986-9 2160-0 3094-0 3084-1 17861-6
19123-9 3091-6 33863-2 2777-1 2093-3 2085-9 13457-7 2571-8 18262-6 43396-1 1884-6 10835-7
1975-2 1751-7 2885-2 1968-7 14338-8 4542-7 1988-5 30522-7 33959-8 3024-7 3051-0 3026-2 3053-6
2276-4 2498-4 2132-9 62292-8 3034-6 2500-7 2284-8 5763-8 5631-7 2064-4 89579-7 67151-1 13969-1
2639-3 33762-6 30934-4 2161-8 9813-7 2141-0 2731-8 2842-3 2243-4 2839-9 2986-8 2465-3 2458-8
2472-9 4485-9 4498-2 2039-6 1834-1 10886-0 10535-3 3968-5 4086-5 3432-2 4049-3 4092-3 3665-7
11253-2 3520-4 3298-7 5643-2 2857-1
"""
MOLES_PER_VOLUME = """
2951-2 2823-3 2075-0 2028-9 1995-0 16362-6 1960-4 1925-7 2518-9 2519-7 2955-3 2828-2 14334-7
"""
ENZYME_ACTIVITY = "1742-6 1920-8 6768-6 2324-2 3040-3 1798-8 2532-0 2157-6"
ARBITRARY_UNITS = """
27873-9 3016-3 8099-4 8098-6 15067-2 10501-5 19113-0 11572-5 33935-8 16935-9 24108-3 10334-1
6875-9 11011-4 19080-1
"""
NUMBER_PER_VOLUME = "789-8 6690-2 751-8 731-0 777-3 742-7 711-2 704-7 20447-9 24467-3"

# Units of UCUM that can express a kind. Its "U" is an enzyme's; antigens have arbitrary units.
KINDS = {
    "g/dL mg/dL mg/L ug/dL ug/mL ng/mL ng/dL ng/L pg/mL ug{FEU}/mL": MASS_PER_VOLUME,
    "mmol/L umol/L": MOLES_PER_VOLUME,
    "U/L": ENZYME_ACTIVITY,
    "[IU]/mL m[IU]/mL m[IU]/L u[IU]/mL [arb'U]/mL": ARBITRARY_UNITS,
    "10*6/uL 10*3/uL /uL {copies}/mL": NUMBER_PER_VOLUME,
    # Shares and ratios of two kinds that are easily taken for one another.
    "mmol/mol": "59261-8",
    "mg/g": "9318-7 2890-2",
    "ug/g": "38445-3",
    "mg/(24.h)": "2889-4",
}


@pytest.mark.parametrize("units", KINDS, ids=lambda units: units.split()[0])
def test_a_unit_expresses_what_its_code_measures(catalogue: Catalogue, units: str) -> None:
    measured = {
        one.code
        for one in catalogue.definitions.values()
        if one.kind is ValueKind.QUANTITY and one.unit in units.split()
    }
    assert measured == set(KINDS[units].split())


@pytest.mark.parametrize(
    ("withdrawn", "key", "code"),
    [
        # Any mutation of the prothrombin gene, and not factor V Leiden.
        ("24476-4", "factor-v-leiden", "21668-9"),
        # Serum or plasma, and not venous blood.
        ("2524-7", "lactate", "2519-7"),
        # At any time, and not fasting.
        ("20448-7", "insulin", "27873-9"),
    ],
)
def test_a_code_that_was_wrong_says_nothing_any_more(
    catalogue: Catalogue, withdrawn: str, key: str, code: str
) -> None:
    """So a record signed with it is shown in the words that were signed."""
    assert catalogue.find(withdrawn) is None
    definition = catalogue.by_key(key)
    assert (definition.code, definition.was) == (code, (withdrawn,))


def test_a_new_version_says_the_right_code(
    catalogue: Catalogue, laboratory_record: ClinicalRecord
) -> None:
    wrong = Observation("24476-4", Coded("positive"))
    signed = replace(laboratory_record, observations=(wrong,))
    entry = parse_entry(signed.kind, typed_of_record(signed, catalogue), catalogue)
    assert entry.observations == (Observation("21668-9", Coded("positive")),)
    assert not_in_form(signed, catalogue) == ()
