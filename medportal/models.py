"""Every table of a tenant's database, gathered for migrations and tests."""

from medportal.access import models as access
from medportal.audit import models as audit
from medportal.db import Base
from medportal.delivery import models as delivery
from medportal.identity import models as identity
from medportal.patients import models as patients
from medportal.patients import models_index as patients_index
from medportal.records import models as records
from medportal.vault import models as vault

__all__ = [
    "Base",
    "access",
    "audit",
    "delivery",
    "identity",
    "patients",
    "patients_index",
    "records",
    "vault",
]
