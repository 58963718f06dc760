"""A MongoDB server in a process of its own, over TLS, with SCRAM; or one given by address.

The server is SecantusDB, third-party and beta, which speaks MongoDB's protocol over MongoDB's own
storage engine. It is a program that is run, never a library that is imported. One server: what
MongoDB itself does when it fails over stays untested here.

To test against any other, with TLS and with users that may administrate and fail its commands:
``MEDPORTAL_TEST_MONGODB`` (``mongodb://host:port/?replicaSet=name``), ``..._CA`` (a file),
``..._USER`` and ``..._PASSWORD_FILE`` of an administrator.
"""

import ipaddress
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from free_ports import free_port
from pymongo import MongoClient
from pymongo.errors import AutoReconnect

from medportal.tenancy.tenant import Documents

PROGRAM = "secantusd-py"
GIVEN = "MEDPORTAL_TEST_MONGODB"
START_SECONDS = 60


def program() -> str | None:
    """Return the server's program, beside this Python or on the path."""
    beside = Path(sys.executable).with_name(PROGRAM)
    return str(beside) if beside.exists() else shutil.which(PROGRAM)


def is_given() -> bool:
    return GIVEN in os.environ


@dataclass
class MongoServer:
    """A server, its authority, and an administrator of it."""

    home: Path
    address: str
    ca_file: Path
    admin: str
    admin_password: str
    replica_set: str = "secantus"
    process: subprocess.Popen[bytes] | None = None
    made: list[str] = field(default_factory=list)

    @contextmanager
    def administrator(self) -> Iterator[MongoClient[dict[str, Any]]]:
        options: dict[str, Any] = {}
        if self.admin:
            options = {"username": self.admin, "password": self.admin_password}
            options |= {"authSource": "admin"}
        with MongoClient(
            f"mongodb://{self.address}/?replicaSet={self.replica_set}",
            tls=True,
            tlsCAFile=str(self.ca_file),
            serverSelectionTimeoutMS=20_000,
            **options,
        ) as client:
            yield client

    def new_database(self, name: str | None = None) -> Documents:
        """Make a database and a user that may read and write it, and nothing else."""
        name = name or f"test-{secrets.token_hex(6)}"
        password = secrets.token_urlsafe(24)
        file = self.home / f"{name}.password"
        file.write_text(password + "\n", "utf-8")
        file.chmod(0o600)
        with self.administrator() as client:
            client[name].command(
                "createUser",
                "portal",
                pwd=password,
                roles=[{"role": "readWrite", "db": name}],
                mechanisms=["SCRAM-SHA-256"],
            )
        self.made.append(name)
        return Documents(
            store="mongodb",
            url=f"mongodb://{self.address}/{name}?replicaSet={self.replica_set}",
            user="portal",
            password_file=str(file),
            ca_file=str(self.ca_file),
        )

    def change_password(self, documents: Documents, password: str) -> None:
        name = documents.url.rpartition("/")[2].partition("?")[0]
        with self.administrator() as client:
            client[name].command("updateUser", "portal", pwd=password)

    @contextmanager
    def failing(self, commands: list[str], times: int | None = None, **how: Any) -> Iterator[None]:
        """Let the server fail commands of these names: always, or so many times."""
        mode = "alwaysOn" if times is None else {"times": times}
        point = {"configureFailPoint": "failCommand"}
        with self.administrator() as client:
            data = {"failCommands": commands, **how}
            client.admin.command({**point, "mode": mode, "data": data})
            try:
                yield
            finally:
                client.admin.command({**point, "mode": "off"})

    def kill(self) -> None:
        """End the server at once, as a crash or a power cut would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def start(self, *, auth: bool = True) -> None:
        """Start the server, and wait until it takes connections."""
        host, _colon, port = self.address.partition(":")
        command = [str(program()), "--config", "empty.toml", "--host", host, "--port", port]
        command += ["--storage-path", "data", "--cache-size", "64M", "--sync-on-commit"]
        command += ["--tls-cert-file", "server.crt", "--tls-key-file", "server.key"]
        command += ["--enable-test-commands", *(["--auth"] if auth else [])]
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(command, cwd=self.home, stdout=log, stderr=log)
        until = time.monotonic() + START_SECONDS
        while not _answers(host, int(port)):
            if self.process.poll() is not None or time.monotonic() > until:
                raise AssertionError((self.home / "log").read_text("utf-8")[-2000:])
            time.sleep(0.05)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=30)
            return
        with self.administrator() as client:
            for name in self.made:
                client[name].command("dropAllUsersFromDatabase")
                client.drop_database(name)


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), 1).close()
    except OSError:
        return False
    return True


def given(home: Path) -> MongoServer:
    """Return the server that the environment names."""
    url = os.environ[GIVEN]
    address, _slash, options = url.removeprefix("mongodb://").partition("/")
    return MongoServer(
        home,
        address,
        Path(os.environ[f"{GIVEN}_CA"]),
        os.environ[f"{GIVEN}_USER"],
        Path(os.environ[f"{GIVEN}_PASSWORD_FILE"]).read_text("utf-8").strip(),
        options.partition("replicaSet=")[2].partition("&")[0],
    )


def started(home: Path) -> MongoServer:
    """Start a server of our own in a new directory, with an administrator."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "empty.toml").write_text("", "utf-8")
    make_certificate(home)
    address = f"127.0.0.1:{free_port()}"
    server = MongoServer(home, address, home / "ca.crt", "", "")
    server.start(auth=False)
    password = secrets.token_urlsafe(24)
    try:
        with server.administrator() as client:
            client.admin.command("createUser", "root", pwd=password, roles=["root"])
    finally:
        server.stop()
    server = replace(server, admin="root", admin_password=password, made=[])
    server.start()
    return server


def make_certificate(home: Path, host: str = "127.0.0.1") -> None:
    """Make an authority and a server certificate of it for an address."""
    now = datetime.now(UTC)
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Documents CA")])
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "documents")])

    def builder(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=2))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()),
                critical=False,
            )
        )

    ca = builder(ca_name, ca_key.public_key()).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True
    )
    usage = dict.fromkeys(
        (
            "content_commitment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
            "key_encipherment",
            "digital_signature",
        ),
        False,
    )
    ca = ca.add_extension(x509.KeyUsage(key_cert_sign=True, crl_sign=True, **usage), critical=True)
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))])
    leaf = builder(name, key.public_key()).add_extension(alternative, critical=False)
    pem = serialization.Encoding.PEM
    (home / "ca.crt").write_bytes(ca.sign(ca_key, hashes.SHA256()).public_bytes(pem))
    (home / "server.crt").write_bytes(leaf.sign(ca_key, hashes.SHA256()).public_bytes(pem))
    (home / "server.key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def ready(server: MongoServer) -> None:
    """Wait until the server takes the administrator's sign-in again."""
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            with server.administrator() as client:
                client.admin.command("ping")
            return
        except AutoReconnect:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
