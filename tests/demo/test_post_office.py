"""The demonstration's post office: prepared once, demanding, private, on this machine only."""

import smtplib
import socket
import ssl
import stat
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from free_ports import free_port
from mail_servers import Running

from medportal.core.errors import ConfigurationError
from medportal.demo.mail_store import MOST, MailStore, mail_home, store_of
from medportal.demo.post_office import (
    RENEWAL,
    PostOffice,
    endpoint,
    is_open,
    make_server,
    prepare_post_office,
    serve,
)
from medportal.mail.addresses import mailbox
from medportal.mail.compose import compose
from medportal.mail.kinds import Letter, MailKind
from medportal.mail.smtp import connect
from medportal.pki.errors import KeyFileMissing
from medportal.settings import Settings, parse_settings

ROOT = Path(__file__).resolve().parents[2]
NOW = datetime.now(UTC)


def settings_with(state: Path, port: int) -> Settings:
    return parse_settings(
        {
            "medportal.production": "false",
            "medportal.tenants": "hospital laboratory",
            "medportal.tenants_dir": str(ROOT / "tenants"),
            "medportal.state_dir": str(state),
            "medportal.variable.exchange_port": "4000",
            "medportal.variable.mail_port": str(port),
            "medportal.variable.hospital_port": "8443",
            "medportal.variable.laboratory_port": "8444",
        }
    )


@pytest.fixture
def settings(tmp_path):
    """Give the settings of a demonstration with its post office prepared, on a free port."""
    made = settings_with(tmp_path / "state", free_port())
    assert prepare_post_office(made, NOW)
    return made


@pytest.fixture
def running(settings):
    """Run the post office."""
    home = mail_home(settings)
    stores = {name: store_of(settings, name) for name in settings.tenants}
    office = PostOffice(stores, (home / "password").read_bytes().strip(), lambda: NOW)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    passphrase = (home / "passphrase").read_bytes().strip()
    context.load_cert_chain(home / "certificate.pem", home / "key.pem", passphrase)
    with Running(lambda: make_server(office, context), endpoint(settings)[1]) as server:
        yield server


@pytest.fixture
def client(settings, running):
    """Give a bare client, with a context that trusts the post office."""
    context = ssl.create_default_context(cafile=mail_home(settings) / "certificate.pem")
    # As newer Pythons check by default.
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    with smtplib.SMTP("127.0.0.1", running.port, "test.example", 10) as opened:
        yield opened, context


def a_mail(settings, name, to="josefa@mail.example"):
    letter = Letter("0" * 32, MailKind.PASSWORD_CHANGED, to, "pt", {}, NOW)
    return compose(letter, settings.tenant(name), None, NOW)


def test_the_portal_sends_and_each_institution_has_its_own_mails(settings, running):
    for name in ("hospital", "laboratory"):
        with connect(settings.tenant(name).mail) as connection:
            connection.begin()
            connection.send(a_mail(settings, name), mailbox("josefa@mail.example"))
    for name, institution in (
        ("hospital", "Hospital da Ribeira"),
        ("laboratory", "Laboratório Meridiano"),
    ):
        (mail,) = store_of(settings, name).newest(10)
        assert mail.to == "josefa@mail.example"
        assert institution in mail.sender
        assert mail.text.startswith(institution)
        assert mail.language == "pt-PT"
        assert mail.at == NOW


def test_without_encryption_it_takes_nothing(settings, client):
    smtp, _context = client
    smtp.ehlo()
    assert not smtp.has_extn("auth")
    assert smtp.mail("a@mail.example")[0] == 530
    with pytest.raises(smtplib.SMTPException):
        smtp.login("hospital", (mail_home(settings) / "password").read_text().strip())


@pytest.mark.parametrize(
    ("user", "password"),
    [
        ("hospital", "a guess"),
        ("hospital", ""),
        ("elsewhere", None),
        ("", None),
        ("../hospital", None),
        ("hospital/../laboratory", None),
    ],
)
def test_who_does_not_know_the_password_or_is_no_institution_here(settings, client, user, password):
    smtp, context = client
    smtp.starttls(context=context)
    smtp.ehlo()
    assert smtp.mail("a@mail.example")[0] == 530
    right = (mail_home(settings) / "password").read_text().strip()
    with pytest.raises(smtplib.SMTPException):
        smtp.login(user, right if password is None else password)
    assert store_of(settings, "hospital").newest(1) == []


def test_a_mail_that_is_too_big_is_refused(settings, client):
    smtp, context = client
    smtp.starttls(context=context)
    smtp.login("hospital", (mail_home(settings) / "password").read_text().strip())
    with pytest.raises((smtplib.SMTPDataError, smtplib.SMTPSenderRefused)) as caught:
        smtp.sendmail("a@mail.example", ["b@mail.example"], b"x\r\n" * 500_000)
    assert caught.value.smtp_code == 552


def test_what_is_secret_is_for_its_owner_only(settings):
    for path in mail_home(settings).rglob("*"):
        wanted = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == wanted
    assert stat.S_IMODE(mail_home(settings).stat().st_mode) == 0o700
    key = (mail_home(settings) / "key.pem").read_bytes()
    assert key.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")


def contents(settings):
    return {path.name: path.read_bytes() for path in mail_home(settings).iterdir()}


def test_preparing_again_makes_nothing_anew_until_the_certificate_ends(settings):
    before = contents(settings)
    assert not prepare_post_office(settings, NOW + timedelta(days=300))
    assert contents(settings) == before
    assert prepare_post_office(settings, NOW + timedelta(days=366) - RENEWAL)
    after = contents(settings)
    assert {name for name in before if before[name] != after[name]} == {
        "certificate.pem",
        "key.pem",
    }


def test_what_an_interrupted_run_left_out_is_made(settings):
    for name in ("key.pem", "certificate.pem", "password"):
        (mail_home(settings) / name).unlink()
        assert prepare_post_office(settings, NOW)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        home = mail_home(settings)
        # Key and certificate are of one pair, or this raises.
        context.load_cert_chain(
            home / "certificate.pem", home / "key.pem", (home / "passphrase").read_bytes().strip()
        )


def test_it_is_open_when_it_runs(settings, request):
    assert not is_open(settings)
    request.getfixturevalue("running")
    assert is_open(settings)


def with_server(settings, **servers):
    tenants = {
        name: replace(tenant, mail=replace(tenant.mail, server=servers[name]))
        for name, tenant in settings.tenants.items()
    }
    return replace(settings, tenants=tenants)


@pytest.mark.parametrize(
    "servers",
    [
        {"hospital": "127.0.0.1:2525", "laboratory": "127.0.0.1:2526"},
        {"hospital": "mail.example:25", "laboratory": "mail.example:25"},
        {"hospital": "0.0.0.0:25", "laboratory": "0.0.0.0:25"},
        {"hospital": "localhost:25", "laboratory": "localhost:25"},
    ],
)
def test_it_serves_this_machine_only_and_all_alike(settings, servers):
    with pytest.raises(ConfigurationError, match=r"mail\.server"):
        endpoint(with_server(settings, **servers))


def test_institutions_that_are_no_demonstration_are_not_served(settings):
    tenants = {n: replace(t, demonstration=False) for n, t in settings.tenants.items()}
    with pytest.raises(ConfigurationError, match=r"mail\.server"):
        serve(replace(settings, tenants=tenants))


def test_without_preparation_it_does_not_start(tmp_path):
    with pytest.raises(KeyFileMissing, match="password is missing"):
        serve(settings_with(tmp_path / "state", 2525))


def test_a_port_that_is_taken_is_named(settings):
    port = endpoint(settings)[1]
    with socket.create_server(("127.0.0.1", port)):
        said = command(settings, "demo", "post-office")
        assert said.wait(60) == 2
        assert (
            said.stdout.read()
            == f"medportal: mail.server: 127.0.0.1:{port} cannot be listened on\n"
        )
        said.stdout.close()


def command(settings, *words):
    port = endpoint(settings)[1]
    program = [sys.executable, "-m", "medportal.cli", "--config", str(ROOT / "development.ini")]
    options = ["--set", f"state_dir={settings.state}", "--set", f"mail_port={port}"]
    return subprocess.Popen(
        [*program, *options, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_the_command_takes_mails_until_it_is_told_to_stop(settings):
    process = command(settings, "demo", "post-office")
    try:
        waiting = threading.Event()
        while not is_open(settings):
            assert process.poll() is None
            waiting.wait(0.05)
        with connect(settings.tenant("hospital").mail) as connection:
            connection.begin()
            connection.send(a_mail(settings, "hospital"), mailbox("josefa@mail.example"))
            # One that is in the middle of something does not keep it from stopping.
            process.terminate()
            assert process.wait(20) == 0
    finally:
        process.kill()
    said = process.stdout.read()
    process.stdout.close()
    assert '"mail taken"' in said
    assert "mail.example" not in said
    assert "Traceback" not in said
    assert len(store_of(settings, "hospital").newest(10)) == 1


# Mails as files


def test_the_newest_comes_first_and_old_ones_go(tmp_path):
    store = MailStore(tmp_path / "box")
    for number in range(MOST + 3):
        store.put(f"Subject: {number}\n\ntext".encode(), NOW + timedelta(seconds=number))
    newest = store.newest(2)
    assert [mail.subject for mail in newest] == [str(MOST + 2), str(MOST + 1)]
    assert len(list((tmp_path / "box").iterdir())) == MOST
    assert store.newest(MOST + 3)[-1].subject == "3"


@pytest.mark.parametrize(
    "name",
    ["", "..", "../password", "0" * 18, f"{'0' * 18}-{'g' * 32}", f"{'0' * 18}-{'0' * 32}\n"],
)
def test_only_names_of_mails_are_looked_up(tmp_path, name):
    (tmp_path / "password.eml").write_text("secret")
    assert MailStore(tmp_path / "box").get(name) is None


@pytest.mark.parametrize(
    "data", [b"", b"\x00\xff", b"Subject: =?utf-8?q?x", b"Content-Type: x/y\n\n1"]
)
def test_what_is_no_proper_mail_is_shown_as_far_as_it_goes(tmp_path, data):
    store = MailStore(tmp_path)
    name = store.put(data, NOW)
    assert store.get(name).name == name
