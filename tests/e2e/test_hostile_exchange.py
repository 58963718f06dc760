"""Port 4000 among strangers: whatever they send, records of partners go on arriving."""

import datetime
import re
import secrets
import select
import socket
import ssl
import struct
import time
from contextlib import suppress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from e2e_wire import client, delivered, enter_record, find_patient

#: Long enough for an answer, short enough to go on.
MOMENT = 3.0


@pytest.fixture
def exchange(demonstration):
    """Return the exchange's address; afterwards a real record still has to arrive."""
    start = len(demonstration.log.read_text())
    yield ("127.0.0.1", demonstration.ports[2])
    assert demonstration.process.poll() is None
    account = demonstration.account("laboratory", "patient")
    responsible = client(demonstration, "laboratory")
    responsible.sign_in(demonstration.account("laboratory", "responsible"))
    patient = find_patient(responsible, account["citizen_number"])
    record = enter_record(responsible, patient, **{"body-temperature": "36.7"})
    assert delivered(responsible, record)
    said = demonstration.log.read_text()[start:]
    assert "Traceback" not in said
    personal = [
        word
        for person in demonstration.accounts
        for word in (person["citizen_number"], person["name"], person["password"])
    ]
    assert not any(word in said for word in personal)
    # A stranger's address is personal too, and of no use: it can be anybody's.
    assert not re.search(r'"(peer|address|host)": "127', said)


def answer_to(address: tuple[str, int], data: bytes) -> bytes:
    """Send bytes and return what comes until the connection ends or the moment is over."""
    with socket.create_connection(address, timeout=MOMENT) as plain:
        received = b""
        try:
            plain.sendall(data)
            while chunk := plain.recv(65_536):
                received += chunk
        except (TimeoutError, ConnectionError):
            return received
        return received


def is_alert(data: bytes) -> bool:
    """Tell whether a TLS server said no more than that it refuses (record type 21)."""
    return data == b"" or (data[0] == 21 and len(data) <= 7)


@pytest.mark.parametrize(
    "data",
    [
        b"\x00" * 4000,
        b"\xff" * 70_000,
        secrets.token_bytes(5000),
        b"GET / HTTP/1.1\r\nHost: hospital.localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\xff\xff" + b"\x01" * 65_535,
        b"\x16\x03\x01\x00\x05\x01\xff\xff\xff\xff",
        struct.pack(">I", 1 << 31) + b"\xa1\x64type\x65HELLO",
        b"\n" * 10_000,
        b"",
    ],
    ids=["zeros", "ones", "random", "http", "http2", "long", "cut", "frame", "lines", "nothing"],
)
def test_what_is_no_tls_gets_no_more_than_an_alert(demonstration, data):
    assert is_alert(answer_to(("127.0.0.1", demonstration.ports[2]), data))


def test_after_garbage_records_go_on_arriving(exchange):
    for _ in range(20):
        answer_to(exchange, secrets.token_bytes(2000))


def untrusting() -> ssl.SSLContext:
    """Return a context that looks at no certificate: strangers do not mind."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def shake(address: tuple[str, int], context: ssl.SSLContext) -> bytes:
    """Shake hands, say something, and return what the receiver says. Raises ``OSError``."""
    with (
        socket.create_connection(address, timeout=MOMENT) as plain,
        context.wrap_socket(plain) as wrapped,
    ):
        wrapped.sendall(b"\x00\x00\x00\x01\xa0")
        return wrapped.recv(65_536)


def refused(address: tuple[str, int], context: ssl.SSLContext) -> bool:
    """Tell whether nothing was ever said to a client: an error, or an end without a byte."""
    try:
        return shake(address, context) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def test_without_a_certificate_nothing_is_said(exchange):
    assert refused(exchange, untrusting())


def test_older_tls_is_refused(exchange):
    context = untrusting()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match="version"):
        shake(exchange, context)


def self_made(directory, institution: str) -> ssl.SSLContext:
    """Return a context with a certificate that says it is a partner's, by nobody's authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, institution)])
    now = datetime.datetime.now(datetime.UTC)
    uri = x509.UniformResourceIdentifier(f"urn:medportal:institution:{institution}")
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = directory / f"{institution}.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = untrusting()
    context.load_cert_chain(path)
    return context


@pytest.mark.parametrize("institution", ["laboratory", "hospital", "stranger"])
def test_a_certificate_made_by_oneself_is_refused(exchange, tmp_path, institution):
    assert refused(exchange, self_made(tmp_path, institution))


def test_who_connects_and_says_nothing_keeps_nobody_out(exchange):
    """More than may shake hands at once from one address; the sender is connected already.

    It reconnects through the crowd as well once these have been dropped.
    """
    idle = [socket.create_connection(exchange, timeout=MOMENT) for _ in range(80)]
    waiting, until = set(idle), time.monotonic() + 10 * MOMENT
    try:
        while len(waiting) > 16 and time.monotonic() < until:
            for each in select.select(waiting, [], [], 0.5)[0]:
                with suppress(ConnectionError):
                    assert each.recv(1) == b"", "nothing is said to who says nothing"
                waiting.remove(each)
        assert len(waiting) <= 16
    finally:
        for each in idle:
            each.close()


def test_hundreds_who_come_and_go_keep_nobody_out(exchange):
    for _ in range(400):
        socket.create_connection(exchange, timeout=MOMENT).close()


def test_strangers_cannot_fill_the_log(demonstration):
    before = demonstration.log.read_text().count("connection refused")
    for _ in range(200):
        answer_to(("127.0.0.1", demonstration.ports[2]), b"GET / HTTP/1.1\r\n\r\n")
    after = demonstration.log.read_text().count("connection refused")
    assert after - before <= 40
