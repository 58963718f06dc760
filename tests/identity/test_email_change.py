"""Changing a mail address: by its holder, by two members of staff after a delay."""

import threading
from datetime import date, timedelta

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from medportal.core.reasons import Reason
from medportal.identity import codes, email_change, links, people
from medportal.identity.errors import ActivationRefused, EmailChangeRefused
from medportal.identity.models import Account, AccountStatus, EmailChange, Person
from medportal.mail.kinds import MailKind
from medportal.mail.models import OutgoingMail

OLD, NEW, OTHER = "old@example.org", "new@example.org", "other@example.org"
DELAY = timedelta(hours=72)
HOUR = timedelta(hours=1)
CLERK, COLLEAGUE = "c" * 32, "d" * 32
ALMOST = timedelta(microseconds=1)


def enter(session, now, number="17645234", email=OLD):
    return people.register_person(
        session,
        scheme="citizen-card",
        number=number,
        profile=people.Profile("Ana", date(1980, 2, 3), "female", email=email),
        role="patient",
        by=None,
        now=now,
    ).person_id


@pytest.fixture
def ana(session, now):
    return enter(session, now)


def email_of(session, person):
    return session.scalar(select(Person.email).where(Person.id == person))


def mails(session):
    rows = session.scalars(select(OutgoingMail)).all()
    return sorted((str(mail.kind), mail.address) for mail in rows)


def open_link(session, person, change, now):
    """Make the token of the confirmation as the sender does."""
    return links.mint(session, MailKind.EMAIL_CONFIRM, person, {"change": change}, now)


def by_staff(session, person, now, new=NEW, delay=DELAY):
    return email_change.request_by_staff(session, person, new, CLERK, COLLEAGUE, now, delay)


# -- by its holder -------------------------------------------------------------------------------


def test_the_holder_confirms_from_the_new_mailbox(session, ana, now):
    change = email_change.request_own(session, ana, NEW, now)
    assert mails(session) == [("email-confirm", NEW), ("email-requested", OLD)]
    assert email_of(session, ana) == OLD
    token = open_link(session, ana, change, now)
    assert email_change.find_by_link(session, ana, token, now).new_email == NEW
    done = email_change.confirm(session, ana, token, now + HOUR)
    assert done == email_change.Changed(change, ana, by_staff=False)
    assert email_of(session, ana) == NEW
    assert mails(session)[:2] == [("email-changed", NEW), ("email-changed", OLD)]
    assert email_change.pending_changes(session, ana, now) == []


def test_a_link_is_used_once_and_runs_out(session, ana, now):
    change = email_change.request_own(session, ana, NEW, now)
    token = open_link(session, ana, change, now)
    late = now + timedelta(hours=24)
    assert email_change.confirm(session, ana, token, late) is None
    assert email_change.pending_changes(session, ana, late) == []
    assert email_change.confirm(session, ana, token, late - ALMOST)
    assert email_change.confirm(session, ana, token, now) is None


def test_whoever_else_got_the_mail_cannot_use_it(session, ana, now):
    rui = enter(session, now, "12345678", OTHER)
    token = open_link(session, ana, email_change.request_own(session, ana, NEW, now), now)
    assert email_change.confirm(session, rui, token, now) is None
    assert (email_of(session, ana), email_of(session, rui)) == (OLD, OTHER)


def test_a_change_whose_mail_was_not_sent_is_not_confirmed(session, ana, now):
    email_change.request_own(session, ana, NEW, now)
    for token in ("", "A" * 43, "\ud800"):
        assert email_change.confirm(session, ana, token, now) is None


def test_a_second_wish_ends_the_first(session, ana, now):
    first = email_change.request_own(session, ana, NEW, now)
    token = open_link(session, ana, first, now)
    second = email_change.request_own(session, ana, OTHER, now)
    assert email_change.confirm(session, ana, token, now) is None
    assert open_link(session, ana, first, now) is None, "the mail is dropped"
    assert [c.new_email for c in email_change.pending_changes(session, ana, now)] == [OTHER]
    assert email_change.confirm(session, ana, open_link(session, ana, second, now), now)
    assert email_of(session, ana) == OTHER


@pytest.mark.parametrize("same", [OLD, OLD.replace("old", "OLD")])
def test_the_address_of_now_is_no_change(session, ana, now, same):
    with pytest.raises(EmailChangeRefused) as told:
        email_change.request_own(session, ana, same, now)
    assert told.value.reason is Reason.NOTHING_NEW
    assert mails(session) == []


def test_nobody_sends_our_mails_to_a_list_of_strangers(session, ana, now):
    for n in range(email_change.MOST_CONFIRMATIONS):
        email_change.request_own(session, ana, f"n{n}@example.org", now)
    with pytest.raises(EmailChangeRefused) as told:
        email_change.request_own(session, ana, NEW, now)
    assert told.value.reason is Reason.TOO_MANY
    assert email_change.request_own(session, ana, NEW, now + HOUR)


def test_somebody_without_an_address_gets_their_first(session, now):
    person = enter(session, now, email="")
    change = email_change.request_own(session, person, NEW, now)
    assert mails(session) == [("email-confirm", NEW)]
    assert email_change.confirm(session, person, open_link(session, person, change, now), now)
    assert email_of(session, person) == NEW


def test_a_link_in_the_old_mailbox_opens_nothing_any_more(session, ana, now):
    code = codes.issue_code(session, ana, None, now)
    old = links.mint(session, MailKind.ACTIVATION, ana, {links.ASKED: 2**62}, now)
    token = open_link(session, ana, email_change.request_own(session, ana, NEW, now), now)
    email_change.confirm(session, ana, token, now)
    with pytest.raises(ActivationRefused):
        codes.check_link_and_code(session, MailKind.ACTIVATION, old, code, now)
    new = links.mint(session, MailKind.ACTIVATION, ana, {links.ASKED: 2**62}, now)
    assert codes.check_link_and_code(session, MailKind.ACTIVATION, new, code, now)


# -- by staff ------------------------------------------------------------------------------------


def test_staff_changes_it_after_a_delay(session, ana, now):
    change = by_staff(session, ana, now)
    assert mails(session) == [("email-by-staff", OLD)]
    assert links.mint(session, MailKind.EMAIL_CONFIRM, ana, {"change": change}, now) is None
    assert not email_change.has_due(session, now + DELAY - ALMOST)
    assert email_change.apply_due(session, now + DELAY - ALMOST) == []
    assert email_change.has_due(session, now + DELAY)
    done = email_change.apply_due(session, now + DELAY)
    assert done == [email_change.Changed(change, ana, by_staff=True)]
    assert email_of(session, ana) == NEW
    assert mails(session) == [
        ("email-by-staff", OLD),
        ("email-changed", NEW),
        ("email-changed", OLD),
    ]
    assert email_change.apply_due(session, now + DELAY) == []


def test_the_holder_objects(session, ana, now):
    change = by_staff(session, ana, now)
    (pending,) = email_change.pending_changes(session, ana, now)
    assert (pending.id, pending.new_email, pending.effective_at) == (change, NEW, now + DELAY)
    assert email_change.cancel(session, ana, change, now + HOUR) == pending
    assert email_change.cancel(session, ana, change, now + HOUR) is None
    assert email_change.apply_due(session, now + DELAY) == []
    assert email_of(session, ana) == OLD


def test_nothing_happens_to_whoever_is_suspended(session, ana, now):
    """They could not object."""
    by_staff(session, ana, now)
    session.execute(update(Account).values(status=AccountStatus.SUSPENDED))
    assert not email_change.has_due(session, now + DELAY)
    assert email_change.apply_due(session, now + DELAY) == []
    assert email_of(session, ana) == OLD


def test_staff_call_off_what_staff_asked_for_and_nothing_else(session, ana, now):
    own = email_change.request_own(session, ana, OTHER, now)
    assert email_change.cancel_by_staff(session, ana, now) is None
    change = by_staff(session, ana, now)
    assert email_change.cancel_by_staff(session, ana, now).id == change
    assert [c.id for c in email_change.pending_changes(session, ana, now)] == [own]
    assert email_change.apply_due(session, now + DELAY) == []


def test_nobody_calls_off_what_is_not_theirs(session, ana, now):
    rui = enter(session, now, "12345678", OTHER)
    change = by_staff(session, ana, now)
    assert email_change.cancel(session, rui, change, now) is None
    assert email_change.cancel(session, ana, "e" * 32, now) is None
    assert len(email_change.pending_changes(session, ana, now)) == 1


@pytest.mark.parametrize(
    ("requested_by", "approved_by", "reason"),
    [
        (CLERK, CLERK, Reason.SECOND_PERSON_NEEDED),
        ("holder", CLERK, Reason.OWN_ACCOUNT),
        (CLERK, "holder", Reason.OWN_ACCOUNT),
        ("holder", "holder", Reason.OWN_ACCOUNT),
    ],
)
def test_it_takes_three_people(session, ana, now, requested_by, approved_by, reason):
    who = {"holder": ana}
    with pytest.raises(EmailChangeRefused) as told:
        email_change.request_by_staff(
            session,
            ana,
            NEW,
            who.get(requested_by, requested_by),
            who.get(approved_by, approved_by),
            now,
            DELAY,
        )
    assert told.value.reason is reason
    assert mails(session) == []


def test_staff_asks_for_what_is_so_already(session, ana, now):
    with pytest.raises(EmailChangeRefused) as told:
        by_staff(session, ana, now, new=OLD)
    assert told.value.reason is Reason.NOTHING_NEW


def test_the_holders_own_change_ends_the_staffs(session, ana, now):
    by_staff(session, ana, now, new=OTHER)
    change = email_change.request_own(session, ana, NEW, now)
    assert len(email_change.pending_changes(session, ana, now)) == 2
    assert email_change.confirm(session, ana, open_link(session, ana, change, now), now)
    assert email_change.apply_due(session, now + DELAY) == []
    assert email_of(session, ana) == NEW


def test_a_newer_change_by_staff_ends_the_older(session, ana, now):
    by_staff(session, ana, now, new=OTHER)
    by_staff(session, ana, now + HOUR)
    done = email_change.apply_due(session, now + 2 * DELAY)
    assert len(done) == 1
    assert email_of(session, ana) == NEW


def test_objection_and_deadline_at_the_same_moment(engine, now):
    """Whichever is first decides; the address is never changed after a successful objection."""
    with Session(engine) as session, session.begin():
        person = enter(session, now)
        change = by_staff(session, person, now)
    barrier, outcomes = threading.Barrier(2), {}

    def run(name, act):
        barrier.wait(10)
        with Session(engine) as session, session.begin():
            outcomes[name] = bool(act(session))

    at = now + DELAY
    threads = [
        threading.Thread(target=run, args=("applied", lambda s: email_change.apply_due(s, at))),
        threading.Thread(
            target=run,
            args=("cancelled", lambda s: email_change.cancel(s, person, change, at)),
        ),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert outcomes["applied"] != outcomes["cancelled"]
    with Session(engine) as session:
        assert email_of(session, person) == (NEW if outcomes["applied"] else OLD)


# -- keeping house -------------------------------------------------------------------------------


def test_what_nobody_confirmed_is_given_up(session, ana, now):
    email_change.request_own(session, ana, NEW, now)
    staff = by_staff(session, ana, now, new=OTHER, delay=timedelta(days=20))
    email_change.forget_old_changes(session, now + email_change.GIVEN_UP_AFTER - ALMOST)
    assert len(email_change.pending_changes(session, ana, now)) == 2
    email_change.forget_old_changes(session, now + email_change.GIVEN_UP_AFTER)
    assert [c.id for c in email_change.pending_changes(session, ana, now)] == [staff]


def test_addresses_that_people_had_are_not_kept_for_ever(session, ana, now):
    token = open_link(session, ana, email_change.request_own(session, ana, NEW, now), now)
    email_change.confirm(session, ana, token, now)
    staff = by_staff(session, ana, now, new=OTHER, delay=timedelta(days=90))
    gone = email_change.request_own(session, ana, "third@example.org", now)
    email_change.cancel(session, ana, gone, now)
    email_change.forget_old_changes(session, now + email_change.KEPT_FOR - ALMOST)
    assert len(session.scalars(select(EmailChange.id)).all()) == 3
    email_change.forget_old_changes(session, now + email_change.KEPT_FOR)
    assert session.scalars(select(EmailChange.id)).all() == [staff]
