"""The first admin of an institution: nobody else can make one."""

from datetime import date, datetime

from medportal.audit.append import append
from medportal.audit.events import COMMAND_LINE, Action, Event
from medportal.core.errors import ConfigurationError
from medportal.identity.codes import Welcome, make_code, welcome
from medportal.identity.emails import normal_email
from medportal.identity.numbers import normal_number
from medportal.identity.people import Profile, find_person, register_person
from medportal.tenancy.registry import Database
from medportal.tenancy.tenant import IdentifierScheme, Tenant

ROLE = "admin"


def register_admin(
    tenant: Tenant,
    database: Database,
    number: str,
    name: str,
    birth_date: str,
    now: datetime,
    *,
    email: str = "",
) -> Welcome:
    """Register an admin; return the activation code, and whether a mailed link is needed too.

    Raises ``ConfigurationError`` for a number, date or address that is none.
    """
    usable = normal_number(tenant.identifiers, number)
    if usable is None:
        raise ConfigurationError(_wrong_number(tenant.identifiers))
    try:
        born = date.fromisoformat(birth_date)
    except ValueError as error:
        raise ConfigurationError("write the date of birth as YYYY-MM-DD") from error
    address = normal_email(email) if email else ""
    if address is None:
        raise ConfigurationError("the email address is none: write it as name@example.org")
    profile = Profile(
        name=" ".join(name.split()),
        birth_date=born,
        sex="unknown",
        email=address,
        language=tenant.default_language,
    )
    code = make_code()
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
                actor=COMMAND_LINE,
                object=person.person_id,
                details={"role": ROLE},
            ),
        )
        return welcome(session, tenant, person.person_id, now, made=code)


def _wrong_number(scheme: IdentifierScheme) -> str:
    if scheme.is_numeric:
        return f"a citizen number has {scheme.digits} digits here"
    return f"that is no number of the scheme {scheme.standard}, or a check digit is wrong"
