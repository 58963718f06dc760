"""Keys between edge and portal: renewed when due, laid ready, fetched, checked and put in place."""

import http.server
import json
import os
import shutil
import signal
import ssl
import threading
from datetime import timedelta

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from medportal.cli import main
from medportal.core.clock import utcnow
from medportal.core.errors import MedportalError
from medportal.keys import Places
from medportal.ops import edge_host
from medportal.ops.certificates import renew_edge_due, warning_due
from medportal.ops.edge_host import Edge, EdgeFilesUnfit, PortalUnreachable
from medportal.ops.hosts import HostRole, create_edge, export_host
from medportal.ops.institution import create_keys
from medportal.pki import ca
from medportal.pki.carried import EDGE_FILES, carry_directory, prepared
from medportal.pki.errors import CrlInvalid
from medportal.pki.expiry import State
from medportal.pki.keystore import KeyStore
from medportal.pki.layout import PROFILES, Layout
from medportal.pki.passphrases import read_passphrase
from medportal.pki.profiles import Group, Purpose
from medportal.pki.standing import edge_standings
from medportal.settings import parse_settings

NOW = utcnow()
LATER = NOW + timedelta(days=365 - 121)
INI = {
    "medportal.production": "false",
    "medportal.tenants": "hospital",
    "medportal.variable.exchange_port": "4000",
    "medportal.variable.mail_port": "2525",
    "medportal.variable.hospital_port": "8443",
    "medportal.variable.laboratory_port": "8444",
}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    state = tmp_path_factory.mktemp("edge")
    raw = {"medportal.tenants_dir": str(PROFILES.parents[1] / "tenants")}
    settings = parse_settings({**INI, **raw, "medportal.state_dir": str(state)})
    tenant = settings.tenant("hospital")
    create_keys(settings, tenant, NOW)
    create_edge(settings, tenant, ["localhost"], NOW)
    return state


@pytest.fixture
def site(original, tmp_path):
    """Give an institution with an edge, and the edge's directory as it was first carried there."""
    shutil.copytree(original, tmp_path / "state")
    raw = {
        **INI,
        "medportal.tenants_dir": str(PROFILES.parents[1] / "tenants"),
        "medportal.state_dir": str(tmp_path / "state"),
    }
    settings = parse_settings(raw)
    made = Site(settings, tmp_path, raw)
    export_host(settings, made.tenant, HostRole.EDGE, tmp_path / "nginx")
    made.passphrase.parent.mkdir()
    (tmp_path / "nginx" / "edge.passphrase").rename(made.passphrase)
    return made


class Site:
    def __init__(self, settings, base, raw):
        self.settings, self.base, self.raw = settings, base, raw
        self.tenant = settings.tenant("hospital")
        self.home = settings.home("hospital")
        self.keys = Places(self.home).edge
        self.secrets = self.home / "secrets"
        self.passphrase = base / "credentials" / "edge.passphrase"

    @property
    def edge(self):
        return Edge(self.base / "nginx", read_passphrase(self.passphrase))

    def renew(self, now):
        return renew_edge_due(self.settings, self.tenant, now)

    def given(self):
        return {name: text.encode() for name, text in prepared(self.keys).items()}

    def there(self):
        return {name: (self.base / "nginx" / name).read_bytes() for name in EDGE_FILES}

    def issue(self, directory, purpose, group, names=()):
        return ca.issue(
            directory,
            purpose,
            dns_names=names,
            ca_passphrase=read_passphrase(self.secrets / "ca.passphrase"),
            group_passphrase=read_passphrase(self.secrets / f"{group}.passphrase"),
            now=LATER,
        )


def test_what_is_not_due_is_left_and_what_is_due_is_renewed_once(site):
    renewed, ready = site.renew(NOW)
    assert (renewed, ready) == ([], list(EDGE_FILES))
    before = {name: (carry_directory(site.keys) / name).stat().st_ino for name in EDGE_FILES}
    assert site.renew(LATER - timedelta(days=3)) == ([], [])
    renewed, ready = site.renew(LATER)
    assert {(each.purpose, each.is_edge) for each in renewed} == {
        (Purpose.WEB, True),
        (Purpose.EDGE, True),
    }
    # The key for browsers is the institution's own business.
    assert ready == ["edge-ca.crl", "edge.pem"]
    after = {name: (carry_directory(site.keys) / name).stat().st_ino for name in EDGE_FILES}
    assert {name for name in EDGE_FILES if after[name] != before[name]} == set(ready)
    assert site.renew(LATER) == ([], [])
    leaf = KeyStore(site.keys, {"portal": read_passphrase(site.secrets / "portal.passphrase")})
    found = leaf.credentials(Purpose.WEB).certificate
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    # The list goes on for as long as the new keys.
    crl = ca.read_crl(site.keys)
    assert crl.next_update_utc >= found.not_valid_after_utc - timedelta(days=1)


@pytest.mark.parametrize("gone", ["ca", "portal", "edge"])
def test_without_a_passphrase_the_rest_goes_on(site, gone):
    (site.secrets / f"{gone}.passphrase").unlink()
    renewed = {each.purpose for each in site.renew(LATER)[0]}
    left = {"ca": set(), "portal": {Purpose.EDGE}, "edge": {Purpose.WEB}}
    assert renewed == left[gone]


def test_without_an_edge_there_is_nothing_to_do(site):
    shutil.rmtree(site.keys)
    assert site.renew(LATER) == ([], [])
    assert edge_standings(site.keys, LATER) == []
    assert warning_due(site.home / "pki", NOW, site.keys) is None


def test_admins_are_warned_of_what_ends(site):
    states = {each.what: each.state for each in edge_standings(site.keys, LATER)}
    assert states == {
        "edge-authority": State.IN_USE,
        "edge-list": State.IN_USE,
        "portal-for-edge": State.RENEW,
        "edge": State.RENEW,
    }
    for purpose in ("web", "channel", "exchange", "record", "receipt"):
        group = "portal" if purpose in ("web", "record") else "exchange"
        names = site.tenant.hostnames if purpose == "web" else ()
        site.issue(site.home / "pki", Purpose(purpose), group, names)
    ends = NOW + timedelta(days=365 - 7)
    passphrase = read_passphrase(site.secrets / "ca.passphrase")
    ca.make_crl(site.home / "pki", ca_passphrase=passphrase, now=ends)
    assert warning_due(site.home / "pki", ends) is None
    assert warning_due(site.home / "pki", ends, site.keys).days == 7


def test_the_edge_takes_what_is_new_and_says_how_long_it_lasts(site):
    site.renew(LATER)
    held = edge_host.take(site.edge, site.given(), LATER)
    assert [(each.file, each.is_new) for each in held] == [("web.pem", False), ("edge.pem", True)]
    assert held[1].days_left in (364, 365)
    # What was not renewed stays as it was encrypted first; the portal's is the same key.
    assert site.there()["edge.pem"] == site.given()["edge.pem"]
    assert [each.is_new for each in edge_host.take(site.edge, site.given(), LATER)] == [False] * 2
    for name in EDGE_FILES:
        mode = (site.base / "nginx" / name).stat().st_mode & 0o777
        assert mode == (0o600 if name.endswith(".pem") else 0o644)


def test_a_new_web_key_comes_along(site):
    site.issue(site.home / "pki", Purpose.WEB, "portal", site.tenant.hostnames)
    assert site.renew(NOW)[1] == list(EDGE_FILES)
    held = edge_host.take(site.edge, site.given(), LATER)
    assert [(each.file, each.is_new) for each in held] == [("web.pem", True), ("edge.pem", False)]


def _another_authority(site, files):
    home = site.base / "other"
    ca.init_ca(home, "hospital", {"en": "Hospital"}, b"another passphrase", LATER)
    files["edge-ca.crt"] = (home / "ca.crt").read_bytes()


def _another_list(site, files):
    pem = x509.load_der_x509_crl(Layout(site.home / "pki").crl.read_bytes())
    files["edge-ca.crl"] = pem.public_bytes(Encoding.PEM)


def _an_older_list(site, files):
    files["edge-ca.crl"] = site.older


def _another_passphrase(site, files):
    files["edge.pem"] = Layout(site.keys).key(Purpose.WEB).read_bytes()


def _a_web_key_with_other_names(site, files):
    files["web.pem"] = files["edge.pem"]


def _a_key_that_is_not_the_certificates(site, files):
    begin = b"-----BEGIN ENCRYPTED"
    certificate = files["edge.pem"].split(begin)[0]
    files["edge.pem"] = certificate + begin + files["web.pem"].split(begin)[1]


def _the_web_key_as_the_edges(site, files):
    files["edge.pem"] = files["web.pem"]


def _an_older_web_key(site, files):
    files["web.pem"] = site.older_web


ATTACKS = [
    _another_authority,
    _another_list,
    _an_older_list,
    _another_passphrase,
    _a_web_key_with_other_names,
    _a_key_that_is_not_the_certificates,
    _the_web_key_as_the_edges,
    _an_older_web_key,
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__.strip("_"))
def test_what_does_not_belong_here_replaces_nothing(site, attack):
    site.renew(NOW)
    site.older, site.older_web = site.given()["edge-ca.crl"], site.given()["web.pem"]
    site.issue(site.home / "pki", Purpose.WEB, "portal", site.tenant.hostnames)
    site.renew(LATER)
    edge_host.take(site.edge, site.given(), LATER)
    files, before = site.given(), site.there()
    attack(site, files)
    with pytest.raises(MedportalError):
        edge_host.take(site.edge, files, LATER)
    assert site.there() == before


def test_a_withdrawn_edge_is_not_taken(site):
    site.renew(LATER)
    leaf = x509.load_pem_x509_certificate(site.given()["edge.pem"])
    passphrase = read_passphrase(site.secrets / "ca.passphrase")
    ca.revoke(site.keys, leaf.serial_number, ca_passphrase=passphrase, now=LATER)
    assert site.renew(LATER)[1] == ["edge-ca.crl"]
    with pytest.raises(MedportalError) as refused:
        edge_host.take(site.edge, site.given(), LATER)
    assert not isinstance(refused.value, CrlInvalid)


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append((self.path, self.headers["Host"]))
        status, body = self.server.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        """Say nothing."""


@pytest.fixture
def portal(site, tmp_path):
    """Give a server with the portal's key under the edge's authority, which demands the edge's."""
    store = KeyStore(site.keys, {Group.PORTAL: read_passphrase(site.secrets / "portal.passphrase")})
    pem = store.write_unlocked(Purpose.WEB, tmp_path / "portal.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    context.load_verify_locations(Layout(site.keys).ca_certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.asked, server.answer = [], (404, b"")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def at(portal):
    return f"https://localhost:{portal.server_address[1]}"


def test_the_edge_fetches_over_mutual_tls(site, portal):
    site.renew(LATER)
    portal.answer = (200, json.dumps(prepared(site.keys)).encode())
    found = edge_host.fetch(site.edge, at(portal), "portal.example")
    assert found == site.given()
    assert portal.asked == [("/edge/keys", "portal.example")]


@pytest.mark.parametrize(
    "answer",
    [b"", b"{}", b"[]", b"\xff", b"null", b'{"edge.pem": "x"}', b"x" * (256 * 1024 + 1)],
    ids=range(7),
)
def test_another_answer_is_refused(site, portal, answer):
    portal.answer = (200, answer)
    with pytest.raises(EdgeFilesUnfit):
        edge_host.fetch(site.edge, at(portal), "portal.example")


def test_files_that_are_no_text_are_refused(site, portal):
    for value in (5, None, "ü", ["x"]):
        portal.answer = (200, json.dumps(dict.fromkeys(EDGE_FILES, value)).encode())
        with pytest.raises(EdgeFilesUnfit):
            edge_host.fetch(site.edge, at(portal), "portal.example")


def test_a_portal_that_is_not_ours_is_not_asked(site, portal):
    portal.answer = (404, b"")
    with pytest.raises(PortalUnreachable, match="status 404"):
        edge_host.fetch(site.edge, at(portal), "portal.example")
    asked = len(portal.asked)
    for address in (f"https://127.0.0.1:{portal.server_address[1]}", "http://localhost", "x"):
        with pytest.raises(PortalUnreachable):
            edge_host.fetch(site.edge, address, "portal.example")
    # Another authority: what the edge believes is that one alone.
    other = site.base / "other"
    ca.init_ca(other, "hospital", {"en": "Hospital"}, b"another passphrase", NOW)
    shutil.copy(other / "ca.crt", site.base / "nginx" / "edge-ca.crt")
    with pytest.raises(PortalUnreachable, match="as its edge"):
        edge_host.fetch(site.edge, at(portal), "portal.example")
    assert len(portal.asked) == asked


def test_the_command_takes_tells_nginx_and_warns(site, portal, monkeypatch, tmp_path):
    ini = tmp_path / "edge.ini"
    lines = ["[app:main]", "use = egg:medportal", *(f"{key} = {site.raw[key]}" for key in site.raw)]
    ini.write_text("\n".join(lines) + "\n", "utf-8")
    site.renew(LATER)
    portal.answer = (200, json.dumps(prepared(site.keys)).encode())
    pid_file, told = tmp_path / "nginx.pid", []
    pid_file.write_text(f"{os.getpid()}\n")
    monkeypatch.setattr(edge_host.os, "kill", lambda *arguments: told.append(arguments))
    words = [
        *("--config", str(ini), "--json", "edge", "fetch", "--portal", at(portal)),
        *("--host", "portal.example", "--directory", str(site.base / "nginx")),
        *("--passphrase-file", str(site.passphrase), "--reload", str(pid_file)),
    ]

    def run(now):
        monkeypatch.setattr("medportal.cli.edge.utcnow", lambda: now)
        result = CliRunner().invoke(main, words)
        assert result.exit_code < 2, result.stderr
        return result.exit_code, [json.loads(line) for line in result.stdout.splitlines()]

    status, rows = run(LATER)
    assert (status, [row["renewed"] for row in rows]) == (0, ["no", "yes"])
    assert told == [(os.getpid(), signal.SIGHUP)]
    # The new key is good from LATER on, which TLS here takes for the future.
    monkeypatch.setattr(edge_host, "fetch", lambda *arguments: site.given())
    # nginx is told each time: a run before may have ended between the files and this. What ends
    # soon is an exit status.
    status, rows = run(NOW + timedelta(days=365 - 20))
    assert (status, [row["renewed"] for row in rows], len(told)) == (1, ["no", "no"], 2)
    renewed = CliRunner().invoke(
        main, ["--config", str(ini), "--json", "edge", "renew", "hospital"]
    )
    assert json.loads(renewed.stdout)["renewed"] == "nothing is due"


def test_an_nginx_that_does_not_run_is_named(tmp_path, monkeypatch):
    def gone(*_arguments):
        raise ProcessLookupError

    (tmp_path / "pid").write_text("4711")
    monkeypatch.setattr(edge_host.os, "kill", gone)
    with pytest.raises(EdgeFilesUnfit, match="start nginx"):
        edge_host.reload(tmp_path / "pid")


def test_what_does_not_open_and_what_is_no_address_are_named(site):
    wrong = edge_host.Edge(site.base / "nginx", b"another passphrase")
    with pytest.raises(EdgeFilesUnfit, match="passphrase"):
        edge_host.fetch(wrong, "https://localhost:1", "portal.example")
    for address in ("https://localhost:99999", "http://localhost", "https://", "localhost"):
        with pytest.raises(edge_host.PortalUnreachable, match="say where"):
            edge_host.fetch(wrong, address, "portal.example")


@pytest.mark.parametrize("text", ["", "0", "1", "-1", "x", "12 13"])
def test_only_a_process_is_told(tmp_path, text, monkeypatch):
    (tmp_path / "pid").write_text(text)
    monkeypatch.setattr(edge_host.os, "kill", lambda *arguments: pytest.fail("told"))
    with pytest.raises(EdgeFilesUnfit):
        edge_host.reload(tmp_path / "pid")
