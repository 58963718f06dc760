"""The first admin of an institution: nobody else can make one."""

from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from medportal.audit.append import append
from medportal.audit.events import COMMAND_LINE, Action, Event
from medportal.core.errors import ConfigurationError
from medportal.identity.codes import FreshCode, Welcome, make_code, welcome
from medportal.identity.emails import normal_email
from medportal.identity.models import Account
from medportal.identity.numbers import normal_number
from medportal.identity.people import Profile, find_person, register_person
from medportal.tenancy.registry import Database
from medportal.tenancy.tenant import IdentifierScheme, Tenant

ROLE = "admin"


@dataclass(frozen=True, slots=True)
class FirstAdmin:
    """Who is to be the first administrator, as somebody typed it."""

    number: str
    name: str
    birth_date: str
    email: str = ""


@dataclass(frozen=True, slots=True)
class Checked:
    """The same, fit to be registered."""

    number: str
    profile: Profile


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
    checked = check_admin(tenant, FirstAdmin(number, name, birth_date, email))
    code = make_code()
    with database.writer() as session, session.begin():
        if find_person(session, tenant.identifiers.scheme, checked.number) is not None:
            raise ConfigurationError(
                "somebody with this number is registered already: the command line makes new "
                "accounts only, it takes none over"
            )
        return _register(session, tenant, checked, code, now)


def make_admin(tenant: Tenant, database: Database, checked: Checked, now: datetime) -> Welcome:
    """Register the first admin of an institution that is being made; return the code.

    Whoever an earlier run registered, which was stopped before it said the code, gets a new one:
    nobody can have used the account, for nothing serves the institution yet. Raises
    ``ConfigurationError`` if the account was activated.
    """
    code = make_code()
    with database.writer() as session, session.begin():
        known = find_person(session, tenant.identifiers.scheme, checked.number)
        if known is None:
            append(session, Event.create(Action.TENANT_CREATED, now=now, actor=COMMAND_LINE))
            return _register(session, tenant, checked, code, now)
        query = select(Account.password_hash).where(Account.person_id == known)
        if session.scalar(query) is not None:
            raise ConfigurationError("somebody uses the account of this number already")
        append(
            session,
            Event.create(Action.CODE_ISSUED, now=now, actor=COMMAND_LINE, object=known),
        )
        return welcome(session, tenant, known, now, made=code)


def check_admin(tenant: Tenant, first: FirstAdmin) -> Checked:
    """Return who is to be registered. Raises ``ConfigurationError`` for what is unfit."""
    usable = normal_number(tenant.identifiers, first.number)
    if usable is None:
        raise ConfigurationError(_wrong_number(tenant.identifiers))
    try:
        born = date.fromisoformat(first.birth_date)
    except ValueError as error:
        raise ConfigurationError("write the date of birth as YYYY-MM-DD") from error
    address = normal_email(first.email) if first.email else ""
    if address is None:
        raise ConfigurationError("the email address is none: write it as name@example.org")
    profile = Profile(
        name=" ".join(first.name.split()),
        birth_date=born,
        sex="unknown",
        email=address,
        language=tenant.default_language,
    )
    return Checked(usable, profile)


def _register(
    session: Session, tenant: Tenant, checked: Checked, code: FreshCode, now: datetime
) -> Welcome:
    person = register_person(
        session,
        scheme=tenant.identifiers.scheme,
        number=checked.number,
        profile=checked.profile,
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
