"""Who is asking (PURE)."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Identity:
    """A signed-in person at one tenant, detached from every database.

    ``methods`` names how the session was authenticated ("password", later "totp",
    "passkey"); ``on_site`` is what the trusted edge said of this one request.
    """

    person_id: str
    tenant_id: str
    roles: frozenset[str]
    session_id: str
    authenticated_at: datetime
    methods: frozenset[str] = frozenset({"password"})
    on_site: bool = False
