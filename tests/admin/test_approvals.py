"""What one asks for and another decides: rules, races, and what comes of it."""

import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from medportal.admin import approvals, service
from medportal.admin.errors import ApprovalRefused
from medportal.admin.models import Approval, ApprovalKind, ApprovalState
from medportal.audit.models import AuditEvent
from medportal.core.reasons import Reason
from medportal.identity import accounts, directory
from medportal.identity.codes import check_code, check_link_and_code
from medportal.identity.errors import AccountRefused, LinkNeeded
from medportal.identity.factors import second_factors
from medportal.identity.links import mint
from medportal.identity.models import (
    AccountNote,
    Activation,
    EmailChange,
    Person,
    RoleGrant,
    Totp,
)
from medportal.identity.people import roles_of
from medportal.mail.kinds import MailKind
from medportal.mail.models import OutgoingMail

MANAGING = {"admin"}
SECOND = timedelta(seconds=1)


class Staff:
    """Two administrators, a privacy officer, and the one it is all about."""

    def __init__(self, session, somebody, *roles, **kw):
        self.asker = somebody(session, "admin", name="Asker")
        self.other = somebody(session, "admin", name="Other")
        self.officer = somebody(session, "privacy_officer", name="Officer")
        self.person = somebody(session, *(roles or ("porter",)), **kw)


@pytest.fixture
def staff(session, somebody):
    return Staff(session, somebody)


def ask(session, staff, why, now, kind=ApprovalKind.GRANT_ROLE, value="doctor", by=None):
    said = why(by or staff.asker, Reason.NEW_DUTY, "she starts on Monday")
    asked = approvals.request(session, kind, staff.person, value, said, now)
    session.flush()
    return asked.id


def approve(session, tenant, approval_id, by, at, made=None):
    """Approve what is there to be seen now."""
    shown = approvals.find(session, approval_id, at)
    seen = approvals.seal(session, shown) if shown else ""
    return approvals.grant(session, tenant, approval_id, by, at, made, seen=seen)


def refused(reason):
    return pytest.raises(ApprovalRefused, match=f"^{reason}$")


def state(session, approval_id):
    session.expire_all()
    return session.get(Approval, approval_id).state


def count(session, model):
    return session.scalar(select(func.count()).select_from(model))


# -- asking -----------------------------------------------------------------------------------


def test_a_request_waits_and_says_who_what_whom_and_why(session, staff, why, now):
    asked = ask(session, staff, why, now)
    (shown,) = approvals.waiting(session, now)
    assert (shown.id, shown.kind, shown.value) == (asked, ApprovalKind.GRANT_ROLE, "doctor")
    assert (shown.person_id, shown.person_name) == (staff.person, "Amanda Júlio")
    assert (shown.requested_by, shown.requester_name) == (staff.asker, "Asker")
    assert (shown.requested_at, shown.expires_at) == (now, now + approvals.LIFETIME)
    assert (shown.reason, shown.note) == ("new-duty", "she starts on Monday")
    assert shown.state is ApprovalState.WAITING and shown.decider_name is None
    assert approvals.find(session, asked, now) == shown
    assert approvals.waiting_for(session, staff.person, now) == [shown]
    assert approvals.waiting_for(session, staff.asker, now) == []
    assert approvals.recent(session, now) == []
    assert roles_of(session, staff.person) == {"porter"}, "nothing has happened yet"


def test_the_same_is_asked_for_once(session, staff, why, now):
    first = ask(session, staff, why, now)
    with refused(Reason.NOTHING_NEW):
        ask(session, staff, why, now, by=staff.other)
    ask(session, staff, why, now, value="nurse")
    ask(session, staff, why, now, ApprovalKind.CHANGE_EMAIL, "new@example.org")
    with refused(Reason.NOTHING_NEW):
        ask(session, staff, why, now, ApprovalKind.CHANGE_EMAIL, "other@example.org")
    approvals.withdraw(session, first, staff.asker, now)
    ask(session, staff, why, now)
    # What nobody decided in time stands in nobody's way.
    ask(session, staff, why, now + approvals.LIFETIME)


def test_nobody_asks_for_themselves_or_for_whoever_is_suspended(session, staff, why, now):
    staff.person = staff.asker
    with pytest.raises(AccountRefused, match=f"^{Reason.OWN_ACCOUNT}$"):
        ask(session, staff, why, now)
    staff.person = staff.officer
    accounts.suspend(session, staff.officer, managing=MANAGING, by=staff.asker, now=now)
    with pytest.raises(AccountRefused, match=f"^{Reason.SUSPENDED}$"):
        ask(session, staff, why, now)
    assert count(session, Approval) == count(session, AccountNote) == 0


def test_the_same_asked_for_twice_at_one_moment(engine, somebody, why, now):
    with Session(engine) as session, session.begin():
        staff = Staff(session, somebody)
    barrier, told = threading.Barrier(2), []

    def click(by):
        barrier.wait(10)
        try:
            with Session(engine) as session, session.begin():
                ask(session, staff, why, now, by=by)
                told.append("asked")
        except ApprovalRefused as error:
            told.append(error.reason)

    run(click, [(staff.asker,), (staff.other,)])
    assert sorted(told) == ["asked", Reason.NOTHING_NEW]


# -- deciding ---------------------------------------------------------------------------------


@pytest.mark.parametrize("decider", ["other", "officer"])
def test_a_role_is_given_when_a_second_person_agrees(session, staff, why, now, hospital, decider):
    asked = ask(session, staff, why, now)
    by = getattr(staff, decider)
    granted = approve(session, hospital, asked, by, now + SECOND)
    assert roles_of(session, staff.person) == {"porter", "doctor"}
    assert session.get(RoleGrant, (staff.person, "doctor")).granted_by == staff.asker
    assert (granted.kind, granted.value) == (ApprovalKind.GRANT_ROLE, "doctor")
    assert (granted.reason, granted.requested_by) == (Reason.NEW_DUTY, staff.asker)
    assert state(session, asked) == ApprovalState.GRANTED
    (shown,) = approvals.recent(session, now)
    assert (shown.decided_at, shown.state) == (now + SECOND, ApprovalState.GRANTED)
    assert shown.decider_name == decider.title()
    assert approvals.waiting(session, now) == []


@pytest.mark.parametrize("deed", ["grant", "refuse"])
@pytest.mark.parametrize(
    ("decider", "reason"),
    [
        ("asker", Reason.SECOND_PERSON_NEEDED),
        ("person", Reason.OWN_ACCOUNT),
        ("porter", Reason.NO_ROLE),
        ("doctor", Reason.NO_ROLE),
        ("ward_clerk", Reason.NO_ROLE),
        ("patient", Reason.NO_ROLE),
        ("former", Reason.NO_ROLE),
        ("suspended", Reason.NO_ROLE),
        ("nobody", Reason.NO_ROLE),
    ],
)
def test_who_cannot_decide(session, somebody, why, now, hospital, decider, reason, deed):
    staff = Staff(session, somebody, "admin")
    asked = ask(session, staff, why, now)
    if decider in {"asker", "person"}:
        by = getattr(staff, decider)
    elif decider == "former":
        by = staff.other
        accounts.revoke_role(session, by, "admin", managing=MANAGING, by=staff.asker, now=now)
    elif decider == "suspended":
        by = staff.other
        accounts.suspend(session, by, managing=MANAGING, by=staff.asker, now=now)
    else:
        by = "0" * 32 if decider == "nobody" else somebody(session, decider)
    shown = approvals.find(session, asked, now)
    assert approvals.why_not(session, hospital, shown, by) is reason
    with refused(reason):
        if deed == "grant":
            approve(session, hospital, asked, by, now)
        else:
            approvals.refuse(session, hospital, asked, why(by, Reason.WRONG_DATA), now)
    assert state(session, asked) == ApprovalState.WAITING
    assert roles_of(session, staff.person) == {"admin"}


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("role-gone", Reason.OVERTAKEN),
        ("role-patient", Reason.OVERTAKEN),
        ("role-held", Reason.OVERTAKEN),
        ("requester-suspended", Reason.OVERTAKEN),
        ("requester-demoted", Reason.OVERTAKEN),
    ],
)
def test_what_no_longer_makes_sense_is_not_granted(
    session, staff, why, now, hospital, what, reason
):
    asked = ask(session, staff, why, now, value="patient" if what == "role-patient" else "doctor")
    if what == "role-gone":
        roles = {k: v for k, v in hospital.roles.items() if k != "doctor"}
        hospital = replace(hospital, roles=roles)
    elif what == "role-held":
        accounts.grant_role(session, staff.person, "doctor", by=staff.other, now=now)
    elif what == "requester-suspended":
        accounts.suspend(session, staff.asker, managing=MANAGING, by=staff.other, now=now)
    elif what == "requester-demoted":
        accounts.revoke_role(
            session, staff.asker, "admin", managing=MANAGING, by=staff.other, now=now
        )
    before = roles_of(session, staff.person), count(session, AccountNote)
    with refused(reason):
        approve(session, hospital, asked, staff.officer, now)
    assert state(session, asked) == ApprovalState.WAITING, "it can still be refused"
    assert (roles_of(session, staff.person), count(session, AccountNote)) == before
    approvals.refuse(session, hospital, asked, why(staff.officer, Reason.NOT_AGREED), now)
    assert state(session, asked) == ApprovalState.REFUSED


def test_a_refusal_is_kept_with_its_reason_and_changes_nothing(session, staff, why, now, hospital):
    asked = ask(session, staff, why, now)
    said = why(staff.officer, Reason.NOT_AGREED, "nobody knows of it")
    note = approvals.refuse(session, hospital, asked, said, now + SECOND)
    assert roles_of(session, staff.person) == {"porter"}
    assert state(session, asked) == ApprovalState.REFUSED
    session.flush()
    lines = [
        (line.action, line.reason, line.note) for line in directory.notes_of(session, staff.person)
    ]
    assert lines[0] == ("approval-refused", "not-agreed", "nobody knows of it")
    assert note.reason is Reason.NOT_AGREED


@pytest.mark.parametrize("first", ["grant", "refuse", "withdraw", "expire"])
@pytest.mark.parametrize("then", ["grant", "refuse", "withdraw"])
def test_what_was_decided_stays_decided(session, staff, why, now, hospital, first, then):
    asked = ask(session, staff, why, now)

    def decide(how, by, at):
        if how == "grant":
            approve(session, hospital, asked, by, at)
        elif how == "refuse":
            approvals.refuse(session, hospital, asked, why(by, Reason.WRONG_DATA), at)
        elif how == "withdraw":
            approvals.withdraw(session, asked, staff.asker, at)

    at = now + approvals.LIFETIME if first == "expire" else now
    decide(first, staff.other, at)
    kept = state(session, asked)
    with refused(Reason.NOTHING_NEW):
        decide(then, staff.officer, at)
    assert state(session, asked) == kept
    assert approvals.find(session, asked, at).state == (
        ApprovalState.EXPIRED if first == "expire" else kept
    )
    assert (
        approvals.why_not(session, hospital, approvals.find(session, asked, at), staff.officer)
        is Reason.NOTHING_NEW
    )


def test_only_whoever_asked_withdraws(session, staff, why, now):
    asked = ask(session, staff, why, now)
    for by in (staff.other, staff.officer, staff.person):
        with refused(Reason.NO_SUCH_THING):
            approvals.withdraw(session, asked, by, now)
    approvals.withdraw(session, asked, staff.asker, now)
    assert state(session, asked) == ApprovalState.WITHDRAWN


def test_requests_that_do_not_exist(session, staff, why, now, hospital):
    assert approvals.find(session, "0" * 32, now) is None
    with refused(Reason.NO_SUCH_THING):
        approve(session, hospital, "0" * 32, staff.other, now)
    with refused(Reason.NO_SUCH_THING):
        approvals.refuse(session, hospital, "0" * 32, why(staff.other), now)
    with refused(Reason.NO_SUCH_THING):
        approvals.withdraw(session, "0" * 32, staff.other, now)


def test_two_weeks_and_not_a_moment_longer(session, staff, why, now, hospital):
    asked = ask(session, staff, why, now)
    last = now + approvals.LIFETIME - timedelta(microseconds=1)
    assert approvals.expire(session, last) == 0
    assert [shown.id for shown in approvals.waiting(session, last)] == [asked]
    assert approvals.waiting(session, now + approvals.LIFETIME) == []
    assert approvals.expire(session, now + approvals.LIFETIME) == 1
    assert approvals.expire(session, now + approvals.LIFETIME) == 0
    assert state(session, asked) == ApprovalState.EXPIRED
    (event,) = session.scalars(select(AuditEvent))
    assert (event.action, event.object) == ("approval-expired", staff.person)


@pytest.mark.parametrize("end", ["refuse", "withdraw", "expire"])
def test_an_address_that_was_asked_for_in_vain_is_forgotten(
    session, staff, why, now, hospital, end
):
    asked = ask(session, staff, why, now, ApprovalKind.CHANGE_EMAIL, "new@example.org")
    if end == "refuse":
        approvals.refuse(session, hospital, asked, why(staff.other, Reason.WRONG_DATA), now)
    elif end == "withdraw":
        approvals.withdraw(session, asked, staff.asker, now)
    else:
        approvals.expire(session, now + approvals.LIFETIME)
    session.expire_all()
    assert session.get(Approval, asked).value == ""


def test_granted_in_the_last_moment(session, staff, why, now, hospital):
    asked = ask(session, staff, why, now)
    last = now + approvals.LIFETIME - timedelta(microseconds=1)
    approve(session, hospital, asked, staff.other, last)
    assert "doctor" in roles_of(session, staff.person)


@pytest.mark.parametrize("pair", ["grant-grant", "grant-refuse", "grant-withdraw"])
def test_two_who_decide_at_one_moment_get_one_outcome(engine, somebody, why, now, hospital, pair):
    with Session(engine) as session, session.begin():
        staff = Staff(session, somebody)
        asked = ask(session, staff, why, now)
    barrier, told = threading.Barrier(2), []

    def decide(how, by):
        barrier.wait(10)
        try:
            with Session(engine) as session, session.begin():
                if how == "grant":
                    approve(session, hospital, asked, by, now)
                elif how == "refuse":
                    approvals.refuse(session, hospital, asked, why(by, Reason.WRONG_DATA), now)
                else:
                    approvals.withdraw(session, asked, staff.asker, now)
            told.append(how)
        except ApprovalRefused as error:
            told.append(error.reason)

    first, second = pair.split("-")
    run(decide, [(first, staff.other), (second, staff.officer)])
    assert len(told) == 2 and told.count(Reason.NOTHING_NEW) == 1
    with Session(engine) as session:
        is_doctor = "doctor" in roles_of(session, staff.person)
        codes_issued = count(session, Activation)
        final = session.get(Approval, asked).state
    won = next(entry for entry in told if entry != Reason.NOTHING_NEW)
    assert is_doctor == (won == "grant") == (final == ApprovalState.GRANTED)
    assert codes_issued == int(is_doctor)


def test_a_requester_who_is_removed_at_that_moment(engine, somebody, why, now, hospital):
    """Either it was granted before, or it no longer makes sense: never after."""
    with Session(engine) as session, session.begin():
        staff = Staff(session, somebody)
        asked = ask(session, staff, why, now)
    barrier, order = threading.Barrier(2), []

    def grant():
        barrier.wait(10)
        with Session(engine) as session, session.begin():
            try:
                approve(session, hospital, asked, staff.officer, now)
                order.append("granted")
            except ApprovalRefused as error:
                order.append(error.reason)

    def remove():
        barrier.wait(10)
        with Session(engine) as session, session.begin():
            accounts.suspend(session, staff.asker, managing=MANAGING, by=staff.other, now=now)

    threads = [threading.Thread(target=work) for work in (grant, remove)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert order in (["granted"], [Reason.OVERTAKEN])
    with Session(engine) as session:
        assert ("doctor" in roles_of(session, staff.person)) == (order == ["granted"])


def run(work, turns):
    threads = [threading.Thread(target=work, args=turn) for turn in turns]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)


# -- what comes of it -------------------------------------------------------------------------


def test_an_account_that_two_people_vouch_for_now_begins_anew(
    session, somebody, why, now, hospital
):
    """One administrator may have set it up: what they know opens it no longer."""
    staff = Staff(session, somebody, "porter")
    own = service.new_code(session, hospital, staff.person, why(staff.asker), now)[1].code
    planted = mint(session, MailKind.RESET, staff.person, {}, now)
    session.add(Totp(person_id=staff.person, sealed_secret=b"s", confirmed_at=now))
    asked = ask(session, staff, why, now)
    granted = approve(session, hospital, asked, staff.other, now)
    assert granted.anew and granted.welcome.mail_sent
    assert not accounts.has_password(session, staff.person)
    assert second_factors(session, staff.person) == frozenset()
    for kind in (MailKind.RESET, MailKind.ACTIVATION):
        for code in (own, granted.welcome.code):
            with pytest.raises(Exception, match="activation refused"):
                check_link_and_code(session, kind, planted, code, now)
    number = directory.details(session, "citizen-card", staff.person).number
    with pytest.raises(LinkNeeded):
        check_code(session, hospital, number, granted.welcome.code, now)
    link = mint(session, MailKind.ACTIVATION, staff.person, {}, now)
    shown = check_link_and_code(session, MailKind.ACTIVATION, link, granted.welcome.code, now)
    assert shown.person_id == staff.person and shown.is_new


def test_somebody_new_gets_the_first_code_by_whoever_approves(
    session, somebody, why, now, hospital
):
    staff = Staff(session, somebody, "porter", active=False)
    granted = approve(session, hospital, ask(session, staff, why, now), staff.other, now)
    assert granted.welcome.code and not granted.anew
    assert session.scalar(select(Activation.code_by)) == staff.other


@pytest.mark.parametrize("held", [("nurse",), ("ward_clerk", "porter")])
def test_whoever_was_vouched_for_keeps_the_account(session, somebody, why, now, hospital, held):
    staff = Staff(session, somebody, *held)
    session.add(Totp(person_id=staff.person, sealed_secret=b"s", confirmed_at=now))
    granted = approve(session, hospital, ask(session, staff, why, now), staff.other, now)
    assert granted.welcome is None and not granted.anew
    assert accounts.has_password(session, staff.person)
    assert second_factors(session, staff.person)


def test_a_patient_who_comes_to_work_here_begins_anew(session, somebody, why, now, hospital):
    staff = Staff(session, somebody, "patient")
    granted = approve(session, hospital, ask(session, staff, why, now), staff.other, now)
    assert granted.anew and granted.welcome.code
    assert roles_of(session, staff.person) == {"patient", "doctor"}


def test_second_factors_are_removed(session, somebody, why, now, hospital):
    staff = Staff(session, somebody, "doctor")
    session.add(Totp(person_id=staff.person, sealed_secret=b"s", confirmed_at=now))
    session.flush()
    asked = ask(session, staff, why, now, ApprovalKind.RESET_SECOND_FACTOR, "")
    assert second_factors(session, staff.person)
    granted = approve(session, hospital, asked, staff.officer, now)
    assert second_factors(session, staff.person) == frozenset()
    # A password that somebody else may know is not left alone.
    assert granted.anew and granted.welcome.code
    assert not accounts.has_password(session, staff.person)


def test_an_address_changes_only_after_a_delay(session, somebody, why, now, hospital):
    staff = Staff(session, somebody, "doctor", email="old@example.org")
    asked = ask(session, staff, why, now, ApprovalKind.CHANGE_EMAIL, "new@example.org")
    approve(session, hospital, asked, staff.officer, now)
    session.flush()
    (change,) = session.scalars(select(EmailChange))
    assert (change.new_email, change.requested_by) == ("new@example.org", staff.asker)
    assert change.approved_by == staff.officer
    assert change.effective_at == now + hospital.email_delay
    assert session.get(Person, staff.person).email == "old@example.org"
    to = session.scalars(
        select(OutgoingMail.address).where(OutgoingMail.kind == MailKind.EMAIL_BY_STAFF)
    ).all()
    assert to == ["old@example.org"]
    session.expire_all()
    assert session.get(Approval, asked).value == "", (
        "an address is kept no longer than it is needed"
    )


def test_the_address_that_somebody_has_is_no_change(session, somebody, why, now, hospital):
    staff = Staff(session, somebody, "doctor", email="old@example.org")
    asked = ask(session, staff, why, now, ApprovalKind.CHANGE_EMAIL, "OLD@example.org")
    with refused(Reason.OVERTAKEN):
        approve(session, hospital, asked, staff.officer, now)
    assert state(session, asked) == ApprovalState.WAITING


def test_a_code_is_issued_to_whoever_approves(session, somebody, why, now, hospital):
    staff = Staff(session, somebody, "doctor", email="")
    asked = ask(session, staff, why, now, ApprovalKind.ISSUE_CODE, "")
    granted = approve(session, hospital, asked, staff.officer, now)
    assert granted.welcome.code and not granted.welcome.mail_sent
    assert session.scalar(select(Activation.code_by)) == staff.officer
    assert accounts.has_password(session, staff.person), "the old one holds until the code is used"
