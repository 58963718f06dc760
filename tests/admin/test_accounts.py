"""What administrators do with accounts: rules, traces, and what ends at once."""

import hashlib
import threading
from datetime import timedelta

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from medportal.admin import approvals
from medportal.admin.models import ApprovalKind
from medportal.audit.events import Action, Event
from medportal.audit.models import AuditEvent
from medportal.core.identity import Method
from medportal.core.reasons import Reason
from medportal.identity import accounts, codes, email_change, sessions
from medportal.identity.credentials import credentials
from medportal.identity.errors import AccountRefused
from medportal.identity.factors import second_factors
from medportal.identity.models import (
    Account,
    AccountNote,
    AccountStatus,
    Activation,
    EmailChange,
    LoginSession,
    Passkey,
    RecoveryCode,
    RoleGrant,
    Totp,
)
from medportal.identity.people import roles_of
from medportal.mail.kinds import MailKind
from medportal.mail.models import OutgoingMail

MANAGING = {"admin"}
BROWSER = sessions.Browser("Firefox", "127.0.0.1", True)


def sign_in(session, person, now):
    methods = frozenset({Method.PASSWORD})
    return sessions.open_session(session, person, now, methods=methods, browser=BROWSER)[1]


def open_sessions(session, person):
    query = select(func.count()).select_from(LoginSession).where(LoginSession.person_id == person)
    return session.scalar(query)


def mails(session, person):
    session.flush()
    query = select(OutgoingMail.kind).where(OutgoingMail.person_id == person)
    return sorted(session.scalars(query))


def status(session, person):
    return session.scalar(select(Account.status).where(Account.person_id == person))


def refused(reason):
    return pytest.raises(AccountRefused, match=f"^{reason}$")


def test_a_role_that_is_given(session, somebody, now):
    admin, person = somebody(session, "admin"), somebody(session, "porter")
    sign_in(session, person, now)
    accounts.grant_role(session, person, "volunteer", by=admin, now=now)
    assert roles_of(session, person) == {"porter", "volunteer"}
    grant = session.get(RoleGrant, (person, "volunteer"))
    assert (grant.granted_by, grant.granted_at) == (admin, now)
    assert open_sessions(session, person) == 0
    assert mails(session, person) == [MailKind.ROLES_CHANGED]
    with refused(Reason.NOTHING_NEW):
        accounts.grant_role(session, person, "volunteer", by=admin, now=now)


def test_whoever_has_not_activated_yet_gets_no_mail_about_roles(session, somebody, now):
    admin, person = somebody(session, "admin"), somebody(session, "porter", active=False)
    accounts.grant_role(session, person, "volunteer", by=admin, now=now)
    assert mails(session, person) == []


def test_a_role_that_is_taken(session, somebody, now):
    admin, person = somebody(session, "admin"), somebody(session, "porter", "volunteer")
    sign_in(session, person, now)
    accounts.revoke_role(session, person, "porter", managing=MANAGING, by=admin, now=now)
    assert roles_of(session, person) == {"volunteer"}
    assert open_sessions(session, person) == 0
    assert mails(session, person) == [MailKind.ROLES_CHANGED]
    with refused(Reason.NOTHING_NEW):
        accounts.revoke_role(session, person, "porter", managing=MANAGING, by=admin, now=now)


def test_a_suspended_account_opens_for_nobody(session, somebody, now, hospital):
    admin, person = somebody(session, "admin"), somebody(session, "porter")
    token = sign_in(session, person, now)
    codes.issue_code(session, person, admin, now)
    accounts.suspend(session, person, managing=MANAGING, by=admin, now=now)
    assert status(session, person) == AccountStatus.SUSPENDED
    assert sessions.find_session(session, hospital, token, now) is None
    assert open_sessions(session, person) == 0
    assert session.scalar(select(func.count()).select_from(Activation)) == 0
    assert mails(session, person) == [MailKind.ACCOUNT_SUSPENDED]
    assert roles_of(session, person) == {"porter"}, "it comes back with the account"
    with refused(Reason.NOTHING_NEW):
        accounts.suspend(session, person, managing=MANAGING, by=admin, now=now)
    with refused(Reason.SUSPENDED):
        accounts.grant_role(session, person, "volunteer", by=admin, now=now)


def _ask_everything(session, person, asker, now, why):
    """Ask for one of each kind about somebody; add a change of address that was approved."""
    for kind in ApprovalKind:
        value = "doctor" if kind is ApprovalKind.GRANT_ROLE else ""
        approvals.request(session, kind, person, value, why(asker), now)
    email_change.request_by_staff(
        session, person, "new@example.org", "c" * 32, "d" * 32, now, timedelta(hours=1)
    )
    session.flush()


@pytest.mark.parametrize("deed", ["suspend", "revoke", "anew"])
def test_what_waits_about_somebody_ends(session, somebody, now, why, deed):
    admin, person = somebody(session, "admin"), somebody(session, "porter")
    other = somebody(session, "porter", name="Other")
    for who in (person, other):
        _ask_everything(session, who, admin, now, why)
    if deed == "suspend":
        accounts.suspend(session, person, managing=MANAGING, by=admin, now=now)
    elif deed == "revoke":
        accounts.revoke_role(session, person, "porter", managing=MANAGING, by=admin, now=now)
    else:
        accounts.begin_anew(session, person, now, admin)
    left = {shown.kind for shown in approvals.waiting_for(session, person, now)}
    # A role opens nothing by itself: somebody who begins anew may still be given it.
    assert left == ({ApprovalKind.GRANT_ROLE} if deed == "anew" else set())
    assert len(approvals.waiting_for(session, other, now)) == len(ApprovalKind)
    assert len(email_change.pending_changes(session, person, now)) == (deed == "revoke")
    assert len(email_change.pending_changes(session, other, now)) == 1
    bodies = session.scalars(
        select(AuditEvent.body).where(
            AuditEvent.action == "approval-withdrawn", AuditEvent.object == person
        )
    )
    events = [Event.from_bytes(body) for body in bodies]
    assert {event.details["kind"] for event in events} == set(ApprovalKind) - left
    assert {(event.actor, event.reasons) for event in events} == {(admin, ("overtaken",))}


def test_an_account_is_reinstated_once(session, somebody, now):
    admin, person = somebody(session, "admin"), somebody(session, "porter")
    with refused(Reason.NOTHING_NEW):
        accounts.reinstate(session, person, by=admin, now=now)
    accounts.suspend(session, person, managing=MANAGING, by=admin, now=now)
    accounts.reinstate(session, person, by=admin, now=now)
    assert status(session, person) == AccountStatus.ACTIVE
    assert MailKind.ACCOUNT_REINSTATED in mails(session, person)


def test_signing_somebody_out_leaves_others_alone(session, somebody, now):
    admin, person = somebody(session, "admin"), somebody(session, "porter")
    for who in (person, person, admin):
        sign_in(session, who, now)
    assert accounts.sign_out_everywhere(session, person, by=admin) == 2
    assert (open_sessions(session, person), open_sessions(session, admin)) == (0, 1)


@pytest.mark.parametrize(
    "deed",
    [
        lambda s, p, now: accounts.grant_role(s, p, "volunteer", by=p, now=now),
        lambda s, p, now: accounts.revoke_role(s, p, "admin", managing=MANAGING, by=p, now=now),
        lambda s, p, now: accounts.suspend(s, p, managing=MANAGING, by=p, now=now),
        lambda s, p, now: accounts.reinstate(s, p, by=p, now=now),
        lambda s, p, now: accounts.sign_out_everywhere(s, p, by=p),
        lambda s, p, now: accounts.require_active(s, p, by=p),
    ],
)
def test_nobody_does_any_of_it_to_themselves(session, somebody, now, deed):
    somebody(session, "admin")
    person = somebody(session, "admin")
    with refused(Reason.OWN_ACCOUNT):
        deed(session, person, now)
    assert roles_of(session, person) == {"admin"}


@pytest.mark.parametrize("other", ["nobody", "suspended", "not-activated", "another-role"])
def test_the_last_administrator_stays(session, somebody, now, other):
    last, by = somebody(session, "admin"), somebody(session, "porter")
    if other == "suspended":
        colleague = somebody(session, "admin")
        accounts.suspend(session, colleague, managing=MANAGING, by=last, now=now)
    elif other == "not-activated":
        somebody(session, "admin", active=False)
    elif other == "another-role":
        somebody(session, "privacy_officer")
    with refused(Reason.LAST_ADMIN):
        accounts.suspend(session, last, managing=MANAGING, by=by, now=now)
    with refused(Reason.LAST_ADMIN):
        accounts.revoke_role(session, last, "admin", managing=MANAGING, by=by, now=now)
    assert roles_of(session, last) == {"admin"}
    assert status(session, last) == AccountStatus.ACTIVE
    # Others may go, and so may the last one as soon as there is another.
    accounts.suspend(session, by, managing=MANAGING, by=last, now=now)
    accounts.suspend(session, last, managing=MANAGING, by=somebody(session, "admin"), now=now)


def test_two_administrators_who_remove_each_other(engine, somebody, now):
    with Session(engine) as session, session.begin():
        pair = [somebody(session, "admin"), somebody(session, "admin")]
    barrier, told = threading.Barrier(2), []

    def remove(by, person):
        barrier.wait(10)
        try:
            with Session(engine) as session, session.begin():
                accounts.revoke_role(session, person, "admin", managing=MANAGING, by=by, now=now)
                told.append("removed")
        except AccountRefused as error:
            told.append(str(error.reason))

    threads = [threading.Thread(target=remove, args=turn) for turn in (pair, pair[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    with Session(engine) as session:
        left = session.scalars(select(RoleGrant.person_id).where(RoleGrant.role == "admin")).all()
    assert sorted(told) == [str(Reason.LAST_ADMIN), "removed"]
    assert len(left) == 1


def test_an_account_that_begins_anew(session, somebody, now):
    person = somebody(session, "porter")
    sign_in(session, person, now)
    codes.issue_code(session, person, None, now)
    session.add_all(
        [
            Totp(person_id=person, sealed_secret=b"s", confirmed_at=now, last_step=None),
            Passkey(
                id="1" * 32,
                person_id=person,
                credential_id=b"c",
                public_key=b"k",
                sign_count=0,
                transports="",
                backed_up=False,
                name="key",
                created_at=now,
            ),
            EmailChange(
                id="2" * 32,
                person_id=person,
                new_email="elsewhere@example.org",
                requested_by=person,
                requested_at=now,
                link_hash=b"l" * 32,
            ),
        ]
    )
    session.flush()
    accounts.begin_anew(session, person, now + timedelta(minutes=1), None)
    assert credentials(session, "citizen-card", "20000000").password_hash is None
    assert not accounts.has_password(session, person)
    assert second_factors(session, person) == frozenset()
    for model in (Activation, Totp, Passkey, RecoveryCode, LoginSession):
        assert session.scalar(select(func.count()).select_from(model)) == 0, model
    session.expire_all()
    change = session.get(EmailChange, "2" * 32)
    assert change.cancelled_at is not None and change.link_hash is None
    assert mails(session, person) == [MailKind.SECOND_FACTOR_REMOVED]
    assert roles_of(session, person) == {"porter"}


def test_whoever_begins_anew_without_a_second_factor_is_told_of_none(session, somebody, now):
    person = somebody(session, "porter")
    session.add(Totp(person_id=person, pending_secret=b"begun", pending_at=now))
    session.flush()
    accounts.begin_anew(session, person, now, None)
    assert mails(session, person) == []
    assert session.scalar(select(func.count()).select_from(Totp)) == 0


def test_a_note_and_what_the_audit_log_says_of_it(session, somebody, now, why):
    admin, person = somebody(session, "admin"), somebody(session, "porter")
    said = why(admin, Reason.LEFT, "left on Friday, é")
    noted = accounts.write_note(session, person, Action.ACCOUNT_SUSPENDED, said, now)
    session.flush()
    row = session.get(AccountNote, noted.id)
    assert (row.person_id, row.by, row.at) == (person, admin, now)
    assert (row.action, row.reason, row.note) == ("account-suspended", "left", "left on Friday, é")
    expected = hashlib.sha256(row.salt + "left on Friday, é".encode()).hexdigest()
    assert noted.commitment == expected
    assert noted.details == {"note": noted.id, "commitment": expected}
    again = accounts.write_note(session, person, Action.ACCOUNT_SUSPENDED, said, now)
    assert again.commitment != noted.commitment, "equal notes are not seen to be equal"


def test_a_code_and_a_role_at_one_moment_come_one_after_the_other(engine, somebody, now):
    """Whoever looks at the roles before a code is issued must not miss one that is being given."""
    with Session(engine) as session, session.begin():
        admin, person = somebody(session, "admin"), somebody(session, "porter")
    seen, locked, release = [], threading.Event(), threading.Event()

    def give():
        with Session(engine) as session, session.begin():
            accounts.grant_role(session, person, "doctor", by=admin, now=now)
            session.flush()
            locked.set()
            release.wait(10)

    def look():
        locked.wait(10)
        with Session(engine) as session, session.begin():
            release.set()
            accounts.require_active(session, person, by=admin)
            seen.append(roles_of(session, person))

    threads = [threading.Thread(target=work) for work in (give, look)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert seen == [{"porter", "doctor"}]
