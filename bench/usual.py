"""The usual way with comparable guarantees, made as well as its libraries allow, for comparison.

HTTPS with client certificates (aiohttp on both sides, kept-alive connections), each record signed
(JWS, Ed25519) inside an encryption to the receiver (JWE, ECDH-ES on X25519, A256GCM; joserfc),
stored with its signed receipt in a commit of its own, durable before the answer; the client
verifies the receipt and keeps it in a commit of its own. Plain SQL by the drivers. Less than CRX/1:
not post-quantum, no key of its own for a record beyond ECDH-ES's, nothing sealed at rest, no audit,
no question whether the patient is known, no author's statement verified.

``python -m bench.usual serve|send|post|floor ...`` are its processes; ``post`` is the plain HTTPS
POST: server certificate only, the body is read and answered, nothing is signed, sealed or stored.
"""

import asyncio
import json
import secrets
import signal
import sqlite3
import ssl
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import psycopg
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jwe, jws
from joserfc.jwk import OKPKey

from bench.exchange_process import used
from medportal.vault import sealing

SIGNED, SEALED = {"alg": "Ed25519"}, {"alg": "ECDH-ES", "enc": "A256GCM"}
TABLES = (
    "CREATE TABLE IF NOT EXISTS waiting (tid VARCHAR(32) PRIMARY KEY, body {bytes} NOT NULL, "
    "receipt {bytes}, asked {real}, settled {real})",
    "CREATE TABLE IF NOT EXISTS taken (tid VARCHAR(32) PRIMARY KEY, sender VARCHAR(40) NOT NULL, "
    "body {bytes} NOT NULL, receipt {bytes} NOT NULL)",
)


class Store(Protocol):
    """One database: each call of ``keep`` is a commit of its own, durable when it returns."""

    def keep(self, statement: str, *values: object) -> None: ...
    def read(self, statement: str) -> list[Any]: ...


class Sqlite:
    def __init__(self, url: str) -> None:
        path = url.removeprefix("sqlite:///")
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        for table in TABLES:
            self._db.execute(table.format(bytes="BLOB", real="REAL"))

    def keep(self, statement: str, *values: object) -> None:
        self._db.execute(statement, values)

    def read(self, statement: str) -> list[Any]:
        return self._db.execute(statement).fetchall()


class Postgres:
    def __init__(self, url: str) -> None:
        self._db = psycopg.connect(url, autocommit=True)
        for table in TABLES:
            self._db.execute(table.format(bytes="BYTEA", real="DOUBLE PRECISION"))

    def keep(self, statement: str, *values: object) -> None:
        self._db.execute(statement.replace("?", "%s"), values, prepare=True)

    def read(self, statement: str) -> list[Any]:
        return self._db.execute(statement).fetchall()


def open_store(url: str) -> Store:
    return Sqlite(url) if url.startswith("sqlite") else Postgres(url)


# Keys and certificates.


def prepare(state: Path, clients: int) -> None:
    """Write keys and certificates of an authority, a server and clients."""
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca = _certificate("authority", ca_key, "authority", ca_key, is_ca=True)
    (state / "ca.pem").write_bytes(ca.public_bytes(Encoding.PEM))
    for name in ("server", *(f"client{number}" for number in range(clients))):
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = _certificate(name, key, "authority", ca_key, is_ca=False)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (state / f"{name}.pem").write_bytes(leaf.public_bytes(Encoding.PEM) + pem)
        keys = {use: OKPKey.generate_key(crv).as_dict(private=True) for use, crv in _USES.items()}
        (state / f"{name}.json").write_text(json.dumps(keys))


_USES = {"sign": "Ed25519", "seal": "X25519"}


def _certificate(name: str, key: Any, issuer: str, signer: Any, *, is_ca: bool) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(is_ca, None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    )
    return builder.sign(signer, SHA256())


def _keys(state: Path, name: str) -> tuple[OKPKey, OKPKey]:
    read = json.loads((state / f"{name}.json").read_text())
    return OKPKey.import_key(read["sign"]), OKPKey.import_key(read["seal"])


def _context(state: Path, name: str, *, server: bool, mutual: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(state / "ca.pem")
    if server or mutual:
        context.load_cert_chain(state / f"{name}.pem")
    if server and mutual:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


# The receiver.


class Receiver:
    """Opens, verifies, stores with a signed receipt, answers."""

    def __init__(self, state: Path, url: str) -> None:
        self._state = state
        self._sign, self._seal = _keys(state, "server")
        self._senders: dict[str, OKPKey] = {}
        stores = [open_store(url) for _ in range(1 if url.startswith("sqlite") else 8)]
        self._stores = stores
        self._commits = ThreadPoolExecutor(len(stores))

    def sender(self, name: str) -> OKPKey:
        if name not in self._senders:
            self._senders[name] = _keys(self._state, name)[0]
        return self._senders[name]

    async def record(self, request: web.Request) -> web.Response:
        peer = request.transport.get_extra_info("peercert")["subject"][0][0][1]
        tid = request.match_info["tid"]
        opened = jwe.decrypt_compact(await request.read(), self._seal).plaintext
        content = jws.deserialize_compact(opened, self.sender(peer), algorithms=["Ed25519"]).payload
        said = {
            "tid": tid,
            "sender": peer,
            "digest": sha256(content).hexdigest(),
            "at": time.time(),
        }
        receipt = jws.serialize_compact(
            SIGNED, json.dumps(said), self._sign, algorithms=["Ed25519"]
        )
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._commits, self._keep, tid, peer, opened, receipt.encode())
        return web.Response(text=receipt)

    def _keep(self, tid: str, peer: str, body: bytes, receipt: bytes) -> None:
        store = self._stores.pop()
        try:
            statement = "INSERT INTO taken (tid, sender, body, receipt) VALUES (?, ?, ?, ?)"
            store.keep(statement, tid, peer, body, receipt)
        finally:
            self._stores.append(store)


async def _plain(request: web.Request) -> web.Response:
    await request.read()
    return web.Response(status=204)


async def serve(state: Path, port: int, url: str, stop: asyncio.Event) -> None:
    """Serve records on ``port`` with client certificates, plain posts on the next one."""
    receiver = Receiver(state, url)
    app, plain = web.Application(client_max_size=1 << 21), web.Application()
    app.router.add_post("/records/{tid}", receiver.record)
    plain.router.add_post("/", _plain)
    runners = [web.AppRunner(each, access_log=None) for each in (app, plain)]
    for number, runner in enumerate(runners):
        await runner.setup()
        context = _context(state, "server", server=True, mutual=number == 0)
        site = web.TCPSite(runner, "127.0.0.1", port + number, ssl_context=context, reuse_port=True)
        await site.start()
    print("listening", flush=True)
    await stop.wait()
    for runner in runners:
        await runner.cleanup()


# The sender.


def fill(url: str, body: bytes, count: int) -> None:
    """Put records into a sender's outbox."""
    store = open_store(url)
    store.keep("BEGIN") if isinstance(store, Sqlite) else None
    for _ in range(count):
        store.keep("INSERT INTO waiting (tid, body) VALUES (?, ?)", secrets.token_hex(16), body)
    store.keep("COMMIT") if isinstance(store, Sqlite) else None


async def send(state: Path, port: int, name: str, url: str, _stop: asyncio.Event) -> None:
    """Drain an outbox, one record after the other; print how long each took."""
    store = open_store(url)
    sign, _ = _keys(state, name)
    server_sign, server_seal = _keys(state, "server")
    rows = store.read("SELECT tid, body FROM waiting WHERE receipt IS NULL")
    context = _context(state, name, server=False, mutual=True)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:

        async def one(tid: str, body: bytes) -> None:
            signed = jws.serialize_compact(SIGNED, body, sign, algorithms=["Ed25519"])
            sealed = jwe.encrypt_compact(SEALED, signed, server_seal)
            address = f"https://localhost:{port}/records/{tid}"
            async with session.post(address, data=sealed.encode()) as response:
                receipt = await response.read()
            kept = jws.deserialize_compact(receipt, server_sign, algorithms=["Ed25519"])
            said = json.loads(kept.payload)
            assert (said["tid"], said["sender"]) == (tid, name)
            assert said["digest"] == sha256(body).hexdigest()
            store.keep("UPDATE waiting SET receipt = ? WHERE tid = ?", receipt, tid)

        await _measure([lambda tid=tid, body=body: one(tid, bytes(body)) for tid, body in rows])


async def post(state: Path, port: int, _name: str, url: str, _stop: asyncio.Event) -> None:
    """Post the same bodies and look at the answer's status, nothing else."""
    rows = open_store(url).read("SELECT tid, body FROM waiting WHERE receipt IS NULL")
    context = _context(state, "", server=False, mutual=False)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:

        async def one(body: bytes) -> None:
            async with session.post(f"https://localhost:{port + 1}/", data=body) as response:
                assert response.status == 204

        await _measure([lambda body=body: one(bytes(body)) for _, body in rows])


async def _measure(deeds: list[Callable[[], Any]]) -> None:
    await deeds[0]()
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    times, before = [], used()["cpu"]
    for deed in deeds[1:]:
        began = time.perf_counter()
        await deed()
        times.append(time.perf_counter() - began)
    print(json.dumps({"times": times, "cpu": used()["cpu"] - before}), flush=True)


# The floor.


def floor(seconds: float) -> int:
    """Return how many records' bare cryptography one process does: see the issue's list."""
    key, box = Ed25519PrivateKey.generate(), sealing.BoxPrivateKey.generate()
    public, said, body, count = key.public_key(), bytes(200), bytes(4096), 0
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        box = sealing.BoxPrivateKey.generate()
        assert sealing.open_with(box, sealing.seal_to(box.public, body, b"bench"), b"bench")
        for _ in range(2):
            public.verify(key.sign(said), said)
        count += 1
    return count


async def main(role: str, arguments: list[str]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, lambda: print(json.dumps(used()), flush=True))
    if role == "serve":
        state, port, url = arguments
        await serve(Path(state), int(port), url, stop)
    elif role in ("send", "post"):
        state, port, name, url = arguments
        await {"send": send, "post": post}[role](Path(state), int(port), name, url, stop)
    print(json.dumps(used()), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "floor":
        print("ready", flush=True)
        sys.stdin.readline()
        before, count = used()["cpu"], floor(float(sys.argv[2]))
        print(json.dumps({"count": count, "cpu": used()["cpu"] - before}))
    else:
        asyncio.run(main(sys.argv[1], sys.argv[2:]))
