"""The servers beside the product: PostgreSQL for an institution, a document server."""

import ipaddress
import secrets
import shutil
import socket
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pymongo import MongoClient

from faults import world
from faults.cast import Role
from faults.processes import Process, run_command, wait_until

START_SECONDS = 60
DOCUMENTS_PORT = 27017


def postgres_programs() -> Path | None:
    """Return the directory of the newest server's programs, as Debian installs them."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


def document_program() -> Path | None:
    """Return the document server, if it is installed beside this Python."""
    beside = Path(sys.executable).with_name("secantusd-py")
    return beside if beside.exists() else None


def _as_postgres(*words: str) -> list[str]:
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--", *words]


def postgres(house: str, disk: Path, logs: Path) -> tuple[Process, str]:
    """Make a PostgreSQL server on a disk; return it, started, and its database's address.

    It waits for its disk and keeps little log to replay, so that a small disk is enough.
    """
    programs = postgres_programs()
    if programs is None:
        raise world.WorldError("PostgreSQL's server programs are not installed")
    data = disk / "data"
    words = _as_postgres(
        *(str(programs / "initdb"), "-D", str(data), "-A", "trust", "-U", "portal", "-E", "UTF8")
    )
    run_command(house, words, logs / f"{Role.DATABASE}-{house}.log")
    options = {
        "listen_addresses": "",
        "unix_socket_directories": str(disk),
        "max_wal_size": "64MB",
        "min_wal_size": "32MB",
        "max_connections": "60",
    }
    words = [str(programs / "postgres"), "-D", str(data)]
    words += [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    process = Process(Role.DATABASE, house, _as_postgres(*words), logs)
    process.start()
    url = f"postgresql://portal@/postgres?host={disk}"
    answered = wait_until(lambda: postgres_answers(url), START_SECONDS)
    if not answered:
        raise world.WorldError(f"PostgreSQL of the {house} did not start")
    return process, url


def postgres_answers(url: str) -> bool:
    """Tell whether a server takes a connection."""
    try:
        psycopg.connect(url, connect_timeout=3).close()
    except psycopg.OperationalError:
        return False
    return True


def documents(house: str, disk: Path, logs: Path) -> tuple[Process, str]:
    """Make a document server of an institution with a database and a user in it.

    Returns it, started, and what the institution's file says of it.
    """
    program = document_program()
    if program is None:
        raise world.WorldError("SecantusDB (secantusd-py) is not installed")
    host = world.CABLES[house].end
    (disk / "empty.toml").touch()
    _make_certificate(disk, host)
    command = [str(program), "--config", str(disk / "empty.toml"), "--host", host]
    command += ["--port", str(DOCUMENTS_PORT), "--storage-path", str(disk / "data")]
    command += ["--cache-size", "64M", "--sync-on-commit"]
    command += ["--tls-cert-file", str(disk / "server.crt")]
    command += ["--tls-key-file", str(disk / "server.key")]
    root, password = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    first = Process(Role.DOCUMENTS, house, command, logs)
    first.start()
    _wait_for(host)
    with _client(host, disk) as client:
        client.admin.command("createUser", "root", pwd=root, roles=["root"])
    first.ask_to_stop()
    first.ended()
    process = Process(Role.DOCUMENTS, house, [*command, "--auth"], logs)
    process.start()
    _wait_for(host)
    with _client(host, disk, username="root", password=root, authSource="admin") as client:
        roles = [{"role": "readWrite", "db": house}]
        client[house].command(
            "createUser", "portal", pwd=password, roles=roles, mechanisms=["SCRAM-SHA-256"]
        )
    file = disk / "portal.password"
    file.touch(0o600)
    file.write_text(password + "\n", "utf-8")
    said = {
        "store": "mongodb",
        "url": f"mongodb://{host}:{DOCUMENTS_PORT}/{house}?replicaSet=secantus",
        "user": "portal",
        "password_file": str(file),
        "ca_file": str(disk / "ca.crt"),
    }
    return process, "\n".join(f'{name} = "{value}"' for name, value in said.items())


def _client(host: str, disk: Path, **more: Any) -> "MongoClient[dict[str, object]]":
    return MongoClient(
        f"mongodb://{host}:{DOCUMENTS_PORT}/?replicaSet=secantus",
        tls=True,
        tlsCAFile=str(disk / "ca.crt"),
        **more,
    )


def _wait_for(host: str) -> None:
    if not wait_until(listens(host, DOCUMENTS_PORT), START_SECONDS):
        raise world.WorldError("the document server did not start")


def listens(host: str, port: int) -> Callable[[], bool]:
    """Return what tells whether somebody listens."""

    def ask() -> bool:
        try:
            socket.create_connection((host, port), 2).close()
        except OSError:
            return False
        return True

    return ask


def _make_certificate(home: Path, host: str) -> None:
    """Make an authority and a server certificate of it for an address."""
    now = datetime.now(UTC)
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name, name = (
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])
        for text in ("Documents CA", "documents")
    )

    def builder(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=2))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(authority, critical=False)
        )

    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    ca = builder(ca_name, ca_key.public_key())
    ca = ca.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    ca = ca.add_extension(usage, critical=True)
    shown = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))])
    leaf = builder(name, key.public_key()).add_extension(shown, critical=False)
    pem = serialization.Encoding.PEM
    (home / "ca.crt").write_bytes(ca.sign(ca_key, hashes.SHA256()).public_bytes(pem))
    (home / "server.crt").write_bytes(leaf.sign(ca_key, hashes.SHA256()).public_bytes(pem))
    (home / "server.key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def owner_of_database() -> str:
    """Return the system user that PostgreSQL runs as."""
    if not shutil.which("setpriv", path=world.PATH):
        raise world.WorldError("setpriv is not installed")
    return "postgres"
