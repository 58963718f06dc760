"""What others think of our certificates: the openssl command, and Chromium."""

import os
import shutil
import ssl
import subprocess
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from medportal.core.clock import utcnow
from medportal.pki import ca as authority
from medportal.pki import certificates
from medportal.pki.files import write_file
from medportal.pki.keyfiles import from_pem, to_open_pem
from medportal.pki.layout import Layout
from medportal.pki.passphrases import create_passphrases
from medportal.pki.profiles import Algorithm, Purpose


def needs(*commands):
    """Skip, with the reason named, unless everything is demanded."""
    missing = [command for command in commands if shutil.which(command) is None]
    if missing and not os.environ.get("MEDPORTAL_REQUIRE_ALL"):
        pytest.skip(f"not installed here: {', '.join(missing)}")
    assert not missing, f"not installed here: {', '.join(missing)}"


def run(*command, **options):
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=60, **options
    )


@pytest.fixture
def made(tmp_path):
    """An authority valid today, with every key, for tools that ask the clock themselves."""
    directory, secrets = tmp_path / "pki", create_passphrases(tmp_path / "secrets")
    names, now = ["hospital.localhost"], utcnow()
    authority.init_ca(
        directory, "hospital", {"en": "Hospital"}, secrets["ca"], now, permitted_dns=names
    )
    authority.issue_missing(directory, dns_names=names, passphrases=secrets, now=now)
    return Layout(directory), secrets


def openssl_verify(layout, crl, leaf, *more):
    return run(
        *("openssl", "verify", "-x509_strict", "-check_ss_sig", "-CAfile", layout.ca_certificate),
        *("-crl_check", "-CRLfile", crl, *more, leaf),
    )


def test_openssl_agrees(made, tmp_path):
    needs("openssl")
    layout, secrets = made
    crl = tmp_path / "crl.pem"
    run("openssl", "crl", "-inform", "DER", "-in", layout.crl, "-out", crl, check=True)
    # OpenSSL before 3.5 knows no ML-DSA, so the head-pq leaf is for newer ones.
    for purpose in set(Purpose) - {Purpose.EDGE, Purpose.HEAD_PQ}:
        answer = openssl_verify(layout, crl, layout.key(purpose))
        assert answer.returncode == 0, answer.stderr
    web = layout.key(Purpose.WEB)
    purposes = ("-purpose", "sslserver", "-verify_hostname", "hospital.localhost")
    assert openssl_verify(layout, crl, web, *purposes).returncode == 0
    assert openssl_verify(layout, crl, web, "-purpose", "sslclient").returncode != 0
    channel = layout.key(Purpose.CHANNEL)
    for use in ("sslserver", "sslclient"):
        assert openssl_verify(layout, crl, channel, "-purpose", use).returncode == 0
    record = layout.key(Purpose.RECORD)
    assert openssl_verify(layout, crl, record, "-purpose", "sslserver").returncode != 0


def test_openssl_sees_a_revocation(made, tmp_path):
    needs("openssl")
    layout, secrets = made
    [web] = [i for i in authority.inventory(layout.root) if i.purpose is Purpose.WEB]
    authority.revoke(
        layout.root,
        web.serial,
        ca_passphrase=secrets["ca"],
        now=utcnow(),
        reason=x509.ReasonFlags.key_compromise,
    )
    crl = tmp_path / "crl.pem"
    run("openssl", "crl", "-inform", "DER", "-in", layout.crl, "-out", crl, check=True)
    answer = openssl_verify(layout, crl, layout.key(Purpose.WEB))
    assert answer.returncode != 0
    assert "certificate revoked" in answer.stderr


def test_openssl_opens_our_key_files(made):
    """So an institution can leave with its keys."""
    needs("openssl")
    layout, secrets = made
    word = secrets["portal"].decode()
    opened = run("openssl", "pkey", "-in", layout.key(Purpose.RECORD), "-passin", f"pass:{word}")
    assert "BEGIN PRIVATE KEY" in opened.stdout
    refused = run("openssl", "pkey", "-in", layout.key(Purpose.RECORD), "-passin", "pass:wrong")
    assert refused.returncode != 0


class _Greeting(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<title>t</title><p>welcome-4711</p>")

    def log_message(self, *_):
        """Keep the tests' output clean."""


class _Server(HTTPServer):
    def handle_error(self, _request, _address):
        """A browser that refuses the certificate breaks off: that is what is tested."""


@pytest.fixture
def serve():
    """Serve a page over TLS with a PEM file, and give the port."""
    servers = []

    def start(pem):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        server = _Server(("127.0.0.1", 0), _Greeting)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        servers.append((server, thread))
        return server.server_address[1]

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def browse(made, tmp_path):
    """Open an address in Chromium with the authority installed; give the page's source."""
    needs("chromium", "certutil")
    home = tmp_path / "home"
    store = home / ".pki" / "nssdb"
    store.mkdir(parents=True)
    database = f"sql:{store}"
    run("certutil", "-N", "--empty-password", "-d", database, check=True)
    run(
        *("certutil", "-A", "-d", database, "-n", "hospital", "-t", "C,,"),
        *("-i", made[0].ca_certificate),
        check=True,
    )
    environment = os.environ | {"HOME": str(home)}
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    quiet += ["--no-first-run", "--no-sandbox", "--disable-gpu", f"--user-data-dir={home}/chrome"]

    def open_page(url):
        command = ["chromium", "--headless=new", *quiet, "--timeout=10000", "--dump-dom", url]
        return run(*command, env=environment).stdout

    return open_page


def unlocked(layout, leaf, secret):
    """Certificate and open key in one file, as a server takes them."""
    key = from_pem(layout.key(Purpose.WEB).read_bytes(), secret, "web key")
    path = layout.root.parent / "unlocked.pem"
    write_file(path, leaf.public_bytes(Encoding.PEM) + to_open_pem(key), 0o600)
    return path


def test_chromium_accepts_the_web_certificate(made, serve, browse):
    layout, secrets = made
    leaf = x509.load_pem_x509_certificate(layout.key(Purpose.WEB).read_bytes())
    port = serve(unlocked(layout, leaf, secrets["portal"]))
    assert "welcome-4711" in browse(f"https://hospital.localhost:{port}/")


def test_chromium_holds_the_authority_to_its_own_names(made, serve, browse):
    """A thief of the hospital's authority makes a certificate for somebody else."""
    layout, secrets = made
    ca_key = from_pem(layout.ca_key.read_bytes(), secrets["ca"], "ca key")
    key = certificates.generate_key(Algorithm.P256)
    ca = authority.read_ca(layout.root)
    start = ca.not_valid_before_utc
    short = certificates.Validity(start, start + timedelta(days=300))
    evil = certificates.build_leaf(
        ca_key, ca, key.public_key(), Purpose.WEB, "hospital", short, ["bank.localhost"]
    )
    path = layout.root.parent / "evil.pem"
    write_file(path, evil.public_bytes(Encoding.PEM) + to_open_pem(key), 0o600)
    port = serve(path)
    assert "welcome-4711" not in browse(f"https://bank.localhost:{port}/")
