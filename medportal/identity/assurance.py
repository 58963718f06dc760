"""Which of somebody's roles count in a session, and why others do not (PURE).

A role counts only for who proved enough: the institution may want a second factor for some
roles, or for all staff who are not on site. Whoever lacks it is signed in all the same, and
finds the page on which to set one up; the role's pages are not there meanwhile.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from medportal.core.identity import SECOND_FACTORS, Method
from medportal.core.reasons import Reason
from medportal.tenancy.tenant import OWN_ROLES, Tenant


@dataclass(frozen=True, slots=True)
class Assurance:
    """The roles that count, the others, and the reasons for which they are withheld."""

    roles: frozenset[str]
    withheld: frozenset[Reason]
    withheld_roles: frozenset[str] = frozenset()


def assure(
    tenant: Tenant, held: Iterable[str], methods: frozenset[Method], *, on_site: bool
) -> Assurance:
    """Return which of the ``held`` roles count for a session authenticated by ``methods``."""
    answers = {role: _withheld(tenant, role, methods, on_site) for role in held}
    return Assurance(
        frozenset(role for role, reason in answers.items() if reason is None),
        frozenset(reason for reason in answers.values() if reason is not None),
        frozenset(role for role, reason in answers.items() if reason is not None),
    )


def _withheld(
    tenant: Tenant, role: str, methods: frozenset[Method], on_site: bool
) -> Reason | None:
    if methods & SECOND_FACTORS:
        return None
    if Method.SHORT_PASSWORD in methods:
        return Reason.PASSWORD_TOO_SHORT
    known = tenant.roles.get(role)
    if known is not None and known.second_factor:
        return Reason.SECOND_FACTOR_NEEDED
    if tenant.second_factor.remote_staff and role not in OWN_ROLES and not on_site:
        return Reason.SECOND_FACTOR_NEEDED_OFF_SITE
    return None
