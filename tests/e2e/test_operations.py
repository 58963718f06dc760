"""``medportal run``, which ``make run`` is: ports, second runs, signals, deaths, files, names."""

import hashlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import ssl
import stat
from contextlib import closing
from pathlib import Path

import pytest
from e2e_running import Demonstration, start
from e2e_wire import TENANTS, authority, channel, client, descendants, is_alive
from free_ports import free_ports

VARIABLES = ("HOSPITAL_PORT", "LABORATORY_PORT", "EXCHANGE_PORT", "MAIL_PORT")


def run_with(demonstration: Demonstration, state: Path, ports: list[int]):
    """Try to run a demonstration on ports that cannot be had."""
    other = Demonstration(state, ports, demonstration.process, demonstration.log)
    options = ("--hospital-port", "--laboratory-port", "--exchange-port", "--mail-port")
    words = [word for pair in zip(options, map(str, ports), strict=True) for word in pair]
    return other.command("run", *words)


@pytest.mark.parametrize("which", range(4), ids=VARIABLES)
def test_a_port_that_is_taken_is_named_and_nothing_is_started(demonstration, tmp_path, which):
    ports = free_ports(4)
    ports[which] = demonstration.ports[which]
    said = run_with(demonstration, tmp_path / "state", ports)
    assert said.returncode != 0
    (line,) = said.stderr.splitlines()
    assert f"port {ports[which]} is taken" in line
    assert f"make run {VARIABLES[which]}=" in line
    assert said.stdout == ""
    assert not (tmp_path / "state").exists()


def test_one_port_cannot_be_given_twice(demonstration, tmp_path):
    first, second, third = free_ports(3)
    said = run_with(demonstration, tmp_path / "state", [first, second, first, third])
    assert said.returncode != 0
    lines = said.stderr.splitlines()
    assert len(lines) == 2
    assert f"HOSPITAL_PORT={first} is given twice" in lines[0]
    assert f"EXCHANGE_PORT={first} is given twice" in lines[1]
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("port", ["0", "65536", "x"])
def test_what_is_no_port_is_refused(demonstration, port):
    said = demonstration.command("run", "--hospital-port", port)
    assert said.returncode == 2
    assert "--hospital-port" in said.stderr
    assert "Traceback" not in said.stderr


# --- Health, names and certificates ---


@pytest.mark.parametrize("tenant", TENANTS)
def test_health_is_told_in_json_over_verified_tls(demonstration, tenant):
    answer = client(demonstration, tenant).ask("GET", "/healthz").check()
    assert answer.status == 200
    assert answer.header("content-type").startswith("application/json")
    assert json.loads(answer.text) == {"status": "ok", "tenant": tenant}


@pytest.mark.parametrize("tenant", TENANTS)
def test_a_certificate_is_good_for_one_institution_only(demonstration, tenant):
    (other,) = set(TENANTS) - {tenant}
    port = client(demonstration, tenant).port
    own, others = (authority(demonstration.state, name) for name in (tenant, other))
    refusals = [
        (f"{other}.localhost", own, "Hostname mismatch"),
        ("localhost", own, "Hostname mismatch"),
        (f"x.{tenant}.localhost", own, "Hostname mismatch"),
        (f"{tenant}.localhost", others, "unable to get local issuer certificate"),
    ]
    for name, trusted, reason in refusals:
        with (
            pytest.raises(ssl.SSLCertVerificationError, match=reason),
            channel(port, name, trusted),
        ):
            pytest.fail("the certificate was accepted")


def test_an_authority_may_not_speak_for_the_other_institution(demonstration, tmp_path):
    """The browser is told to trust both: neither may pose as the other (name constraints)."""
    from cryptography import x509

    for tenant in TENANTS:
        pem = Path(authority(demonstration.state, tenant)).read_bytes()
        constraints = x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(
            x509.NameConstraints
        )
        permitted = [
            name.value
            for name in constraints.value.permitted_subtrees or ()
            if isinstance(name, x509.DNSName)
        ]
        assert permitted == [f"{tenant}.localhost"]


# --- Files ---


def test_the_accounts_are_complete_and_for_their_owner_only(demonstration):
    path = demonstration.state / "demo" / "accounts.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    accounts = json.loads(path.read_text("utf-8"))
    keys = {"tenant", "url", "role", "name", "citizen_number", "password"}
    assert accounts
    for account in accounts:
        assert set(account) == keys
        assert all(isinstance(value, str) and value for value in account.values())
        assert account["url"] == demonstration.url(account["tenant"])
    assert len({account["password"] for account in accounts}) == len(accounts)


def test_what_is_private_is_so_on_disk(demonstration):
    """Of everything under the state directory only certificates and lists are for others."""
    public = {".crt", ".crl", ".pub", ".partner", ".lock"}
    state = demonstration.state
    files = [path for path in state.rglob("*") if path.is_file()]
    private = [path for path in files if path.suffix not in public and path.name != ".lock"]
    assert {"ca.key", "web.pem", "tenant.keystore", "inbox.key", "jobs.passphrase"} <= {
        path.name for path in private
    }
    open_to_others = {
        str(path.relative_to(state)): oct(path.stat().st_mode)
        for path in private
        if stat.S_IMODE(path.stat().st_mode) != 0o600
    }
    assert open_to_others == {}
    for tenant in TENANTS:
        assert stat.S_IMODE((state / tenant).stat().st_mode) == 0o700
        assert stat.S_IMODE((state / tenant / "secrets").stat().st_mode) == 0o700


def test_no_private_key_lies_open(demonstration):
    seen = 0
    for path in demonstration.state.rglob("*"):
        if not path.is_file() or b"PRIVATE KEY" not in (data := path.read_bytes()):
            continue
        for line in data.splitlines():
            if line.startswith(b"-----BEGIN") and b"PRIVATE KEY" in line:
                seen += 1
                assert line == b"-----BEGIN ENCRYPTED PRIVATE KEY-----", path
    assert seen >= 2 * 9


# --- Second runs, signals, deaths ---


@pytest.fixture(scope="module")
def second_home(demonstration, tmp_path_factory):
    """Copy the state of the running demonstration: what a second run finds."""
    state = tmp_path_factory.mktemp("second") / "state"
    shutil.copytree(demonstration.state, state, ignore=shutil.ignore_patterns("*.sqlite*"))
    for tenant in TENANTS:
        name = Path(tenant) / "portal.sqlite"
        with (
            closing(sqlite3.connect(demonstration.state / name)) as source,
            closing(sqlite3.connect(state / name)) as copy,
        ):
            source.backup(copy)
    return state


def fingerprints(state: Path) -> dict[str, str]:
    """Return the digest of every key, passphrase and certificate."""
    return {
        str(path.relative_to(state)): hashlib.sha256(path.read_bytes()).hexdigest()
        for tenant in TENANTS
        for folder in ("pki/keys", "pki/issued", "secrets", "vault")
        for path in sorted((state / tenant / folder).rglob("*"))
        if path.is_file()
    } | {
        f"{tenant}/{name}": hashlib.sha256((state / tenant / name).read_bytes()).hexdigest()
        for tenant in TENANTS
        for name in ("pki/ca.key", "pki/ca.crt")
    }


def people(state: Path) -> list[list[tuple[str, ...]]]:
    """Return the accounts in the databases, with the hashes of their passwords."""
    found = []
    for tenant in TENANTS:
        with closing(sqlite3.connect(state / tenant / "portal.sqlite")) as database:
            rows = database.execute("SELECT person_id, password_hash FROM account")
            found.append(sorted(rows.fetchall()))
    return found


def secrets_of(accounts: list[dict[str, str]]) -> list[tuple[str, ...]]:
    """Return accounts without their addresses, which follow the ports."""
    return [
        (a["tenant"], a["role"], a["name"], a["citizen_number"], a["password"]) for a in accounts
    ]


def end(running: Demonstration, pids: set[int]) -> int:
    """Wait for the supervisor and then for nobody; return its exit status."""
    status = running.process.wait(timeout=40)
    left = {pid for pid in pids if is_alive(pid)}
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == set()
    for port in running.ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
    return status


@pytest.fixture
def another(second_home, tmp_path):
    """Run a demonstration on the copied state; it does not outlive its test."""
    running = start(second_home, free_ports(4), tmp_path / "log")
    pids = descendants(running.process.pid)
    yield running, pids
    if running.process.poll() is None:
        running.process.kill()
        running.process.wait()
    for pid in pids:
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_a_second_run_makes_nothing_anew_and_a_signal_stops_all(second_home, request, number):
    keys, accounts, known = fingerprints(second_home), accounts_of(second_home), people(second_home)
    running, pids = request.getfixturevalue("another")
    assert len(pids) >= 6
    assert all(is_alive(pid) for pid in pids)
    assert fingerprints(second_home) == keys
    assert secrets_of(running.accounts) == secrets_of(accounts)
    assert {a["url"] for a in running.accounts} == {running.url(tenant) for tenant in TENANTS}
    assert people(second_home) == known
    for tenant in TENANTS:
        client(running, tenant).sign_in(running.account(tenant, "admin"))
    running.process.send_signal(number)
    assert end(running, pids) == 0
    assert "Traceback" not in running.log.read_text()


def test_a_process_that_dies_stops_the_others_and_is_named(another):
    running, pids = another
    (portal,) = (pid for pid in pids if b"pserve" in command_of(pid) and parent_is(running, pid))
    # The portal cannot stop its own listeners any more: the supervisor has to.
    assert descendants(portal)
    os.kill(portal, signal.SIGKILL)
    assert end(running, pids) == 1
    assert "The portal ended by itself; stopping the others." in running.log.read_text()


def accounts_of(state: Path) -> list[dict[str, str]]:
    return json.loads((state / "demo" / "accounts.json").read_text("utf-8"))


def command_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def parent_is(running: Demonstration, pid: int) -> bool:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[1]) == running.process.pid
