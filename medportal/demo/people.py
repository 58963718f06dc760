"""The people of the original, with the roles and citizen numbers they had there (PURE).

A nurse, a second doctor, a second admin for each institution, privacy officers and
auditors are added. Everything about them is invented, for demonstration only. They have
no passwords here: each installation makes its own at random.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from medportal.records.content import Sex

SCHEME = "citizen-card"
HOSPITAL = "hospital"
LABORATORY = "laboratory"
PATIENT = "patient"


@dataclass(frozen=True, slots=True)
class Person:
    """One account at one institution: a citizen with one role.

    ``role`` is a key of the role catalogue in ``tenants/*.toml``. Addresses are under
    ``.example`` (RFC 2606) and reach nobody.
    """

    tenant: str
    role: str
    name: str
    citizen_number: str
    birth_date: date
    sex: Sex
    city: str
    phone: str
    email: str


def people(tenant: str) -> tuple[Person, ...]:
    """Return the people of an institution; of one that is not the demonstration's, none."""
    return tuple(person for person in _PEOPLE if person.tenant == tenant)


def citizen_numbers() -> frozenset[str]:
    """Return every citizen number in use here."""
    return frozenset(person.citizen_number for person in _PEOPLE)


def _people() -> Iterator[Person]:
    for number, (name, born, sex, city, mailbox) in _CITIZENS.items():
        for tenant, role in _ROLES[number]:
            yield Person(
                tenant=tenant,
                role=role,
                name=name,
                citizen_number=number,
                birth_date=born,
                sex=sex,
                city=city,
                # No Portuguese operator has numbers that begin with 900.
                phone=f"+351 900 {number[2:5]} {number[5:]}",
                email=f"{mailbox}@{tenant}.example",
            )


_F, _M = Sex.FEMALE, Sex.MALE
_CITIZENS: dict[str, tuple[str, date, Sex, str, str]] = {
    # From the original.
    "12345678": ("André Proenza", date(1985, 3, 14), _M, "Lisboa", "andre.proenza"),
    "19573526": ("Ana Albuquerque", date(1979, 11, 2), _F, "Lisboa", "ana.albuquerque"),
    "15378965": ("Hélder Costa", date(1990, 6, 21), _M, "Almada", "helder.costa"),
    "17645234": ("Amanda Júlio", date(1996, 4, 9), _F, "Oeiras", "amanda.julio"),
    "17564920": ("Henrique Jota", date(1988, 1, 30), _M, "Amadora", "henrique.jota"),
    "17564532": ("Madalena Afonso", date(2001, 9, 17), _F, "Sintra", "madalena.afonso"),
    "14789078": ("Alexandre Pinto", date(1993, 12, 5), _M, "Loures", "alexandre.pinto"),
    "18509738": ("Mariana Rita", date(1995, 7, 26), _F, "Cascais", "mariana.rita"),
    "15288625": ("Paulo Marques", date(1976, 2, 11), _M, "Setúbal", "paulo.marques"),
    # Added.
    "16240817": ("Beatriz Salgueiro", date(1987, 8, 19), _F, "Lisboa", "beatriz.salgueiro"),
    "13907452": ("Duarte Figueira", date(1982, 5, 3), _M, "Odivelas", "duarte.figueira"),
    "18116309": ("Inês Carvalhal", date(1991, 10, 12), _F, "Lisboa", "ines.carvalhal"),
    "14435096": ("Teresa Mourão", date(1974, 3, 28), _F, "Lisboa", "teresa.mourao"),
    "15960273": ("Rui Valadares", date(1969, 12, 16), _M, "Barreiro", "rui.valadares"),
    "17082641": ("Sofia Peixoto", date(1989, 2, 7), _F, "Setúbal", "sofia.peixoto"),
    "13571984": ("Nuno Bettencourt", date(1980, 9, 24), _M, "Palmela", "nuno.bettencourt"),
    "16893520": ("Leonor Vilhena", date(1984, 6, 1), _F, "Setúbal", "leonor.vilhena"),
}
_ROLES: dict[str, tuple[tuple[str, str], ...]] = {
    "12345678": ((HOSPITAL, "admin"), (LABORATORY, "admin")),
    "19573526": ((HOSPITAL, "doctor"),),
    "15378965": ((HOSPITAL, "ward_clerk"),),
    "17645234": ((HOSPITAL, PATIENT), (LABORATORY, PATIENT)),
    "17564920": ((HOSPITAL, "porter"),),
    "17564532": ((HOSPITAL, "volunteer"),),
    "14789078": ((HOSPITAL, "patient_assistant"),),
    "18509738": ((HOSPITAL, "clinical_assistant"),),
    "15288625": ((LABORATORY, "responsible"),),
    "16240817": ((HOSPITAL, "nurse"),),
    "13907452": ((HOSPITAL, "doctor"),),
    "18116309": ((HOSPITAL, "admin"),),
    "14435096": ((HOSPITAL, "privacy_officer"),),
    "15960273": ((HOSPITAL, "auditor"),),
    "17082641": ((LABORATORY, "admin"),),
    "13571984": ((LABORATORY, "privacy_officer"),),
    "16893520": ((LABORATORY, "auditor"),),
}
_PEOPLE = tuple(_people())
