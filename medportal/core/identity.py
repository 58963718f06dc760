"""Who is asking (PURE)."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from medportal.core.reasons import Reason


class Method(StrEnum):
    """How somebody proved who they are. Codes stand in sessions and in the audit log."""

    PASSWORD = "password"  # noqa: S105  (a name)
    #: A right password that is too short to be the only factor.
    SHORT_PASSWORD = "short-password"  # noqa: S105  (a name)
    TOTP = "totp"
    RECOVERY_CODE = "recovery-code"
    PASSKEY = "passkey"


#: Any of these makes a sign-in one with a second factor (a passkey is two in one).
SECOND_FACTORS = frozenset({Method.TOTP, Method.RECOVERY_CODE, Method.PASSKEY})


@dataclass(frozen=True, slots=True)
class Identity:
    """A signed-in person at one tenant, detached from every database.

    ``roles`` are those that count in this session, and all that anything is given for;
    ``withheld`` says why the ``withheld_roles``, which the person holds too, do not (see
    :mod:`medportal.identity.assurance`). ``confirmed_at`` is when
    the person last proved who they are; ``on_site`` is what the trusted edge said of this one
    request.
    """

    person_id: str
    tenant_id: str
    roles: frozenset[str]
    session_id: str
    authenticated_at: datetime
    methods: frozenset[Method] = frozenset({Method.PASSWORD})
    on_site: bool = False
    confirmed_at: datetime | None = None
    withheld: frozenset[Reason] = frozenset()
    withheld_roles: frozenset[str] = frozenset()

    @property
    def all_roles(self) -> frozenset[str]:
        """Return every role that the person holds: what is said against one holds without it."""
        return self.roles | self.withheld_roles
