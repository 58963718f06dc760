"""The portal takes a renewed certificate while it answers, and drops no request."""

import contextlib
import socket
import ssl
import threading
import time

import pytest
from cryptography import x509
from e2e_running import Demonstration

pytestmark = pytest.mark.timeout(900)
#: While the former worker still listens, a connection comes to it or to the new one by chance.
IN_A_ROW = 30
#: No claim about speed: what has not come about by then does not come about.
AT_MOST_SECONDS = 300


def connect(demonstration: Demonstration) -> ssl.SSLSocket:
    """Shake hands with the hospital's listener, its certificate verified by its authority."""
    ca = demonstration.state / "hospital" / "pki" / "ca.crt"
    context = ssl.create_default_context(cafile=str(ca))
    plain = socket.create_connection(("127.0.0.1", demonstration.ports[0]), timeout=60)
    return context.wrap_socket(plain, server_hostname="hospital.localhost")


def serial_of(stream: ssl.SSLSocket) -> int:
    return x509.load_der_x509_certificate(stream.getpeercert(binary_form=True)).serial_number


def serial(demonstration: Demonstration) -> int:
    with connect(demonstration) as stream:
        return serial_of(stream)


def head(demonstration: Demonstration, line: str, *more: str) -> bytes:
    host = f"Host: hospital.localhost:{demonstration.ports[0]}"
    return "\r\n".join([line, host, "Connection: close", *more, "", ""]).encode()


def rest_of(stream: ssl.SSLSocket) -> bytes:
    """Return the status line of the answer, empty if there is none."""
    answer = b""
    while data := stream.recv(65536):
        answer += data
    return answer.split(b"\r\n")[0]


def ask(demonstration: Demonstration) -> bytes:
    with connect(demonstration) as stream:
        stream.sendall(head(demonstration, "GET /healthz HTTP/1.1"))
        return rest_of(stream)


def ask_as_browsers_do(demonstration: Demonstration) -> bytes:
    """Ask, once more if the connection ended without an answer (RFC 9112, 9.3.1).

    A worker that leaves may close a connection on which it has read nothing yet.
    """
    with contextlib.suppress(OSError):
        if answer := ask(demonstration):
            return answer
    return ask(demonstration)


def wait_for_the_new_worker_alone(demonstration: Demonstration, before: int) -> None:
    end, seen = time.monotonic() + AT_MOST_SECONDS, 0
    while seen < IN_A_ROW:
        assert time.monotonic() < end, "the renewed certificate is not served"
        try:
            seen = seen + 1 if serial(demonstration) != before else 0
        except OSError:
            seen = 0
        if seen == 0:
            time.sleep(0.2)


def renew(demonstration: Demonstration) -> None:
    done = demonstration.command("pki", "renew", "hospital", "web")
    assert done.returncode == 0, done.stderr


def test_a_renewed_certificate_is_served_without_dropping_a_request(demonstration):
    before, stop, answers = serial(demonstration), threading.Event(), []

    def stream():
        while not stop.is_set():
            try:
                answers.append(ask_as_browsers_do(demonstration))
            except OSError as error:
                answers.append(repr(error).encode())

    thread = threading.Thread(target=stream)
    thread.start()
    try:
        renew(demonstration)
        wait_for_the_new_worker_alone(demonstration, before)
    finally:
        stop.set()
        thread.join()
    assert len(answers) > IN_A_ROW
    assert set(answers) == {b"HTTP/1.1 200 OK"}


def test_who_is_in_the_middle_of_a_request_is_answered_by_the_former_worker(demonstration):
    """The former worker ends once it has answered, not before."""
    before = serial(demonstration)
    with connect(demonstration) as stream:
        assert serial_of(stream) == before
        stream.sendall(head(demonstration, "POST /sign-in HTTP/1.1", "Content-Length: 10"))
        stream.sendall(b"name=")
        renew(demonstration)
        wait_for_the_new_worker_alone(demonstration, before)
        # On a slow machine the portal has stopped waiting, and said so.
        with contextlib.suppress(OSError):
            stream.sendall(b"value")
        assert rest_of(stream).startswith(b"HTTP/1.1 4")
    # Nobody is left who serves the former one.
    assert serial(demonstration) != before
