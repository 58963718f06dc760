"""Errors of the patients room."""

from medportal.core.errors import MedportalError


class PatientsError(MedportalError):
    """Something about patients that the caller has to tell."""


class RegistrationRefused(PatientsError):
    """A registration that must not be; ``code`` says why, for the form."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)


class AlreadyRegistered(PatientsError):
    """The person is a patient here already."""

    def __init__(self, patient_id: str) -> None:
        self.patient_id = patient_id
        super().__init__("already registered")


class _Refused(PatientsError):
    """Something that must not be; ``code`` says why, for the form."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)


class SupportRefused(_Refused):
    """Support needs that cannot be saved as they were typed."""


class AdmissionRefused(_Refused):
    """A patient cannot be put into this bed, or is in none."""


class DetailsRefused(_Refused):
    """Registration data that cannot be changed so."""
