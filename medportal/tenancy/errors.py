"""Errors of the tenancy room."""

from medportal.core.errors import MedportalError


class CommittedAlone(MedportalError):
    """A session of a request was committed by itself: only all of a request commits, or nothing."""


class TenantBehind(MedportalError):
    """A tenant's database schema is not the one that this code was written for."""

    def __init__(self, tenant_id: str, found: str | None, wanted: str | None) -> None:
        self.tenant_id = tenant_id
        super().__init__(
            f"the database of tenant {tenant_id} is at revision {found or 'none'}, the code "
            f"needs {wanted}; mend it with: medportal tenant migrate {tenant_id}"
        )
