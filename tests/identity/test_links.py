"""Mailed links: when one is sent, when its token is made, how often."""

from datetime import date, timedelta

import pytest
from sqlalchemy import select, update

from medportal.core.clock import to_micros
from medportal.identity import codes, credentials, links, notices, people
from medportal.identity.models import Account, AccountStatus, Activation, EmailChange, Person
from medportal.mail.kinds import MailKind
from medportal.mail.models import OutgoingMail

HOUR = timedelta(hours=1)


@pytest.fixture
def ana(session, now):
    """Register somebody with an address; return her id."""
    return people.register_person(
        session,
        scheme="citizen-card",
        number="17645234",
        profile=people.Profile(
            "Ana", date(1980, 2, 3), "female", email="ana@example.org", language="en"
        ),
        role="patient",
        by=None,
        now=now,
    ).person_id


def mails(session):
    return list(session.scalars(select(OutgoingMail).order_by(OutgoingMail.created_at)))


def mint(session, person, now, kind=MailKind.ACTIVATION, asked=None):
    return links.mint(session, kind, person, {links.ASKED: to_micros(asked or now)}, now)


def test_who_has_no_password_gets_the_first_link_others_one_for_a_new_password(session, ana, now):
    assert links.send_link(session, ana, now)
    credentials.store_hash(session, ana, "hash", now)
    assert links.send_link(session, ana, now)
    assert {mail.kind for mail in mails(session)} == {MailKind.ACTIVATION, MailKind.RESET}
    assert {mail.language for mail in mails(session)} == {"en"}


def test_the_outbox_holds_no_token(session, ana, now):
    links.send_link(session, ana, now)
    (mail,) = mails(session)
    assert mail.params == f'{{"asked": {to_micros(now)}}}'


def test_no_more_than_three_mails_an_hour_to_one_person(session, ana, now):
    sent = [links.send_link(session, ana, now + timedelta(minutes=n)) for n in range(5)]
    assert sent == [True, True, True, False, False]
    assert links.send_link(session, ana, now + HOUR)
    assert not links.send_link(session, ana, now + HOUR)


def test_mails_from_before_the_password_do_not_count(session, ana, now):
    assert [links.send_link(session, ana, now) for _ in range(4)] == [True, True, True, False]
    credentials.store_hash(session, ana, "hash", now + timedelta(minutes=1))
    later = now + timedelta(minutes=2)
    assert [links.send_link(session, ana, later) for _ in range(4)] == [True, True, True, False]
    credentials.store_hash(session, ana, "other", now + timedelta(minutes=3))
    assert links.send_link(session, ana, now + timedelta(minutes=4))


@pytest.mark.parametrize("why", ["suspended", "no address", "nobody"])
def test_no_mail_where_there_is_no_reason_for_one(session, ana, now, why):
    if why == "suspended":
        session.execute(update(Account).values(status=AccountStatus.SUSPENDED))
    elif why == "no address":
        session.execute(update(Person).values(email=""))
    assert not links.send_link(session, "0" * 32 if why == "nobody" else ana, now)
    assert mails(session) == []


@pytest.mark.parametrize("kind", [MailKind.ACTIVATION, MailKind.RESET])
def test_a_token_is_made_for_the_state_that_the_account_is_in(session, ana, now, kind):
    if kind is MailKind.RESET:
        credentials.store_hash(session, ana, "hash", now)
    other = MailKind.RESET if kind is MailKind.ACTIVATION else MailKind.ACTIVATION
    assert mint(session, ana, now, other) is None
    token = mint(session, ana, now, kind)
    assert codes.check_link(session, kind, token, now).person_id == ana


def test_no_token_for_a_suspended_account_or_nobody(session, ana, now):
    assert mint(session, "0" * 32, now) is None
    session.execute(update(Account).values(status=AccountStatus.SUSPENDED))
    assert mint(session, ana, now) is None
    assert session.scalar(select(Activation)) is None


def test_the_newest_token_counts(session, ana, now):
    old, new = mint(session, ana, now), mint(session, ana, now)
    assert codes.check_link(session, MailKind.ACTIVATION, new, now)
    with pytest.raises(codes.ActivationRefused):
        codes.check_link(session, MailKind.ACTIVATION, old, now)


def test_a_new_link_leaves_the_code_alone(session, ana, now):
    code = codes.issue_code(session, ana, None, now)
    token = mint(session, ana, now)
    codes.check_link_and_code(session, MailKind.ACTIVATION, token, code, now)


def test_a_mail_asked_for_before_the_address_changed_gets_no_token(session, ana, now):
    """It lies in the outbox under the old address, which may be somebody else's by now."""
    session.add(
        EmailChange(
            id="e" * 32,
            person_id=ana,
            new_email="new@example.org",
            requested_by=ana,
            requested_at=now,
            done_at=now + HOUR,
        )
    )
    session.flush()
    assert mint(session, ana, now + 2 * HOUR, asked=now) is None
    assert mint(session, ana, now + 2 * HOUR, asked=now + HOUR) is None
    assert mint(session, ana, now + 2 * HOUR, asked=now + 2 * HOUR)


def test_kinds_without_a_link_are_a_mistake_of_ours(session, ana, now):
    with pytest.raises(ValueError, match="no link belongs"):
        mint(session, ana, now, MailKind.PASSWORD_CHANGED)


def test_a_notice_goes_to_the_address_of_now_in_the_persons_language(session, ana, now):
    notices.notify(session, ana, MailKind.ROLES_CHANGED, now, added="doctor")
    notices.notify_at(session, ana, "old@example.org", MailKind.EMAIL_CHANGED, now)
    notices.notify(session, "0" * 32, MailKind.PASSWORD_CHANGED, now)
    assert {(m.kind, m.address, m.language, m.person_id, m.params) for m in mails(session)} == {
        (MailKind.ROLES_CHANGED, "ana@example.org", "en", ana, '{"added": "doctor"}'),
        (MailKind.EMAIL_CHANGED, "old@example.org", "en", ana, "{}"),
    }
    session.execute(update(Person).values(email=""))
    notices.notify(session, ana, MailKind.PASSWORD_CHANGED, now)
    assert len(mails(session)) == 2
