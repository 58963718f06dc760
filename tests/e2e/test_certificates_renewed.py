"""The portal takes a renewed certificate while it answers, and drops no request."""

import socket
import ssl
import threading
import time

from cryptography import x509
from e2e_running import Demonstration


def connect(demonstration: Demonstration) -> ssl.SSLSocket:
    """Shake hands with the hospital's listener, its certificate verified by its authority."""
    ca = demonstration.state / "hospital" / "pki" / "ca.crt"
    context = ssl.create_default_context(cafile=str(ca))
    plain = socket.create_connection(("127.0.0.1", demonstration.ports[0]), timeout=20)
    return context.wrap_socket(plain, server_hostname="hospital.localhost")


def serial(demonstration: Demonstration) -> int:
    with connect(demonstration) as stream:
        return x509.load_der_x509_certificate(stream.getpeercert(binary_form=True)).serial_number


def ask(demonstration: Demonstration) -> bytes:
    host = f"hospital.localhost:{demonstration.ports[0]}"
    with connect(demonstration) as stream:
        stream.sendall(
            f"GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
        )
        answer = b""
        while data := stream.recv(65536):
            answer += data
    return answer.split(b"\r\n")[0]


def test_a_renewed_certificate_is_served_without_dropping_a_request(demonstration):
    before, stop, answers = serial(demonstration), threading.Event(), []

    def stream():
        while not stop.is_set():
            try:
                answers.append(ask(demonstration))
            except OSError as error:
                answers.append(repr(error).encode())

    thread = threading.Thread(target=stream)
    thread.start()
    try:
        done = demonstration.command("pki", "renew", "hospital", "web")
        assert done.returncode == 0, done.stderr
        end = time.monotonic() + 60
        while serial(demonstration) == before:
            assert time.monotonic() < end
            time.sleep(0.2)
        seen = len(answers)
        while len(answers) < seen + 20:
            assert time.monotonic() < end
            time.sleep(0.05)
    finally:
        stop.set()
        thread.join()
    assert set(answers) == {b"HTTP/1.1 200 OK"}
