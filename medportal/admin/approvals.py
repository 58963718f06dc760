"""What one member of staff asks for and another decides.

A request waits for two weeks. Who decides it holds the permission at that moment, did not ask
for it and is not the person it is about. It is granted only while it makes sense: the person's
account is active, the role is still in the catalogue, and whoever asked could ask it still. Of
two people who decide at once one does.

Roles are given, and codes issued, in the name of whoever asked; a code is shown to whoever
approves, and to nobody else: the one who asked may have chosen where the mailed link goes.
"""

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Select, and_, select, tuple_, update
from sqlalchemy.orm import Session, aliased

from medportal.admin.errors import ApprovalRefused
from medportal.admin.models import Approval, ApprovalKind, ApprovalState
from medportal.audit.append import append
from medportal.audit.events import Action, Event
from medportal.core.ids import new_id
from medportal.core.permissions import Permission
from medportal.core.reasons import Reason
from medportal.identity import accounts, codes, email_change, powers
from medportal.identity.accounts import Noted, Why
from medportal.identity.errors import AccountRefused, EmailChangeRefused
from medportal.identity.factors import remove_all_factors
from medportal.identity.links import send_link
from medportal.identity.models import Account, AccountNote, AccountStatus, Person
from medportal.identity.people import contact_of, roles_of
from medportal.identity.waiting import kept_value, waits
from medportal.tenancy.tenant import Tenant

LIFETIME = timedelta(days=14)
PAGE = 50
ACTOR = "process:jobs"
#: Requests with which somebody gets a code: where the mailed link goes is to be checked.
WITH_CODE = (
    ApprovalKind.GRANT_ROLE,
    ApprovalKind.RESET_SECOND_FACTOR,
    ApprovalKind.ISSUE_CODE,
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it was made: its id, and the note that says why."""

    id: str
    note: Noted


@dataclass(frozen=True, slots=True)
class Shown:
    """A request with its names. ``state`` is what it is now: a request too old has expired."""

    id: str
    kind: ApprovalKind
    person_id: str
    person_name: str
    value: str
    state: ApprovalState
    requested_by: str
    requester_name: str
    requested_at: datetime
    expires_at: datetime
    decider_name: str | None
    decided_at: datetime | None
    reason: str
    note: str
    #: Of the note, and shown to nobody.
    salt: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Granted:
    """What came of a request that was granted.

    ``welcome`` is there if the person needs a code: it is shown once, to whoever approved.
    ``anew`` tells that what opened the account until now opens it no longer.
    """

    kind: ApprovalKind
    person_id: str
    value: str
    reason: Reason
    requested_by: str
    note: Noted
    welcome: codes.Welcome | None = None
    anew: bool = False


@dataclass(frozen=True, slots=True)
class _Request:
    """A request as the table has it."""

    id: str
    kind: ApprovalKind
    person_id: str
    value: str
    requested_by: str
    reason: Reason


def request(
    session: Session, kind: ApprovalKind, person_id: str, value: str, why: Why, now: datetime
) -> Asked:
    """Ask for something; ``value`` is the role, or the new address.

    Raises ``AccountRefused`` for the own account and for a suspended one, ``ApprovalRefused``
    if the same waits already.
    """
    # The lock makes two that ask for the same at once come one after the other.
    accounts.require_active(session, person_id, by=why.by)
    same = and_(Approval.kind == kind, Approval.person_id == person_id, waits(now))
    if kind is ApprovalKind.GRANT_ROLE:
        same = and_(same, Approval.value == value)
    if session.scalar(select(Approval.id).where(same).limit(1)) is not None:
        raise ApprovalRefused(Reason.NOTHING_NEW)
    note = accounts.write_note(session, person_id, Action.APPROVAL_REQUESTED, why, now)
    # The request refers to the note, and foreign keys are checked at each statement.
    session.flush()
    approval = Approval(
        id=new_id(),
        kind=kind,
        person_id=person_id,
        value=value,
        note_id=note.id,
        state=ApprovalState.WAITING,
        requested_by=why.by,
        requested_at=now,
        expires_at=now + LIFETIME,
    )
    session.add(approval)
    return Asked(approval.id, note)


def waiting(
    session: Session,
    now: datetime,
    *,
    after: tuple[datetime, str] | None = None,
    limit: int = PAGE,
) -> list[Shown]:
    """Return what waits for a decision, oldest first, paged by key.

    ``after`` is the (time, id) of the last one on the page before.
    """
    query = _query().where(waits(now))
    if after is not None:
        query = query.where(tuple_(Approval.requested_at, Approval.id) > after)
    return _shown(session, query.order_by(Approval.requested_at, Approval.id).limit(limit), now)


def list_key(session: Session, approval_id: str) -> tuple[datetime, str] | None:
    """Return the key (time, id) by which what waits is ordered, or ``None``."""
    at = session.scalar(select(Approval.requested_at).where(Approval.id == approval_id))
    return None if at is None else (at, approval_id)


def waiting_for(session: Session, person_id: str, now: datetime) -> list[Shown]:
    """Return what waits for a decision about one person, oldest first."""
    about = and_(Approval.person_id == person_id, waits(now))
    query = _query().where(about).order_by(Approval.requested_at, Approval.id)
    return _shown(session, query, now)


def recent(session: Session, now: datetime, limit: int = PAGE) -> list[Shown]:
    """Return what was asked for last and waits no longer, newest first."""
    query = _query().where(~waits(now))
    newest_first = query.order_by(Approval.requested_at.desc(), Approval.id.desc())
    return _shown(session, newest_first.limit(limit), now)


def find(session: Session, approval_id: str, now: datetime) -> Shown | None:
    """Return one request, or ``None``."""
    found = _shown(session, _query().where(Approval.id == approval_id), now)
    return found[0] if found else None


def why_not(session: Session, tenant: Tenant, shown: Shown, by: str) -> Reason | None:
    """Return why somebody cannot decide a request, or ``None`` if they can."""
    if shown.state is not ApprovalState.WAITING:
        return Reason.NOTHING_NEW
    return _may_not_decide(session, tenant, shown.person_id, shown.requested_by, by)


def seal(session: Session, shown: Shown) -> str:
    """Return a digest of what a decision rests on: it changes with the address or the roles.

    Of the address only where it is shown. Its key is the salt of the note, so that nobody
    learns from it, by trying, whether a colleague is a patient.
    """
    email = contact_of(session, shown.person_id).email if shown.kind in WITH_CODE else ""
    held = sorted(roles_of(session, shown.person_id))
    seen = "\0".join([shown.id, shown.value, email, *held]).encode()
    return hmac.new(shown.salt, seen, hashlib.sha256).hexdigest()


def grant(
    session: Session,
    tenant: Tenant,
    approval_id: str,
    by: str,
    now: datetime,
    made: codes.FreshCode | None = None,
    *,
    seen: str,
) -> Granted:
    """Approve a request and do what was asked for.

    ``made`` is a code that was made before the transaction, ``seen`` what :func:`seal` said of
    what was looked at. Raises ``ApprovalRefused``, and has then changed nothing.
    """
    with session.begin_nested():
        shown = find(session, approval_id, now)
        found = _take(session, tenant, approval_id, by, ApprovalState.GRANTED, now)
        if shown is None or not hmac.compare_digest(seal(session, shown), seen):
            raise ApprovalRefused(Reason.CHANGED_MEANWHILE)
        _require_sense(session, tenant, found)
        why = Why(by, Reason.APPROVED_BY_SECOND_PERSON)
        note = accounts.write_note(session, found.person_id, Action.APPROVAL_GRANTED, why, now)
        try:
            return _do(session, tenant, found, note, by, now, made)
        except (AccountRefused, EmailChangeRefused) as error:
            raise ApprovalRefused(Reason.OVERTAKEN) from error


def refuse(session: Session, tenant: Tenant, approval_id: str, why: Why, now: datetime) -> Noted:
    """Refuse a request; return the note that says why. Raises ``ApprovalRefused``."""
    found = _take(session, tenant, approval_id, why.by, ApprovalState.REFUSED, now)
    return accounts.write_note(session, found.person_id, Action.APPROVAL_REFUSED, why, now)


def withdraw(session: Session, approval_id: str, by: str, now: datetime) -> None:
    """Take back a request of one's own. Raises ``ApprovalRefused``."""
    found = _find(session, approval_id)
    if found is None or found.requested_by != by:
        raise ApprovalRefused(Reason.NO_SUCH_THING)
    _settle(session, approval_id, ApprovalState.WITHDRAWN, by, now)


def expire(session: Session, now: datetime) -> int:
    """Close what nobody decided in time, with an audit event each; return how many."""
    late = session.execute(
        update(Approval)
        .where(Approval.state == ApprovalState.WAITING, Approval.expires_at <= now)
        .values(state=ApprovalState.EXPIRED, decided_at=now, value=kept_value())
        .returning(Approval.id, Approval.person_id, Approval.kind)
    ).all()
    for row in late:
        event = Event.create(
            Action.APPROVAL_EXPIRED,
            now=now,
            actor=ACTOR,
            object=row.person_id,
            reasons=[Reason.EXPIRED],
            details={"approval": row.id, "kind": row.kind},
        )
        append(session, event)
    return len(late)


def _take(
    session: Session,
    tenant: Tenant,
    approval_id: str,
    by: str,
    state: ApprovalState,
    now: datetime,
) -> _Request:
    """Make a decision one's own, if one may decide it and nobody was faster."""
    found = _find(session, approval_id)
    if found is None:
        raise ApprovalRefused(Reason.NO_SUCH_THING)
    # In one order, whoever does it, so that nobody waits in a circle.
    session.execute(
        select(Account.person_id)
        .where(Account.person_id.in_([found.person_id, found.requested_by, by]))
        .order_by(Account.person_id)
        .with_for_update()
    )
    reason = _may_not_decide(session, tenant, found.person_id, found.requested_by, by)
    if reason is not None:
        raise ApprovalRefused(reason)
    _settle(session, approval_id, state, by, now)
    return found


def _settle(
    session: Session, approval_id: str, state: ApprovalState, by: str, now: datetime
) -> None:
    """Write the end of a request. One statement decides who was first."""
    settled = session.execute(
        update(Approval)
        .where(Approval.id == approval_id, waits(now))
        .values(state=state, decided_by=by, decided_at=now, value=kept_value())
        .returning(Approval.id)
    )
    if settled.one_or_none() is None:
        raise ApprovalRefused(Reason.NOTHING_NEW)


def _may_not_decide(
    session: Session, tenant: Tenant, person_id: str, requested_by: str, by: str
) -> Reason | None:
    if by == requested_by:
        return Reason.SECOND_PERSON_NEEDED
    if by == person_id:
        return Reason.OWN_ACCOUNT
    return None if _can(session, tenant, by, Permission.APPROVALS_DECIDE) else Reason.NO_ROLE


def _require_sense(session: Session, tenant: Tenant, found: _Request) -> None:
    """Raise ``ApprovalRefused`` for a request that whoever asked could not make today."""
    known_role = powers.may_be_granted_here(found.value) and found.value in tenant.roles
    if found.kind is ApprovalKind.GRANT_ROLE and not known_role:
        raise ApprovalRefused(Reason.OVERTAKEN)
    if not _is_active(session, found.person_id):
        raise ApprovalRefused(Reason.SUSPENDED)
    if not _can(session, tenant, found.requested_by, Permission.PEOPLE_MANAGE):
        raise ApprovalRefused(Reason.OVERTAKEN)


def _can(session: Session, tenant: Tenant, person_id: str, permission: Permission) -> bool:
    """Tell whether somebody holds a permission now, with an account that is active."""
    held = roles_of(session, person_id)
    return not held.isdisjoint(powers.roles_with(tenant, permission)) and _is_active(
        session, person_id
    )


def _is_active(session: Session, person_id: str) -> bool:
    status = session.scalar(select(Account.status).where(Account.person_id == person_id))
    return status == AccountStatus.ACTIVE


def _do(
    session: Session,
    tenant: Tenant,
    found: _Request,
    note: Noted,
    by: str,
    now: datetime,
    made: codes.FreshCode | None,
) -> Granted:
    """Do what was asked for."""
    welcome, anew = None, False
    match found.kind:
        case ApprovalKind.GRANT_ROLE:
            welcome, anew = _give_role(session, tenant, found, by, now, made)
        case ApprovalKind.RESET_SECOND_FACTOR:
            # What remained would be a password alone, for whoever knows it to set up a factor
            # of their own: the person shows again what they showed at the beginning.
            remove_all_factors(session, found.person_id, now)
            accounts.begin_anew(session, found.person_id, now, by)
            anew = True
            welcome = codes.welcome(session, tenant, found.person_id, now, by=by, made=made)
        case ApprovalKind.CHANGE_EMAIL:
            email_change.request_by_staff(
                session,
                found.person_id,
                found.value,
                found.requested_by,
                by,
                now,
                tenant.email_delay,
            )
        case ApprovalKind.ISSUE_CODE:
            welcome = hand_over(session, tenant, found.person_id, by, now, made)
    return Granted(
        found.kind,
        found.person_id,
        found.value,
        found.reason,
        found.requested_by,
        note,
        welcome,
        anew,
    )


def _give_role(
    session: Session,
    tenant: Tenant,
    found: _Request,
    by: str,
    now: datetime,
    made: codes.FreshCode | None,
) -> tuple[codes.Welcome | None, bool]:
    """Give a guarded role, and to an account that was not vouched for a new beginning."""
    vouched = powers.is_vouched_for(tenant, roles_of(session, found.person_id))
    accounts.grant_role(session, found.person_id, found.value, by=found.requested_by, now=now)
    if vouched:
        return None, False
    anew = accounts.has_password(session, found.person_id)
    accounts.begin_anew(session, found.person_id, now, by)
    return codes.welcome(session, tenant, found.person_id, now, by=by, made=made), anew


def hand_over(
    session: Session,
    tenant: Tenant,
    person_id: str,
    by: str,
    now: datetime,
    made: codes.FreshCode | None = None,
) -> codes.Welcome:
    """Issue a code, and mail the link that goes with it to whoever has an address."""
    code = codes.issue_code(session, person_id, by, now, made)
    email = contact_of(session, person_id).email
    return codes.Welcome(
        code, codes.needs_link(tenant, email) and send_link(session, person_id, now)
    )


def _find(session: Session, approval_id: str) -> _Request | None:
    row = session.execute(
        select(
            Approval.id,
            Approval.kind,
            Approval.person_id,
            Approval.value,
            Approval.requested_by,
            AccountNote.reason,
        )
        .join(AccountNote, AccountNote.id == Approval.note_id)
        .where(Approval.id == approval_id)
    ).one_or_none()
    if row is None:
        return None
    return _Request(
        row.id,
        ApprovalKind(row.kind),
        row.person_id,
        row.value,
        row.requested_by,
        Reason(row.reason),
    )


_Requester = aliased(Person)
_Decider = aliased(Person)


def _query() -> Select[Approval, str, str, str | None, str, str, bytes]:
    return (
        select(
            Approval,
            Person.name.label("person_name"),
            _Requester.name.label("requester_name"),
            _Decider.name.label("decider_name"),
            AccountNote.reason,
            AccountNote.note,
            AccountNote.salt,
        )
        .join(Person, Person.id == Approval.person_id)
        .join(_Requester, _Requester.id == Approval.requested_by)
        .outerjoin(_Decider, _Decider.id == Approval.decided_by)
        .join(AccountNote, AccountNote.id == Approval.note_id)
    )


def _shown(
    session: Session, query: Select[Approval, str, str, str | None, str, str, bytes], now: datetime
) -> list[Shown]:
    return [
        Shown(
            id=approval.id,
            kind=ApprovalKind(approval.kind),
            person_id=approval.person_id,
            person_name=person_name,
            value=approval.value,
            state=_state(approval, now),
            requested_by=approval.requested_by,
            requester_name=requester_name,
            requested_at=approval.requested_at,
            expires_at=approval.expires_at,
            decider_name=decider_name,
            decided_at=approval.decided_at,
            reason=reason,
            note=note,
            salt=salt,
        )
        for (
            approval,
            person_name,
            requester_name,
            decider_name,
            reason,
            note,
            salt,
        ) in session.execute(query)
    ]


def _state(approval: Approval, now: datetime) -> ApprovalState:
    state = ApprovalState(approval.state)
    late = state is ApprovalState.WAITING and approval.expires_at <= now
    return ApprovalState.EXPIRED if late else state
