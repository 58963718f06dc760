"""Who a patient is, as records and their pages name them."""

from pyramid.request import Request

from medportal.patients import service as patients
from medportal.records.content import Sex, Subject


def scheme_of(request: Request) -> str:
    """Return the scheme of the numbers by which people are known here."""
    scheme: str = request.tenant.identifiers.scheme
    return scheme


def subject_of(patient: patients.PatientDetails) -> Subject:
    """Return a patient as the subject of a record."""
    return Subject(
        identifier_scheme=patient.scheme,
        number=patient.number,
        name=patient.name,
        birth_date=patient.birth_date,
        sex=Sex(patient.sex),
    )
