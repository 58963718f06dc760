"""How a synthetic patient's measurements come about (PURE).

Every patient has a baseline for every measurement, day-to-day variation around it, and
effects of the conditions that they have. Figures are rough and chosen to look right in a
trend; they are no model of any disease.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

from medportal.records.content import Sex

# Years over which an illness builds up before it is diagnosed.
BUILD_UP = 1.5
# Years after the diagnosis in which treatment takes effect, and what is left then.
TREATMENT = 1.0
REMAINS = 0.3


@dataclass(frozen=True, slots=True)
class Track:
    """One measurement: mean of women and of men, spread between and within people.

    ``per_year`` is the change with each year of age above 50; ``effects`` what an untreated
    condition adds. All in the unit of the catalogue.
    """

    women: float
    men: float
    between: float
    within: float
    per_year: float = 0.0
    effects: Mapping[str, float] = field(default_factory=dict)

    def mean(self, sex: Sex) -> float:
        """Return the mean of people of that sex."""
        return self.men if sex is Sex.MALE else self.women


PROGRESSIVE = frozenset({"kidney"})

TRACKS: Mapping[str, Track] = {
    "systolic": Track(118, 124, 7, 5, 0.35, {"hypertension": 34, "kidney": 6}),
    "diastolic": Track(74, 77, 5, 4, 0.05, {"hypertension": 17}),
    "body-temperature": Track(36.5, 36.5, 0.15, 0.2),
    "heart-rate": Track(74, 71, 6, 5, 0, {"iron-deficiency": 9, "hypothyroidism": -9}),
    "respiratory-rate": Track(15, 15, 1, 1),
    "oxygen-saturation": Track(98, 98, 0.5, 0.6, -0.02),
    "weight": Track(66, 80, 9, 0.8, -0.05, {"diabetes": 9, "hypothyroidism": 5}),
    "haemoglobin": Track(13.6, 15.0, 0.5, 0.25, -0.01, {"iron-deficiency": -3.4, "kidney": -0.8}),
    "erythrocytes": Track(4.5, 5.0, 0.18, 0.08, 0, {"iron-deficiency": -0.5}),
    "leucocytes": Track(6.6, 6.6, 1.0, 0.7),
    "platelets": Track(265, 245, 35, 14, -0.4, {"iron-deficiency": 60}),
    "inr": Track(1.0, 1.0, 0.03, 0.03),
    "prothrombin-time": Track(12.2, 12.2, 0.4, 0.3),
    "fasting-glucose": Track(87, 90, 5, 4, 0.12, {"diabetes": 78}),
    "hba1c": Track(5.2, 5.2, 0.18, 0.08, 0.006, {"diabetes": 3.4}),
    "creatinine": Track(0.72, 0.92, 0.08, 0.04, 0.002, {"kidney": 0.85}),
    "urea-nitrogen": Track(13, 15, 2, 1.3, 0.08, {"kidney": 16}),
    "uric-acid": Track(4.3, 5.6, 0.6, 0.3, 0.01, {"kidney": 1.6}),
    "sodium": Track(140, 140, 1.0, 1.1),
    "potassium": Track(4.3, 4.3, 0.2, 0.15, 0, {"kidney": 0.5}),
    "chloride": Track(103, 103, 1.2, 1.0),
    "calcium": Track(9.4, 9.4, 0.2, 0.12),
    "cholesterol": Track(178, 176, 15, 8, 0.3, {"dyslipidaemia": 68, "hypothyroidism": 25}),
    "hdl-cholesterol": Track(60, 50, 7, 3, 0, {"dyslipidaemia": -8, "diabetes": -5}),
    "triglycerides": Track(92, 108, 18, 13, 0.2, {"dyslipidaemia": 80, "diabetes": 45}),
    "alt": Track(18, 24, 5, 3, 0, {"diabetes": 11}),
    "ast": Track(19, 23, 4, 3, 0, {"diabetes": 6}),
    "ggt": Track(17, 27, 5, 3, 0.1, {"diabetes": 12}),
    "alkaline-phosphatase": Track(70, 74, 12, 5, 0.2),
    "bilirubin": Track(0.5, 0.7, 0.15, 0.1),
    "crp": Track(1.6, 1.4, 0.6, 0.5, 0.01),
    "sedimentation-rate": Track(10, 6, 3, 2, 0.1),
    "tsh": Track(1.8, 1.7, 0.4, 0.25, 0, {"hypothyroidism": 11.0}),
    "free-t4": Track(1.25, 1.25, 0.1, 0.06, 0, {"hypothyroidism": -0.6}),
    "ferritin": Track(58, 140, 18, 8, 0.3, {"iron-deficiency": -58}),
    "iron": Track(95, 108, 14, 10, 0, {"iron-deficiency": -62}),
    "vitamin-b12": Track(430, 430, 80, 30),
    "vitamin-d": Track(29, 30, 6, 3),
}


def strength(condition: str, years: float) -> float:
    """Return how strongly a condition shows ``years`` after its diagnosis, 0 to about 2.

    It builds up before the diagnosis and, if it can be treated, recedes after it; a
    progressive one goes on.
    """
    if years <= 0:
        return max(0.0, 1 + years / BUILD_UP)
    if condition in PROGRESSIVE:
        return min(2.0, 1 + years * 0.12)
    return max(REMAINS, 1 - years / TREATMENT * (1 - REMAINS))


@dataclass(frozen=True, slots=True)
class Body:
    """What stays the same about a patient: baselines and when conditions were diagnosed.

    ``onset`` maps a condition to its diagnosis, in years of age.
    """

    sex: Sex
    baselines: Mapping[str, float]
    onset: Mapping[str, float]

    def measure(self, key: str, age: float, rng: Random) -> float:
        """Return one measurement at ``age`` in years, with the variation of the day."""
        track = TRACKS[key]
        value = self.baselines[key] + rng.gauss(0, track.within)
        value += track.per_year * max(0.0, age - 50)
        for condition, effect in track.effects.items():
            if condition in self.onset:
                value += effect * strength(condition, age - self.onset[condition])
        return value


def make_body(sex: Sex, onset: Mapping[str, float], rng: Random) -> Body:
    """Return a body with baselines drawn around the means of its sex."""
    baselines = {
        key: track.mean(sex) + rng.gauss(0, track.between) for key, track in TRACKS.items()
    }
    return Body(sex, baselines, onset)
