"""The first admin of an institution: nobody else can make one."""

from datetime import date, datetime

from medportal.audit.append import append
from medportal.audit.events import Action, Event
from medportal.core.errors import ConfigurationError
from medportal.identity.numbers import normal_number
from medportal.identity.service import Profile, find_person, issue_activation, register_person
from medportal.tenancy.registry import Database
from medportal.tenancy.tenant import Tenant

ROLE = "admin"


def register_admin(
    tenant: Tenant, database: Database, number: str, name: str, birth_date: str, now: datetime
) -> str:
    """Register an admin and return the activation code.

    Raises ``ConfigurationError`` for a number or date that is none.
    """
    usable = normal_number(tenant.identifiers, number)
    if usable is None:
        raise ConfigurationError(f"a citizen number has {tenant.identifiers.digits} digits here")
    try:
        born = date.fromisoformat(birth_date)
    except ValueError as error:
        raise ConfigurationError("write the date of birth as YYYY-MM-DD") from error
    profile = Profile(name=" ".join(name.split()), birth_date=born, sex="unknown")
    with database.writer() as session, session.begin():
        if find_person(session, tenant.identifiers.scheme, usable) is not None:
            raise ConfigurationError(
                "somebody with this number is registered already: the command line makes new "
                "accounts only, it takes none over"
            )
        person = register_person(
            session,
            scheme=tenant.identifiers.scheme,
            number=usable,
            profile=profile,
            role=ROLE,
            by=None,
            now=now,
        )
        append(
            session,
            Event.create(
                Action.ACCOUNT_CREATED,
                now=now,
                actor="process:command-line",
                object=person.person_id,
                details={"role": ROLE},
            ),
        )
        return issue_activation(session, person.person_id, now)
