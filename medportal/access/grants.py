"""Grants: the proof that a decision allowed one person one thing about one patient.

Whoever opens clinical content takes a :class:`Grant`, so that no path to it exists that
did not pass the decision. Only :func:`mint` makes one.
"""

from dataclasses import InitVar, dataclass
from datetime import datetime

from medportal.access.decisions import Decision
from medportal.access.errors import NotPermitted
from medportal.core.identity import Identity
from medportal.core.obligations import Obligation
from medportal.core.permissions import Permission
from medportal.core.reasons import Reason
from medportal.identity.errors import NotFresh

_MINT = object()


@dataclass(frozen=True, slots=True)
class Grant:
    """One person may use one permission on one patient, and why.

    ``basis`` is the id of what that rests on: an assignment, a rule, a broken glass.
    """

    identity: Identity
    permission: Permission
    patient_id: str
    record_id: str | None
    because: tuple[Reason, ...]
    basis: str | None
    at: datetime
    _by: InitVar[object] = None

    def __post_init__(self, _by: object) -> None:
        """Refuse to exist unless minted; a changed copy of a grant is not minted either."""
        if _by is not _MINT:
            raise NotPermitted("a grant is minted by access alone")


def mint(
    identity: Identity | None,
    decision: Decision,
    permission: Permission,
    patient_id: str,
    now: datetime,
    record_id: str | None = None,
) -> Grant:
    """Return a grant; raises ``NotPermitted`` if the decision does not give the permission.

    Raises ``NotFresh`` if the person has to prove first who they are.
    """
    if identity is None or not decision.allows(permission):
        raise NotPermitted(permission)
    if decision.demands(permission, Obligation.CONFIRM_FIRST):
        raise NotFresh()
    return Grant(
        identity,
        permission,
        patient_id,
        record_id,
        decision.because[permission],
        decision.basis.get(permission),
        now,
        _MINT,
    )
