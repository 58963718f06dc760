"""The sender and real servers: verified TLS or nothing; every fault a code; an end to waiting."""

import ssl
import time

import pytest
from mail_servers import (
    PASSWORD,
    BadServer,
    mail_of,
    mail_server,
    make_certificate,
)

from medportal.mail import smtp
from medportal.mail.addresses import mailbox
from medportal.mail.compose import compose
from medportal.mail.errors import Interrupted, Problem, Refused, ServerFault, Unsendable
from medportal.mail.smtp import connect

TO = "josefa@mail.example"


@pytest.fixture
def message(tenant, letter, now):
    return compose(letter(), tenant, None, now)


def send(mail, message, *recipients):
    """Send a mail to each recipient over one connection."""
    with connect(mail) as connection:
        for recipient in recipients or (TO,):
            connection.begin()
            connection.send(message, mailbox(recipient))


def fault_of(mail, message):
    """Return the problem that keeps everything from being sent."""
    with pytest.raises(ServerFault) as caught:
        send(mail, message)
    return caught.value.problem


# What goes well


def test_a_mail_arrives_as_it_was_composed(mail, message, behaviour):
    send(mail, message)
    (taken,) = behaviour.taken
    assert taken.sender == mail.sender
    assert taken.recipients == [TO]
    assert taken.data == bytes(message)
    assert behaviour.sign_ins == 1


def test_several_mails_go_over_one_connection(mail, message, behaviour):
    send(mail, message, "a@mail.example", "b@mail.example", "c@mail.example")
    assert [t.recipients for t in behaviour.taken] == [[f"{n}@mail.example"] for n in "abc"]
    assert behaviour.sign_ins == 1


def test_implicit_tls_from_the_first_byte(certificate, behaviour, message, tmp_path):
    with mail_server(certificate, behaviour, implicit=True) as server:
        send(mail_of(server.port, tmp_path, certificate, implicit_tls=True), message)
    assert len(behaviour.taken) == 1


def test_without_a_user_nobody_signs_in(certificate, behaviour, message, tmp_path):
    with mail_server(certificate, behaviour, auth=False) as server:
        send(mail_of(server.port, tmp_path, certificate, user="", password_file=""), message)
    assert len(behaviour.taken) == 1
    assert behaviour.sign_ins == 0


def test_an_address_with_letters_beyond_ascii(mail, tenant, letter, now, behaviour):
    to = "josé@correio.example"
    send(mail, compose(letter(to=to), tenant, None, now), to)
    assert behaviour.taken[0].recipients == [to]
    assert str(behaviour.taken[0].message["To"]) == to


def test_a_server_without_utf8_gets_no_such_address_and_goes_on(
    certificate, tenant, letter, now, behaviour, message, tmp_path
):
    to = "josé@correio.example"
    with (
        mail_server(certificate, behaviour, utf8=False) as server,
        connect(mail_of(server.port, tmp_path, certificate)) as connection,
    ):
        connection.begin()
        with pytest.raises(Unsendable) as caught:
            connection.send(compose(letter(to=to), tenant, None, now), mailbox(to))
        assert caught.value.problem is Problem.ADDRESS_UNSUPPORTED
        connection.send(message, mailbox(TO))
    assert [taken.recipients for taken in behaviour.taken] == [[TO]]


# Whom nothing is sent


@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "implicit"])
@pytest.mark.parametrize("flaw", ["other-authority", "other-name", "expired"])
def test_a_certificate_that_does_not_hold(behaviour, message, tmp_path, flaw, implicit):
    values = {"other-name": {"address": "127.0.0.2"}, "expired": {"days": -1}}.get(flaw, {})
    certificate = make_certificate(tmp_path, **values)
    trusted = make_certificate(tmp_path) if flaw == "other-authority" else certificate
    with mail_server(certificate, behaviour, implicit=implicit) as server:
        mail = mail_of(server.port, tmp_path, trusted, implicit_tls=implicit)
        assert fault_of(mail, message) is Problem.CERTIFICATE_NOT_VALID
    assert behaviour.taken == []
    assert behaviour.sign_ins == 0


def test_the_systems_authorities_do_not_know_a_certificate_of_our_own(server, message, tmp_path):
    mail = mail_of(server.port, tmp_path, "")
    assert fault_of(mail, message) is Problem.CERTIFICATE_NOT_VALID


def test_an_old_version_of_tls_is_refused(certificate, message, tmp_path):
    def behave(talk):
        talk.say("220 mail.test\n")
        talk.hear()
        talk.say("250-mail.test\n250 STARTTLS\n")
        talk.hear()
        talk.say("220 go ahead\n")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning):
            context.minimum_version = ssl.TLSVersion.TLSv1
        with pytest.warns(DeprecationWarning):
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.wrap_socket(talk.connection, server_side=True)

    with BadServer(behave) as server:
        mail = mail_of(server.port, tmp_path, certificate)
        assert fault_of(mail, message) is Problem.TLS_FAILED
        assert_nothing_said(server)


def assert_nothing_said(server):
    """The server heard neither who signs in, nor who writes to whom, nor what."""
    heard = server.heard.upper()
    for secret in (b"AUTH", b"MAIL FROM", b"RCPT", b"DATA", b"JOSEFA", PASSWORD.upper().encode()):
        assert secret not in heard


def no_starttls(talk):
    talk.say("220 mail.test\n")
    talk.hear()
    talk.say("250-mail.test\n250 AUTH PLAIN LOGIN\n")
    talk.hear()


def starttls_refused(talk):
    talk.say("220 mail.test\n")
    talk.hear()
    talk.say("250-mail.test\n250 STARTTLS\n")
    talk.hear()
    talk.say("454 4.7.0 TLS not available\n")
    talk.hear()


def no_esmtp(talk):
    talk.say("220 mail.test\n")
    talk.hear()
    talk.say("502 what is EHLO?\n")
    talk.hear()
    talk.say("250 but HELO\n")
    talk.hear()


def plain_after_go_ahead(talk):
    talk.say("220 mail.test\n")
    talk.hear()
    talk.say("250-mail.test\n250-AUTH PLAIN\n250 STARTTLS\n")
    talk.hear()
    talk.say("220 go ahead\n")
    talk.say("250-mail.test\n250 AUTH PLAIN\n")
    talk.hear()


@pytest.mark.parametrize(
    ("behave", "problem"),
    [
        (no_starttls, Problem.TLS_NOT_OFFERED),
        (starttls_refused, Problem.TLS_NOT_OFFERED),
        (no_esmtp, Problem.TLS_NOT_OFFERED),
        (plain_after_go_ahead, Problem.TLS_FAILED),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_without_tls_nothing_is_said(certificate, message, tmp_path, behave, problem):
    with BadServer(behave) as server:
        mail = mail_of(server.port, tmp_path, certificate)
        assert fault_of(mail, message) is problem
        assert_nothing_said(server)


def test_a_real_server_without_starttls(certificate, behaviour, message, tmp_path):
    with mail_server(certificate, behaviour, starttls=False, auth=False) as server:
        mail = mail_of(server.port, tmp_path, certificate)
        assert fault_of(mail, message) is Problem.TLS_NOT_OFFERED
    assert behaviour.taken == []


def test_what_was_said_before_encryption_is_forgotten(certificate, message, tmp_path):
    """Somebody in between adds answers in the clear behind "go ahead" (CVE-2011-0411)."""

    def behave(talk):
        talk.say("220 mail.test\n")
        talk.hear()
        talk.say("250-mail.test\n250 STARTTLS\n")
        talk.hear()
        # One packet: the answer, and a greeting of theirs that offers a sign-in.
        talk.say("220 go ahead\n250-mail.test\n250 AUTH PLAIN\n235 2.7.0 welcome\n")
        talk.encrypt(certificate)
        talk.hear()
        talk.say("250-mail.test\n250 SIZE\n")
        talk.hear()

    with BadServer(behave) as server:
        mail = mail_of(server.port, tmp_path, certificate)
        # Either the handshake fails on the added bytes, or they are gone.
        assert fault_of(mail, message) in {Problem.SIGN_IN_NOT_OFFERED, Problem.TLS_FAILED}
        assert_nothing_said(server)


def test_a_plain_server_where_tls_is_to_begin_at_once(certificate, message, tmp_path):
    with BadServer(no_starttls) as server:
        mail = mail_of(server.port, tmp_path, certificate, implicit_tls=True)
        assert fault_of(mail, message) is Problem.TLS_FAILED
        assert_nothing_said(server)


# Signing in


def test_a_wrong_password(mail, message, behaviour):
    behaviour.password = "another one"
    assert fault_of(mail, message) is Problem.SIGN_IN_REFUSED
    assert behaviour.taken == []


def test_no_sign_in_is_offered(certificate, message, tmp_path):
    def without(talk):
        talk.say("220 mail.test\n")
        talk.hear()
        talk.say("250-mail.test\n250 STARTTLS\n")
        talk.hear()
        talk.say("220 go ahead\n")
        talk.encrypt(certificate)
        talk.hear()
        talk.say("250 mail.test\n")
        talk.hear()

    with BadServer(without) as server:
        mail = mail_of(server.port, tmp_path, certificate)
        assert fault_of(mail, message) is Problem.SIGN_IN_NOT_OFFERED


@pytest.mark.parametrize("flaw", ["missing", "open", "empty", "two-lines", "binary", "long"])
def test_the_password_file_is_checked_before_anybody_is_asked(certificate, message, tmp_path, flaw):
    file = tmp_path / "password"
    if flaw != "missing":
        contents = {
            "empty": b"\n",
            "two-lines": b"a\nb\n",
            "binary": b"\xff\xfe",
            "long": b"x" * 501,
        }
        file.write_bytes(contents.get(flaw, PASSWORD.encode()))
        file.chmod(0o644 if flaw == "open" else 0o600)
    with BadServer(no_starttls) as server:
        mail = mail_of(server.port, tmp_path, certificate, password_file=str(file))
        if flaw == "missing":
            file.unlink()
        assert fault_of(mail, message) is Problem.PASSWORD_FILE
        assert server.connections == 0


@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_the_file_of_authorities_is_missing_or_holds_none(message, tmp_path, content):
    file = tmp_path / "authority.pem"
    if content is not None:
        file.write_bytes(content)
    with BadServer(no_starttls) as server:
        assert fault_of(mail_of(server.port, tmp_path, file), message) is Problem.AUTHORITY_FILE
        assert server.connections == 0


# Servers that refuse, break off, or take their time


def test_nobody_is_there(certificate, message, tmp_path):
    with BadServer(no_starttls) as server:
        port = server.port
    mail = mail_of(port, tmp_path, certificate)
    assert fault_of(mail, message) is Problem.CANNOT_CONNECT


def test_a_name_that_nobody_has(certificate, message, tmp_path):
    mail = mail_of(25, tmp_path, certificate, server="mail.invalid:25")
    assert fault_of(mail, message) is Problem.CANNOT_CONNECT


@pytest.mark.parametrize(
    ("greeting", "problem"),
    [
        ("554 5.3.2 not now\n", Problem.SERVER_REFUSES),
        ("421 4.3.2 bye\n", Problem.SERVER_REFUSES),
        ("", Problem.CANNOT_CONNECT),
        ("HTTP/1.1 200 OK\n", Problem.SERVER_REFUSES),
        ("220 " + "x" * 9000 + "\n", Problem.SERVER_REFUSES),
    ],
)
def test_strange_greetings(certificate, message, tmp_path, greeting, problem):
    with BadServer(lambda talk: talk.say(greeting)) as server:
        assert fault_of(mail_of(server.port, tmp_path, certificate), message) is problem


def test_the_sender_is_refused(mail, message, behaviour):
    behaviour.answers["MAIL"] = f"550 5.7.1 <{TO}> may not be written to by you"
    assert fault_of(mail, message) is Problem.SENDER_REFUSED


@pytest.mark.parametrize(
    ("command", "answer", "problem", "final"),
    [
        ("RCPT", "550 5.1.1 no such user", Problem.RECIPIENT_REFUSED, True),
        ("RCPT", "450 4.2.0 greylisted", Problem.RECIPIENT_DEFERRED, False),
        ("RCPT", "550 5.7.1 relaying denied", Problem.RECIPIENT_DEFERRED, False),
        ("DATA", "554 5.7.1 looks like spam", Problem.CONTENT_REFUSED, False),
        ("DATA", "451 4.3.0 full", Problem.CONTENT_DEFERRED, False),
        ("DATA", "550 5.1.1 no such user", Problem.RECIPIENT_REFUSED, True),
    ],
)
def test_a_mail_is_refused_and_the_next_one_goes(
    mail, message, behaviour, command, answer, problem, final
):
    behaviour.answers[command] = answer
    with connect(mail) as connection:
        connection.begin()
        with pytest.raises(Refused) as caught:
            connection.send(message, mailbox("other@mail.example"))
        assert (caught.value.problem, caught.value.final) == (problem, final)
        behaviour.answers.clear()
        connection.begin()
        connection.send(message, mailbox(TO))
    assert [taken.recipients for taken in behaviour.taken] == [[TO]]


@pytest.mark.parametrize("answer", ["421 4.3.2 bye", "530 5.7.0 sign in", "what?"])
@pytest.mark.parametrize("command", ["RCPT", "DATA"])
def test_a_server_that_is_in_trouble_says_nothing_of_the_mail(
    mail, message, behaviour, command, answer
):
    behaviour.answers[command] = answer
    with pytest.raises(Interrupted) as caught:
        send(mail, message)
    assert caught.value.problem is Problem.SERVER_REFUSES


def dies_at_sender(talk, certificate):
    talk.up_to_sign_in(certificate)
    talk.hear()
    talk.say("235 2.7.0 welcome\n")
    talk.hear()


def dies_at_recipient(talk, certificate):
    talk.up_to_recipient(certificate)


def dies_at_data(talk, certificate):
    talk.up_to_recipient(certificate)
    talk.say("250 recipient\n")
    talk.hear()


def dies_at_text(talk, certificate):
    dies_at_data(talk, certificate)
    talk.say("354 go on\n")
    talk.connection.recv(10)


def dies_before_the_answer(talk, certificate):
    dies_at_data(talk, certificate)
    talk.say("354 go on\n")
    talk.hear(b"\r\n.\r\n")


@pytest.mark.parametrize(
    ("behave", "kind"),
    [
        (dies_at_sender, ServerFault),
        (dies_at_recipient, Interrupted),
        (dies_at_data, Interrupted),
        (dies_at_text, Interrupted),
        (dies_before_the_answer, Interrupted),
    ],
    ids=lambda value: value.__name__,
)
def test_a_server_that_dies_in_the_middle(certificate, message, tmp_path, behave, kind):
    with BadServer(lambda talk: behave(talk, certificate)) as server:
        with pytest.raises(kind) as caught:
            send(mail_of(server.port, tmp_path, certificate), message)
        assert caught.value.problem is Problem.CONNECTION_LOST


@pytest.fixture
def impatient(monkeypatch):
    """Shorten what a sender waits."""
    monkeypatch.setattr(smtp, "CONNECT_SECONDS", 0.5)
    monkeypatch.setattr(smtp, "GREETING_SECONDS", 0.3)
    monkeypatch.setattr(smtp, "MAIL_SECONDS", 0.8)


def says_nothing(talk, certificate):
    talk.hear(b"for ever")


def drips(talk, certificate):
    while not talk.server.stopping.wait(0.02):
        talk.say("2")


def never_ends_its_greeting(talk, certificate):
    while not talk.server.stopping.wait(0.02):
        talk.say("220-wait\n")


def no_handshake(talk, certificate):
    talk.say("220 mail.test\n")
    talk.hear()
    talk.say("250-mail.test\n250 STARTTLS\n")
    talk.hear()
    talk.say("220 go ahead\n")
    talk.server.stopping.wait(10)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "behave", [says_nothing, drips, never_ends_its_greeting], ids=lambda value: value.__name__
)
def test_a_slow_server_cannot_hold_a_sender(certificate, message, tmp_path, behave):
    with BadServer(lambda talk: behave(talk, certificate)) as server:
        mail = mail_of(server.port, tmp_path, certificate)
        assert fault_of(mail, message) is Problem.TIMED_OUT


@pytest.mark.usefixtures("impatient")
def test_a_server_that_takes_for_ever_to_encrypt(certificate, message, tmp_path):
    with BadServer(lambda talk: no_handshake(talk, certificate)) as server:
        mail = mail_of(server.port, tmp_path, certificate)
        assert fault_of(mail, message) is Problem.TIMED_OUT


def test_a_server_that_drips_its_last_answer(certificate, message, tmp_path, monkeypatch):
    # Long enough to come to the last answer on a busy machine.
    monkeypatch.setattr(smtp, "MAIL_SECONDS", 3.0)

    def behave(talk):
        dies_before_the_answer(talk, certificate)
        drips(talk, certificate)

    with BadServer(behave) as server:
        with pytest.raises(Interrupted) as caught:
            send(mail_of(server.port, tmp_path, certificate), message)
        assert caught.value.problem is Problem.TIMED_OUT


def test_a_sender_that_was_held_up_says_nothing_more(mail, message, behaviour, monkeypatch):
    """A process that stood still meanwhile: the mail may be another sender's by now."""
    monkeypatch.setattr(smtp, "MAIL_SECONDS", 0.05)
    with connect(mail) as connection:
        connection.begin()
        time.sleep(0.1)
        with pytest.raises(ServerFault) as caught:
            connection.send(message, mailbox(TO))
    assert caught.value.problem is Problem.TIMED_OUT
    assert behaviour.taken == []


def test_a_server_that_says_too_much(certificate, message, tmp_path):
    def behave(talk):
        talk.say("220-" + "x" * 500 + "\n")
        for _line in range(2000):
            talk.say("220-" + "x" * 500 + "\n")
        talk.hear()

    with BadServer(behave) as server:
        mail = mail_of(server.port, tmp_path, certificate)
        assert fault_of(mail, message) is Problem.CANNOT_CONNECT


def test_no_error_repeats_what_a_server_or_a_setting_says(mail, message, behaviour):
    for command in ("MAIL", "RCPT", "DATA"):
        behaviour.answers = {command: f"550 5.1.1 <{TO}> unknown, {PASSWORD}"}
        with pytest.raises((ServerFault, Refused)) as caught:
            send(mail, message)
        error = caught.value
        assert error.__cause__ is None
        assert "josefa" not in f"{error!r}{error.args}"
