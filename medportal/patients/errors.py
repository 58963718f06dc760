"""Errors of the patients room."""

from medportal.core.errors import MedportalError


class PatientsError(MedportalError):
    """Something about patients that the caller has to tell."""


class AlreadyRegistered(PatientsError):
    """The person is a patient here already."""

    def __init__(self, patient_id: str) -> None:
        self.patient_id = patient_id
        super().__init__("already registered")
