"""Use-cases of administration: which deeds one administrator does alone, and which wait.

What waits for a second person is in :mod:`medportal.admin.approvals`; which roles are guarded,
and why, in :mod:`medportal.identity.powers`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from medportal.access import endings
from medportal.access.endings import Ending
from medportal.admin import approvals
from medportal.admin.approvals import Asked, hand_over
from medportal.admin.errors import ApprovalRefused
from medportal.admin.models import ApprovalKind
from medportal.audit.events import Action
from medportal.core.reasons import Reason
from medportal.identity import (
    accounts,
    codes,
    directory,
    email_change,
    factors,
    links,
    people,
    powers,
)
from medportal.identity.accounts import Noted, Why
from medportal.identity.directory import PersonDetails
from medportal.identity.errors import AccountRefused
from medportal.identity.people import Profile
from medportal.tenancy.tenant import Tenant


@dataclass(frozen=True, slots=True)
class RoleAdded:
    """A role that was given, or asked for: then ``asked`` is there."""

    role: str
    note: Noted
    asked: Asked | None = None


@dataclass(frozen=True, slots=True)
class StaffRegistered:
    """What came of registering somebody as staff.

    ``note`` says why somebody new was registered; of whoever was known there is none.
    ``welcome`` is there for somebody new who waits for no second person.
    """

    person_id: str
    note: Noted | None
    roles: tuple[RoleAdded, ...]
    welcome: codes.Welcome | None

    @property
    def created(self) -> bool:
        """Tell whether the person is new here."""
        return self.note is not None

    @property
    def given(self) -> tuple[str, ...]:
        """Return the roles that were given."""
        return tuple(added.role for added in self.roles if added.asked is None)

    @property
    def asked(self) -> tuple[str, ...]:
        """Return the roles that wait for a second person."""
        return tuple(added.role for added in self.roles if added.asked is not None)


def register_staff(
    session: Session,
    tenant: Tenant,
    number: str,
    profile: Profile,
    roles: Iterable[str],
    why: Why,
    now: datetime,
    made: codes.FreshCode | None = None,
) -> StaffRegistered:
    """Register somebody in roles, or give the roles to whoever has the number already.

    Of somebody known nothing is shown or touched, and name and date of birth have to fit.
    ``made`` is a code that was made before the transaction.
    Raises ``AccountRefused`` for oneself, for a suspended account, and if there is nothing to
    give; ``NotTheSamePerson``. Has then changed nothing.
    """
    with session.begin_nested():
        person_id, created = _find_or_add(session, tenant, number, profile, why, now)
        note = _note(session, person_id, Action.ACCOUNT_CREATED, why, now) if created else None
        added = _add_new_roles(session, tenant, person_id, roles, why, now)
    welcome = None
    if created and all(role.asked is None for role in added):
        welcome = codes.welcome(session, tenant, person_id, now, by=why.by, made=made)
    return StaffRegistered(person_id, note, added, welcome)


def _find_or_add(
    session: Session, tenant: Tenant, number: str, profile: Profile, why: Why, now: datetime
) -> tuple[str, bool]:
    """Return the id of whoever has the number, and whether they are new here."""
    scheme = tenant.identifiers.scheme
    person_id = people.find_person(session, scheme, number)
    if person_id is None:
        person_id = people.add_person(session, scheme, number, profile, now)
        # The note refers to the person, and foreign keys are checked at each statement.
        session.flush()
        return person_id, True
    accounts.require_active(session, person_id, by=why.by)
    people.require_same_person(session, person_id, profile)
    return person_id, False


def add_role(
    session: Session, tenant: Tenant, person_id: str, role: str, why: Why, now: datetime
) -> RoleAdded:
    """Give a role, or ask for it to be given. Raises ``AccountRefused``, ``ApprovalRefused``."""
    known = tenant.roles.get(role)
    if known is None or not powers.may_be_granted_here(role):
        raise AccountRefused(Reason.NO_SUCH_THING)
    if powers.is_guarded(known):
        if role in people.roles_of(session, person_id):
            raise AccountRefused(Reason.NOTHING_NEW)
        asked = approvals.request(session, ApprovalKind.GRANT_ROLE, person_id, role, why, now)
        return RoleAdded(role, asked.note, asked)
    accounts.grant_role(session, person_id, role, by=why.by, now=now)
    return RoleAdded(role, _note(session, person_id, Action.ROLES_CHANGED, why, now))


def remove_role(
    session: Session, tenant: Tenant, person_id: str, role: str, why: Why, now: datetime
) -> Noted:
    """Take a role away; one administrator alone may. Raises ``AccountRefused``."""
    if not powers.may_be_granted_here(role):
        raise AccountRefused(Reason.NO_SUCH_THING)
    managing = powers.managing_roles(tenant)
    accounts.revoke_role(session, person_id, role, managing=managing, by=why.by, now=now)
    endings.end_without_role(session, tenant, person_id, Ending(why.by, why.reason, now))
    return _note(session, person_id, Action.ROLES_CHANGED, why, now)


def suspend(session: Session, tenant: Tenant, person_id: str, why: Why, now: datetime) -> Noted:
    """Close somebody's account. Raises ``AccountRefused``."""
    managing = powers.managing_roles(tenant)
    accounts.suspend(session, person_id, managing=managing, by=why.by, now=now)
    endings.end_all(session, person_id, Ending(why.by, why.reason, now))
    return _note(session, person_id, Action.ACCOUNT_SUSPENDED, why, now)


def reinstate(session: Session, person_id: str, why: Why, now: datetime) -> Noted:
    """Open a suspended account. Raises ``AccountRefused``."""
    accounts.reinstate(session, person_id, by=why.by, now=now)
    return _note(session, person_id, Action.ACCOUNT_REINSTATED, why, now)


def end_sessions(session: Session, person_id: str, why: Why, now: datetime) -> tuple[int, Noted]:
    """Sign somebody out everywhere; return of how many sessions. Raises ``AccountRefused``."""
    count = accounts.sign_out_everywhere(session, person_id, by=why.by)
    return count, _note(session, person_id, Action.SESSION_ENDED, why, now)


def resend_link(session: Session, tenant: Tenant, person_id: str, why: Why, now: datetime) -> Noted:
    """Mail the first link again. Raises ``AccountRefused``.

    To the person's own address, so that nobody gains by it: a code is needed besides.
    """
    if _locked(session, tenant, person_id, why).activated:
        raise AccountRefused(Reason.NOTHING_NEW)
    if not links.send_link(session, person_id, now):
        raise AccountRefused(Reason.TOO_MANY)
    return _note(session, person_id, Action.LINK_REQUESTED, why, now)


def new_code(
    session: Session,
    tenant: Tenant,
    person_id: str,
    why: Why,
    now: datetime,
    made: codes.FreshCode | None = None,
) -> tuple[Noted, codes.Welcome | Asked]:
    """Issue a code for the desk, or ask for one that whoever approves hands over.

    Raises ``AccountRefused``, ``ApprovalRefused``.
    """
    if code_needs_second(tenant, _locked(session, tenant, person_id, why)):
        asked = approvals.request(session, ApprovalKind.ISSUE_CODE, person_id, "", why, now)
        return asked.note, asked
    welcome = hand_over(session, tenant, person_id, why.by, now, made)
    return _note(session, person_id, Action.CODE_ISSUED, why, now), welcome


def code_needs_second(tenant: Tenant, person: PersonDetails) -> bool:
    """Tell whether a code for this account takes a second person.

    It does where the code alone would take over an account in use, and where the account is a
    patient's or gives more than a harmless role: whoever asks may know the mailbox.
    """
    alone_is_enough = person.activated and not codes.needs_link(tenant, person.email)
    return alone_is_enough or powers.opens_guarded_things(tenant, person.role_ids)


def change_email(
    session: Session, person_id: str, new_email: str, why: Why, now: datetime
) -> Asked:
    """Ask for another mail address. Raises ``AccountRefused``, ``ApprovalRefused``."""
    return approvals.request(session, ApprovalKind.CHANGE_EMAIL, person_id, new_email, why, now)


def cancel_email_change(
    session: Session, person_id: str, why: Why, now: datetime
) -> tuple[str, Noted]:
    """Call off a change of somebody's address that was approved; return its id.

    One administrator alone may: all stays as it is. Raises ``AccountRefused``.
    """
    accounts.require_active(session, person_id, by=why.by)
    gone = email_change.cancel_by_staff(session, person_id, now)
    if gone is None:
        raise AccountRefused(Reason.NOTHING_NEW)
    return gone.id, _note(session, person_id, Action.EMAIL_CHANGE_CANCELLED, why, now)


def reset_second_factor(
    session: Session, tenant: Tenant, person_id: str, why: Why, now: datetime
) -> tuple[Noted, Asked | None]:
    """Remove every second factor of somebody, or ask for it.

    Raises ``AccountRefused``, ``ApprovalRefused``.
    """
    person = _locked(session, tenant, person_id, why)
    if not person.has_second_factor:
        raise AccountRefused(Reason.NOTHING_NEW)
    if reset_needs_second(tenant, person):
        kind = ApprovalKind.RESET_SECOND_FACTOR
        asked = approvals.request(session, kind, person_id, "", why, now)
        return asked.note, asked
    factors.remove_all_factors(session, person_id, now)
    return _note(session, person_id, Action.SECOND_FACTOR_REMOVED, why, now), None


def reset_needs_second(tenant: Tenant, person: PersonDetails) -> bool:
    """Tell whether removing somebody's second factors takes a second person."""
    return powers.opens_guarded_things(tenant, person.role_ids)


def shows_contact(tenant: Tenant, person: PersonDetails) -> bool:
    """Tell whether administrators see how to reach somebody.

    Of staff they do, of patients not: and since one administrator alone could give a patient
    a harmless role, of somebody who is both only with a role that took a second person.
    """
    return not person.is_patient or powers.is_vouched_for(tenant, person.role_ids)


def shown_roles(person: PersonDetails) -> list[str]:
    """Return the roles that administrators see: not whether a colleague is a patient here."""
    staff = [held.role for held in person.roles if powers.may_be_granted_here(held.role)]
    return staff or [held.role for held in person.roles]


def _add_new_roles(
    session: Session,
    tenant: Tenant,
    person_id: str,
    roles: Iterable[str],
    why: Why,
    now: datetime,
) -> tuple[RoleAdded, ...]:
    added = []
    for role in roles:
        try:
            added.append(add_role(session, tenant, person_id, role, why, now))
        except (AccountRefused, ApprovalRefused) as error:
            if error.reason is not Reason.NOTHING_NEW:
                raise
    if not added:
        raise AccountRefused(Reason.NOTHING_NEW)
    return tuple(added)


def _locked(session: Session, tenant: Tenant, person_id: str, why: Why) -> PersonDetails:
    """Return somebody as they are while nobody else changes their account.

    What was read before may be overtaken: a role that another administrator has just given
    must not be missed.
    """
    accounts.require_active(session, person_id, by=why.by)
    found = directory.details(session, tenant.identifiers.scheme, person_id)
    if found is None:
        raise AccountRefused(Reason.NO_SUCH_THING)
    return found


def _note(session: Session, person_id: str, action: Action, why: Why, now: datetime) -> Noted:
    return accounts.write_note(session, person_id, action, why, now)
