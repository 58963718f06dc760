"""Real mail servers for tests: a good one that can be told to refuse, and bad ones."""

import asyncio
import contextlib
import email
import ipaddress
import os
import secrets
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from medportal.tenancy.tenant import Mail

USER = "hospital"
PASSWORD = "a password for sending mail"
SENDER = "no-reply@hospital.example"


def make_certificate(directory: Path, name: str = "server", **kw: Any) -> Path:
    """Write a self-signed certificate with its key behind it; return the file."""
    path = directory / f"{name}-{secrets.token_hex(4)}.pem"
    path.write_bytes(certificate_pem(**kw))
    path.chmod(0o600)
    return path


def certificate_pem(*, address: str = "127.0.0.1", days: int = 1) -> bytes:
    """Return a certificate for an address; with negative days it has expired."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a mail server")])
    end = datetime.now(UTC) + timedelta(days=days)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(end - timedelta(days=3))
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]),
            critical=False,
        )
        .sign(key, SHA256())
    )
    return certificate.public_bytes(Encoding.PEM) + key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )


def server_context(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@dataclass
class Taken:
    """A mail that a server took."""

    sender: str
    recipients: list[str]
    data: bytes

    @property
    def message(self) -> EmailMessage:
        return email.message_from_bytes(self.data, policy=default)

    @property
    def text(self) -> str:
        return self.message.get_body(("plain",)).get_content().replace("\r\n", "\n")


@dataclass
class Behaviour:
    """The handler of aiosmtpd: takes everything, unless told otherwise."""

    taken: list[Taken] = field(default_factory=list)
    #: By command, or by recipient, what to answer instead.
    answers: dict[str, str] = field(default_factory=dict)
    password: str = PASSWORD
    sign_ins: int = 0
    #: Called with each mail before the answer.
    before_answer: Callable[[Taken], None] = lambda taken: None

    def authenticate(self, server, session, envelope, mechanism, data) -> AuthResult:
        self.sign_ins += 1
        is_right = (data.login, data.password) == (USER.encode(), self.password.encode())
        return AuthResult(success=is_right, handled=False, auth_data=data.login)

    async def handle_MAIL(self, server, session, envelope, address, options) -> str:
        if "MAIL" in self.answers:
            return self.answers["MAIL"]
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(self, server, session, envelope, address, options) -> str:
        if address in self.answers or "RCPT" in self.answers:
            return self.answers.get(address) or self.answers["RCPT"]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope) -> str:
        if "DATA" in self.answers:
            return self.answers["DATA"]
        taken = Taken(envelope.mail_from, envelope.rcpt_tos, envelope.original_content)
        self.taken.append(taken)
        self.before_answer(taken)
        return "250 OK"


class Running:
    """An asyncio server on a thread of its own."""

    def __init__(
        self,
        protocol: Callable[[], asyncio.Protocol],
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._protocol = protocol
        self._made: list[Any] = []
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(port,))
        self.port = port

    def __enter__(self) -> "Running":
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *_error: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self, port: int) -> None:
        asyncio.set_event_loop(self._loop)
        start = self._loop.create_server(self._make, "127.0.0.1", port, ssl=self._tls)
        server = self._loop.run_until_complete(start)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        # First, or what is being accepted just now would find no server any more, and stay open.
        self._loop.run_until_complete(self._let_end())
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        for protocol in self._made:
            # aiosmtpd leaves some open whose clients went away without a word.
            for transport in (protocol.transport, protocol._original_transport):
                if transport is not None:
                    transport.abort()
        # Transports close in the next turns of the loop.
        self._loop.run_until_complete(asyncio.sleep(0.05))
        self._loop.close()

    def _make(self) -> asyncio.Protocol:
        self._made.append(self._protocol())
        return self._made[-1]

    async def _let_end(self) -> None:
        """Wait a little for connections that are just coming or going."""
        for _turn in range(50):
            await asyncio.sleep(0.02)
            if len(asyncio.all_tasks()) == 1:
                return


class QuietSMTP(SMTP):
    """aiosmtpd's server; a client that goes away in the middle is no news."""

    async def handle_exception(self, error: Exception) -> str:
        return "451 4.3.0 something went wrong here"


def mail_server(
    certificate: Path,
    behaviour: Behaviour,
    *,
    port: int = 0,
    implicit: bool = False,
    starttls: bool = True,
    auth: bool = True,
    utf8: bool = True,
) -> Running:
    """Return a server that demands STARTTLS and a sign-in, unless told otherwise."""
    context = server_context(certificate)

    def make() -> SMTP:
        return QuietSMTP(
            behaviour,
            hostname="mail.test",
            tls_context=context if starttls and not implicit else None,
            require_starttls=starttls and not implicit,
            # aiosmtpd does not take TLS from the first byte for encryption: it then only offers
            # a sign-in.
            auth_required=auth and not implicit,
            auth_require_tls=not implicit,
            # Without it no AUTH is offered.
            auth_exclude_mechanism=() if auth else ("LOGIN", "PLAIN"),
            authenticator=behaviour.authenticate,
            enable_SMTPUTF8=utf8,
            loop=asyncio.get_running_loop(),
        )

    return Running(make, port, context if implicit else None)


class BadServer:
    """Does to each connection what a function says, and keeps what it was told."""

    def __init__(self, behave: Callable[["Talk"], None]) -> None:
        self._behave = behave
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.heard = b""
        self.connections = 0
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "BadServer":
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stopping.set()
        # Wakes the thread that waits in accept().
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        while True:
            connection, _peer = self._listener.accept()
            if self.stopping.is_set():
                connection.close()
                return
            self.connections += 1
            connection.settimeout(20)
            talk = Talk(self, connection)
            with contextlib.suppress(OSError, EOFError):
                self._behave(talk)
            # Encryption makes another object of it.
            talk.connection.close()


class Talk:
    """One connection of a bad server."""

    def __init__(self, server: BadServer, connection: socket.socket) -> None:
        self.server = server
        self.connection = connection

    def say(self, text: str) -> None:
        self.connection.sendall(text.replace("\n", "\r\n").encode())

    def hear(self, until: bytes = b"\r\n") -> bytes:
        """Return what comes until a sign. Raises ``EOFError`` when they go away."""
        heard = b""
        while not heard.endswith(until):
            data = self.connection.recv(4096)
            if not data:
                raise EOFError
            heard += data
            self.server.heard += data
        return heard

    def encrypt(self, certificate: Path) -> None:
        self.connection = server_context(certificate).wrap_socket(self.connection, server_side=True)

    def up_to_recipient(self, certificate: Path) -> None:
        """Behave well until the recipient has been named."""
        self.up_to_sign_in(certificate)
        self.hear()
        self.say("235 2.7.0 welcome\n")
        self.hear()
        self.say("250 sender\n")
        self.hear()

    def up_to_sign_in(self, certificate: Path) -> None:
        self.say("220 mail.test\n")
        self.hear()
        self.say("250-mail.test\n250 STARTTLS\n")
        self.hear()
        self.say("220 go ahead\n")
        self.encrypt(certificate)
        self.hear()
        self.say("250-mail.test\n250 AUTH PLAIN\n")


def mail_of(port: int, directory: Path, certificate: Path | str, **kw: Any) -> Mail:
    """Return an institution's settings for a server, with the password in a file."""
    password = directory / "password"
    if not password.exists():
        descriptor = os.open(password, os.O_WRONLY | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(PASSWORD + "\n")
    usual: dict[str, Any] = {
        "server": f"127.0.0.1:{port}",
        "sender": SENDER,
        "ca_file": str(certificate),
        "user": USER,
        "password_file": str(password),
    }
    return Mail(**(usual | kw))
