"""Load the facts of a decision: identifiers, dates and categories, never content."""

from collections import defaultdict
from collections.abc import Mapping

from sqlalchemy import select
from sqlalchemy.orm import Session

from medportal.access.decisions import AssignmentFacts, PatientFacts
from medportal.access.models import CareAssignment, CareKind
from medportal.core.identity import Identity
from medportal.core.permissions import Permission, Reach
from medportal.patients.models import Patient
from medportal.tenancy.tenant import Tenant


def held_permissions(
    tenant: Tenant, identity: Identity | None
) -> Mapping[Permission, frozenset[Reach]]:
    """Return what the identity's roles give by this tenant's catalogue."""
    held: defaultdict[Permission, set[Reach]] = defaultdict(set)
    for role_id in identity.roles if identity else ():
        role = tenant.roles.get(role_id)
        for permission, reach in role.grants.items() if role else ():
            held[permission].add(reach)
    return {permission: frozenset(reaches) for permission, reaches in held.items()}


def patient_facts(session: Session, identity: Identity | None, patient_id: str) -> PatientFacts:
    """Return the facts about one patient.

    The same two queries run whether the patient exists or not.
    """
    asker = identity.person_id if identity else ""
    exists = session.scalar(select(Patient.person_id).where(Patient.person_id == patient_id))
    assignments = session.scalars(
        select(CareAssignment).where(
            CareAssignment.patient_id == patient_id, CareAssignment.staff_id == asker
        )
    )
    return PatientFacts(
        id=patient_id,
        exists=exists is not None,
        is_self=asker == patient_id,
        assignments=tuple(
            AssignmentFacts(a.kind == CareKind.TREATING, a.since, a.until) for a in assignments
        ),
    )
