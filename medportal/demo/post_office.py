"""The demonstration's mail server: real SMTP on this machine, and nothing leaves it.

It demands what a provider's submission server demands, STARTTLS and a sign-in, so that the
demonstration sends as production does. What comes is kept as files (:mod:`mail_store`), each
institution's apart, by who signed in, and read on a page (:mod:`mailbox`).
"""

import asyncio
import ipaddress
import logging
import secrets
import signal
import socket
import ssl
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import structlog
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from medportal.core.clock import Clock, utcnow
from medportal.core.errors import ConfigurationError
from medportal.demo.mail_store import MailStore, mail_home, store_of
from medportal.pki.files import PRIVATE, read_private, write_file
from medportal.pki.keyfiles import certificate_from_pem, to_pem
from medportal.settings import Settings

log = structlog.get_logger()
LIFETIME = timedelta(days=365)
#: A certificate that ends sooner is made anew.
RENEWAL = timedelta(days=30)
MOST_BYTES = 1_000_000
CONNECTION_SECONDS = 120


class PostOffice:
    """Who may send, and where their mails are kept. The handler of aiosmtpd."""

    def __init__(self, stores: dict[str, MailStore], password: bytes, clock: Clock) -> None:
        self._stores = stores
        self._password = password
        self._clock = clock

    def authenticate(
        self, _server: object, _session: object, _envelope: object, _mechanism: str, data: Any
    ) -> AuthResult:
        """Accept an institution that knows the password; from then on it is who sends."""
        if not isinstance(data, LoginPassword):
            return AuthResult(success=False, handled=False)
        user = data.login.decode("utf-8", "replace")
        is_right = secrets.compare_digest(data.password, self._password)
        if not is_right or user not in self._stores:
            return AuthResult(success=False, handled=False)
        return AuthResult(success=True, auth_data=user)

    async def handle_DATA(  # noqa: N802  (aiosmtpd finds it by this name)
        self, _server: object, session: Any, envelope: Any
    ) -> str:
        """Keep a mail; the answer is given when it is on the disk."""
        name = self._stores[session.auth_data].put(envelope.original_content, self._clock())
        log.info("mail taken", tenant=session.auth_data, mail=name)
        return "250 2.0.0 Kept"


def make_server(office: PostOffice, context: ssl.SSLContext) -> SMTP:
    """Return the server of one connection."""
    return SMTP(
        office,
        hostname="localhost",
        ident="medportal demonstration",
        tls_context=context,
        require_starttls=True,
        auth_required=True,
        authenticator=office.authenticate,
        data_size_limit=MOST_BYTES,
        enable_SMTPUTF8=True,
        timeout=CONNECTION_SECONDS,
        loop=asyncio.get_running_loop(),
    )


def serve(settings: Settings) -> None:
    """Take mails until SIGTERM.

    Raises ``ConfigurationError`` where nothing is prepared, or the port is taken.
    """
    # aiosmtpd logs addresses; what went wrong with us is told as an error.
    logging.getLogger("mail.log").setLevel(logging.ERROR)
    host, port = endpoint(settings)
    home = mail_home(settings)
    stores = {name: store_of(settings, name) for name in _senders(settings)}
    office = PostOffice(stores, read_private(home / "password").strip(), utcnow)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(
        home / "certificate.pem", home / "key.pem", read_private(home / "passphrase").strip()
    )
    try:
        asyncio.run(_serve(office, context, host, port))
    except OSError as error:
        raise ConfigurationError(f"mail.server: {host}:{port} cannot be listened on") from error


async def _serve(office: PostOffice, context: ssl.SSLContext, host: str, port: int) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = await loop.create_server(lambda: make_server(office, context), host, port)
    log.info("post office listens", host=host, port=port)
    await stop.wait()
    # Whoever is in the middle of a mail gets no answer and sends it again.
    server.close()


def endpoint(settings: Settings) -> tuple[str, int]:
    """Return where the demonstration's institutions send. Raises ``ConfigurationError``."""
    servers = set(_senders(settings).values())
    if len(servers) != 1:
        raise ConfigurationError(
            "mail.server: the institutions of a demonstration name one server, all the same"
        )
    host, _colon, port = servers.pop().rpartition(":")
    if not _is_loopback(host):
        raise ConfigurationError(
            f"mail.server: the demonstration's mails stay on this machine: 127.0.0.1:{port}"
        )
    return host, int(port)


def is_open(settings: Settings) -> bool:
    """Tell whether the post office takes connections."""
    try:
        with socket.create_connection(endpoint(settings), timeout=2):
            return True
    except OSError:
        return False


def _senders(settings: Settings) -> dict[str, str]:
    return {
        tenant.id: tenant.mail.server
        for tenant in settings.tenants.values()
        if tenant.demonstration and tenant.mail is not None
    }


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def prepare_post_office(settings: Settings, now: datetime) -> bool:
    """Make password, key and certificate where they are missing; return whether any was."""
    home = mail_home(settings)
    made = _make_secret(home / "password")
    made = _make_secret(home / "passphrase") or made
    if _is_fit(home, now):
        return made
    key = ec.generate_private_key(ec.SECP256R1())
    # Without a certificate the next run makes both anew: they shall never be of two pairs.
    (home / "certificate.pem").unlink(missing_ok=True)
    write_file(home / "key.pem", to_pem(key, read_private(home / "passphrase").strip()), PRIVATE)
    write_file(home / "certificate.pem", _certificate(key, endpoint(settings)[0], now), PRIVATE)
    return True


def _make_secret(path: Path) -> bool:
    if path.exists():
        return False
    write_file(path, secrets.token_urlsafe(32).encode("ascii") + b"\n", PRIVATE)
    return True


def _is_fit(home: Path, now: datetime) -> bool:
    path = home / "certificate.pem"
    if not path.exists() or not (home / "key.pem").exists():
        return False
    certificate = certificate_from_pem(path.read_bytes(), str(path))
    return certificate.not_valid_after_utc - now > RENEWAL


def _certificate(key: ec.EllipticCurvePrivateKey, host: str, now: datetime) -> bytes:
    """Return a certificate for the address ``host``, signed with its own key."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Post office of the demonstration")])
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))]),
            critical=False,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, SHA256())
        .public_bytes(Encoding.PEM)
    )
