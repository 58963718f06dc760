"""Outbox and a real server together: what is lost (nothing), what is sent twice (nothing)."""

import contextlib
import json
import threading
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest
from mail_servers import PASSWORD, BadServer, Behaviour, mail_of, mail_server
from sqlalchemy import select

from medportal.core.ids import new_id
from medportal.db import Base
from medportal.logs import configure_logging
from medportal.mail import sending as sending_room
from medportal.mail import smtp
from medportal.mail.errors import Interrupted, Problem, ServerFault
from medportal.mail.kinds import WITH_TOKEN, MailKind
from medportal.mail.models import MailState
from medportal.mail.outbox import LEASE, MOST_ATTEMPTS, claim, queue, wait_after
from medportal.mail.sending import Sender, send_due

TOKEN = "a-token-that-stands-in-no-table"
#: A sender's clock runs while it works: what it puts off comes a little later than the wait.
SOON = timedelta(minutes=5)


@pytest.fixture
def mint():
    """Make tokens as identity does, and remember for what."""
    asked = []

    def make(session, kind, person_id, params, now):
        asked.append((kind, person_id, params))
        return TOKEN

    make.asked = asked
    return make


@pytest.fixture
def sender(sending, begin, mint):
    return Sender(new_id(), sending, mint, begin)


@pytest.fixture
def state(begin):
    """Return the queue in figures: waiting, sending, sent, failed, problem."""

    def read():
        with begin() as session:
            found = queue(session)
        return found.waiting, found.sending, found.sent, found.failed, found.problem

    return read


def recipients(behaviour):
    return Counter(address for taken in behaviour.taken for address in taken.recipients)


def send_all(sender, now):
    while send_due(sender, now):
        pass


def test_what_is_due_is_sent_once(sender, posted, behaviour, state, now):
    posted(3)
    assert not send_due(sender, now)
    assert not send_due(sender, now + LEASE)
    assert recipients(behaviour) == Counter(f"person{n}@mail.example" for n in range(3))
    assert state() == (0, 0, 3, 0, None)


def test_a_call_sends_so_many_and_says_that_there_may_be_more(sender, posted, behaviour, now):
    posted(5)
    assert send_due(sender, now, most=3)
    assert len(behaviour.taken) == 3
    assert not send_due(sender, now, most=3)
    assert len(behaviour.taken) == 5


def test_who_is_told_to_stop_stops_between_two_mails(sender, posted, behaviour, state, now):
    posted(5)
    assert not send_due(sender, now, is_stopping=lambda: len(behaviour.taken) == 2)
    assert state() == (3, 0, 2, 0, None)


def test_an_institution_without_mail_sends_none(sender, posted, state, now):
    posted()
    assert not send_due(replace(sender, tenant=replace(sender.tenant, mail=None)), now)
    assert state() == (1, 0, 0, 0, None)


# Tokens


@pytest.mark.parametrize("kind", sorted(WITH_TOKEN))
def test_a_token_is_made_at_sending_and_stands_in_no_table(
    sender, posted, behaviour, mint, begin, now, kind
):
    person_id = new_id()
    params = {"change": "0" * 32} if kind is MailKind.EMAIL_CONFIRM else {}
    posted(kind=kind, person_id=person_id, params=params)
    assert mint.asked == []
    send_due(sender, now)
    assert mint.asked == [(kind, person_id, params)]
    assert f"?link={TOKEN}" in behaviour.taken[0].text
    with begin() as session:
        for table in Base.metadata.sorted_tables:
            for found in session.execute(select(table)):
                assert TOKEN not in repr(tuple(found))


def test_a_notice_asks_for_no_token(sender, posted, behaviour, mint, now):
    posted(kind=MailKind.PASSWORD_CHANGED)
    send_due(sender, now)
    assert mint.asked == []
    assert "http" not in behaviour.taken[0].text


def test_a_mail_without_a_reason_is_dropped_and_the_next_one_sent(
    sender, posted, behaviour, state, now
):
    posted(kind=MailKind.RESET)
    posted(kind=MailKind.PASSWORD_CHANGED, to="next@mail.example")
    assert not send_due(replace(sender, mint=lambda *_args: None), now)
    assert recipients(behaviour) == Counter(["next@mail.example"])
    assert state() == (0, 0, 1, 0, None)


def test_a_token_that_cannot_be_made_leaves_the_mail_as_it_was(sender, posted, behaviour, row, now):
    class Broken(Exception):
        pass

    def breaks(*_args):
        raise Broken

    (mail_id,) = posted(kind=MailKind.RESET)
    with pytest.raises(Broken):
        send_due(replace(sender, mint=breaks), now)
    assert (row(mail_id).state, row(mail_id).attempts) == (MailState.WAITING, 0)
    assert behaviour.taken == []


def test_each_try_makes_a_token_of_its_own(sender, posted, behaviour, now):
    tokens = iter(["first-token", "second-token"])
    minting = replace(sender, mint=lambda *_args: next(tokens))
    posted(kind=MailKind.RESET)
    behaviour.answers["DATA"] = "451 4.3.0 later"
    send_due(minting, now)
    behaviour.answers.clear()
    send_due(minting, now + wait_after(1) + SOON)
    (taken,) = behaviour.taken
    assert "second-token" in taken.text
    assert "first-token" not in taken.text


# The server is away, or not to be trusted


def test_a_server_that_is_down_loses_nothing(
    certificate, behaviour, tenant, posted, begin, mint, state, tmp_path, now
):
    posted(4)
    with mail_server(certificate, Behaviour()) as gone:
        port = gone.port
    mail = mail_of(port, tmp_path, certificate)
    sender = Sender(new_id(), replace(tenant, mail=mail), mint, begin)
    for hours in range(0, 24 * 20, 12):
        with pytest.raises(ServerFault):
            send_due(sender, now + timedelta(hours=hours))
    assert state() == (4, 0, 0, 0, "cannot-connect")
    with mail_server(certificate, behaviour, port=port):
        send_all(sender, now + timedelta(days=20))
        send_all(sender, now + timedelta(days=20, hours=1))
    assert recipients(behaviour) == Counter(f"person{n}@mail.example" for n in range(4))
    assert state() == (0, 0, 4, 0, None)


def test_a_wrong_password_loses_nothing(sender, posted, behaviour, row, now):
    ids = posted(2)
    behaviour.password = "changed at the provider"
    for turn in range(MOST_ATTEMPTS + 1):
        with pytest.raises(ServerFault):
            send_due(sender, now + turn * SOON)
    assert {row(mail_id).attempts for mail_id in ids} == {0}
    behaviour.password = PASSWORD
    send_all(sender, now + MOST_ATTEMPTS * 2 * SOON)
    assert len(behaviour.taken) == 2


def test_a_refused_sender_loses_nothing_and_no_time(sender, posted, behaviour, state, now):
    posted(2)
    behaviour.answers["MAIL"] = "550 5.7.1 not from here"
    for turn in range(MOST_ATTEMPTS + 1):
        with pytest.raises(ServerFault):
            send_due(sender, now + turn * SOON)
    assert state() == (2, 0, 0, 0, "sender-refused")
    behaviour.answers.clear()
    send_all(sender, now + MOST_ATTEMPTS * 2 * SOON)
    assert len(behaviour.taken) == 2


# The server answers about one mail


def test_a_missing_mailbox_is_final_and_holds_up_nobody(sender, posted, behaviour, row, now):
    ids = posted(3)
    behaviour.answers["person1@mail.example"] = "550 5.1.1 <person1@mail.example> unknown"
    assert not send_due(sender, now)
    assert [row(mail_id).state for mail_id in ids] == ["sent", "failed", "sent"]
    assert row(ids[1]).address == ""
    assert row(ids[1]).problem == "recipient-refused"


def test_a_greylisted_mail_comes_later(sender, posted, behaviour, row, now):
    ids = posted(2)
    behaviour.answers["person0@mail.example"] = "451 4.7.1 try again"
    assert not send_due(sender, now)
    assert [row(mail_id).state for mail_id in ids] == ["waiting", "sent"]
    behaviour.answers.clear()
    assert not send_due(sender, now + timedelta(seconds=30))
    assert len(behaviour.taken) == 1
    send_due(sender, now + wait_after(1) + SOON)
    assert recipients(behaviour) == Counter(["person0@mail.example", "person1@mail.example"])
    assert row(ids[0]).problem is None


def test_an_address_that_is_none_is_given_up_without_asking(sender, posted, behaviour, row, now):
    (bad,) = posted(to="josefa@mail.example\r\nRCPT TO:<spy@mail.example>")
    (good,) = posted()
    assert not send_due(sender, now)
    assert (row(bad).state, row(bad).problem) == (MailState.FAILED, "address-malformed")
    assert row(good).state == MailState.SENT
    assert recipients(behaviour) == Counter(["person0@mail.example"])


def test_an_address_that_the_server_cannot_take_is_given_up(
    certificate, behaviour, tenant, posted, begin, mint, row, tmp_path, now
):
    (mail_id,) = posted(to="josé@correio.example")
    with mail_server(certificate, behaviour, utf8=False) as server:
        mail = mail_of(server.port, tmp_path, certificate)
        send_due(Sender(new_id(), replace(tenant, mail=mail), mint, begin), now)
    assert row(mail_id).problem == "address-unsupported"


def test_a_mail_that_cannot_be_composed_holds_up_nobody(
    sender, posted, behaviour, row, now, monkeypatch
):
    bad, good = posted(2)
    composing = sending_room.compose

    def compose(letter, *rest):
        if letter.id == bad:
            raise KeyError("a name in braces that nothing stands for")
        return composing(letter, *rest)

    monkeypatch.setattr(sending_room, "compose", compose)
    assert not send_due(sender, now)
    assert (row(bad).state, row(bad).problem) == (MailState.FAILED, "not-composed")
    assert row(good).state == MailState.SENT


# The conversation breaks off


def test_a_server_that_dies_in_the_middle_gets_the_mail_again(
    certificate, behaviour, tenant, posted, begin, mint, row, tmp_path, now
):
    (mail_id,) = posted()
    with BadServer(lambda talk: talk.up_to_recipient(certificate)) as server:
        mail = mail_of(server.port, tmp_path, certificate)
        with pytest.raises(Interrupted):
            send_due(Sender(new_id(), replace(tenant, mail=mail), mint, begin), now)
    found = row(mail_id)
    assert (found.state, found.problem, found.attempts) == ("waiting", "connection-lost", 1)
    with mail_server(certificate, behaviour) as server:
        mail = mail_of(server.port, tmp_path, certificate)
        send_all(
            Sender(new_id(), replace(tenant, mail=mail), mint, begin), now + wait_after(1) + SOON
        )
    assert len(behaviour.taken) == 1


def test_a_mail_whose_answer_was_lost_comes_twice_with_one_id(
    sender, posted, behaviour, monkeypatch, now
):
    """The limit that outbox.py documents: the server took it, and we did not hear so."""
    posted()
    gave_up = threading.Event()
    # Long enough for the server to take it on a busy machine; then it says nothing until we left.
    monkeypatch.setattr(smtp, "MAIL_SECONDS", 3.0)
    behaviour.before_answer = lambda _taken: gave_up.wait(60)
    with pytest.raises(Interrupted) as caught:
        send_due(sender, now)
    gave_up.set()
    assert caught.value.problem is Problem.TIMED_OUT
    behaviour.before_answer = lambda _taken: None
    send_all(sender, now + wait_after(1) + SOON)
    first, second = behaviour.taken
    assert first.message["Message-ID"] == second.message["Message-ID"]


def test_who_took_longer_than_the_lease_notes_nothing(
    sender, posted, behaviour, begin, row, now, capsys
):
    configure_logging()
    (mail_id,) = posted()
    other = new_id()

    def stolen(_taken):
        with begin() as session:
            assert claim(session, other, now + 2 * LEASE) is not None

    behaviour.before_answer = stolen
    send_due(sender, now)
    assert (row(mail_id).state, row(mail_id).claimed_by) == (MailState.SENDING, other)
    assert '"mail claim lost"' in capsys.readouterr().err


# Logs


def test_logs_say_what_happened_and_to_nobody(sender, posted, behaviour, now, capsys):
    configure_logging()
    posted(2)
    behaviour.answers["person0@mail.example"] = "550 5.1.1 <person0@mail.example> unknown here"
    send_due(sender, now)
    behaviour.password = "another one"
    posted()
    with contextlib.suppress(ServerFault):
        send_due(sender, now)
    said = capsys.readouterr().err
    events = [json.loads(line) for line in said.splitlines()]
    assert {(event["event"], event.get("problem")) for event in events} == {
        ("mail not sent", "recipient-refused"),
        ("mail sent", None),
        ("mail server fault", "sign-in-refused"),
    }
    for private in ("@", "mail.example", "unknown here", TOKEN, "another one"):
        assert private not in said


def test_the_time_of_a_mail_ends_long_before_its_lease():
    longest = smtp.MAIL_SECONDS + smtp.GOODBYE_SECONDS
    assert timedelta(seconds=3 * longest) < LEASE
