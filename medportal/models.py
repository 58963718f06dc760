"""Every table of a tenant's database, gathered for migrations and tests."""

from medportal.access import models as access
from medportal.admin import models as admin
from medportal.audit import models as audit
from medportal.db import Base
from medportal.delivery import lists as delivery_lists
from medportal.delivery import models as delivery
from medportal.erasure import models as erasure
from medportal.identity import models as identity
from medportal.mail import models as mail
from medportal.patients import models as patients
from medportal.patients import models_index as patients_index
from medportal.records import models as records
from medportal.records import models_results as records_results
from medportal.tenancy import models as tenancy
from medportal.vault import models as vault

__all__ = [
    "Base",
    "access",
    "admin",
    "audit",
    "delivery",
    "delivery_lists",
    "erasure",
    "identity",
    "mail",
    "patients",
    "patients_index",
    "records",
    "records_results",
    "tenancy",
    "vault",
]
