"""Which roles take a second person, and what that says about an account (PURE).

A role is guarded if whoever holds it comes near patients' data or other people's accounts. One
administrator alone gives and takes only the others; with a guarded one, and with everything
that would open the account of somebody who holds one, a second person has to agree.

An account is *vouched for* once two people stood behind it: one who asked for a guarded role,
and another who agreed and handed the code over. Until then one administrator alone may have
set it up, with a mailbox and a code of their own. So an account that comes to a guarded role,
or to be a patient's, without having been vouched for begins anew: what opened it until then
opens it no longer.
"""

from collections.abc import Iterable

from medportal.core.permissions import Permission
from medportal.tenancy.tenant import OWN_ROLES, REPRESENTATIVE_ROLE, Role, Tenant

#: What a role may hold without being guarded: no data of patients beyond name, place and
#: how to move them.
HARMLESS = frozenset(
    {
        Permission.PATIENTS_LIST,
        Permission.PATIENT_SEE,
        Permission.PATIENT_BED,
        Permission.PATIENT_TRANSPORT,
        Permission.DELIVERY_FOLLOW,
        Permission.DELIVERIES_VIEW,
    }
)


def is_guarded(role: Role) -> bool:
    """Tell whether giving this role takes a second person."""
    return role.clinical or role.treating or not HARMLESS.issuperset(role.grants)


def may_be_granted_here(role_id: str) -> bool:
    """Tell whether administrators give and take this role at all.

    Patients are made by registering a patient, and stay patients; representatives by naming
    them for one.
    """
    return role_id not in OWN_ROLES


def grantable_roles(tenant: Tenant) -> list[Role]:
    """Return the roles that administrators give and take, as the catalogue orders them."""
    return [role for role in tenant.roles.values() if may_be_granted_here(role.id)]


def guarded_roles(tenant: Tenant) -> frozenset[str]:
    """Return the staff's roles that take a second person."""
    return frozenset(role.id for role in grantable_roles(tenant) if is_guarded(role))


def roles_with(tenant: Tenant, permission: Permission) -> frozenset[str]:
    """Return the roles that hold a permission."""
    return frozenset(role.id for role in tenant.roles.values() if permission in role.grants)


def managing_roles(tenant: Tenant) -> frozenset[str]:
    """Return the roles that manage people."""
    return roles_with(tenant, Permission.PEOPLE_MANAGE)


def opens_guarded_things(tenant: Tenant, held: Iterable[str]) -> bool:
    """Tell whether an account with these roles takes a second person to be opened anew.

    It does for patients, whose record it opens, for who stands for one, and for a role that
    the catalogue no longer knows: what it gave, it may give again.
    """
    harmless = {r.id for r in grantable_roles(tenant) if not is_guarded(r)}
    return not harmless.issuperset(held)


def is_staff(held: Iterable[str]) -> bool:
    """Tell whether somebody with these roles is more than a patient or a representative."""
    return not OWN_ROLES.issuperset(held)


def desk_vouching_roles(tenant: Tenant) -> frozenset[str]:
    """Return the roles for which the desk leaves an account as it is.

    Besides the guarded ones it is a representative's: two people at the desk stood behind it,
    and the account began anew then. With any other, one of them alone may have made it.
    """
    return guarded_roles(tenant) | {REPRESENTATIVE_ROLE}


def is_vouched_for(tenant: Tenant, held: Iterable[str]) -> bool:
    """Tell whether two people stood behind an account with these roles."""
    return not guarded_roles(tenant).isdisjoint(held)
