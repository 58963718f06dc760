"""Made-up support needs for the demonstration's patients: transport, diet, allergies."""

from medportal.patients.support import Needs

_NEEDS = (
    Needs("Wheelchair, one person.", "Soft food, low in salt.", "Penicillin: rash."),
    Needs("On foot, walks slowly.", "", ""),
    Needs("By bed, with oxygen; two people.", "Nothing by mouth until the doctor says so.", ""),
    Needs("", "No gluten.", "Latex: itching."),
    Needs("", "", ""),
    Needs("Wheelchair. Hears badly on the left: speak slowly.", "For people with diabetes.", ""),
)


def needs_of(position: int) -> Needs:
    """Return the support needs of the patient at a position, the same every time."""
    return _NEEDS[position % len(_NEEDS)]
