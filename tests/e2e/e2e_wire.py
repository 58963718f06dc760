"""HTTP and TLS by hand, for requests that no browser would send, and processes by number."""

import http.client
import io
import json
import os
import re
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from bs4 import BeautifulSoup

from medportal.keys import Places
from medportal.pki.layout import Layout

TENANTS = ("hospital", "laboratory")
FORM = "application/x-www-form-urlencoded"
PATIENCE = 20.0
#: On every answer of the application, error pages included; HSTS belongs into production only.
SECURITY_HEADERS = {
    "content-security-policy",
    "permissions-policy",
    "x-content-type-options",
    "x-frame-options",
    "referrer-policy",
    "cross-origin-opener-policy",
    "cross-origin-embedder-policy",
    "cross-origin-resource-policy",
    "cache-control",
}
#: What would betray the inside: traces, modules, exceptions, libraries, paths.
INSIDE = re.compile(
    rb"Traceback|File \"|medportal\.[a-z_]+|site-packages|\.py\b|Exception|[A-Za-z]Error\b"
    rb"|sqlalchemy|sqlite|pyramid|webob|colander|peppercorn|chameleon|/tmp/|/home/|/usr/lib/",
    re.IGNORECASE,
)


@dataclass
class Answer:
    """One HTTP answer."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str:
        return ", ".join(value for key, value in self.headers if key.lower() == name.lower())

    @property
    def text(self) -> str:
        return self.body.decode("utf-8")

    @property
    def is_ours(self) -> bool:
        """Tell an answer of the application from a refusal by the server before it."""
        return bool(self.header("content-security-policy"))

    def check(self) -> "Answer":
        """Return the answer, which is no fault, shows nothing of the inside and is guarded.

        What the server refuses before the application sees it has no page, and says nothing.
        """
        assert self.status < 500, self.text
        shown = self.body + b"".join(f"{k}: {v}\n".encode("latin-1") for k, v in self.headers)
        assert INSIDE.search(shown) is None, self.text
        if self.is_ours:
            missing = SECURITY_HEADERS - {name.lower() for name, _value in self.headers}
            assert not missing, self.status
        else:
            assert self.status in {400, 414, 431}
            assert self.body == b""
        return self


class _Shared(io.BytesIO):
    """Received bytes out of which several answers are read, one after the other."""

    def makefile(self, *_how: object) -> "_Shared":
        return self

    def close(self) -> None:
        """Stay open for the next answer."""


def parse_answers(data: bytes) -> list[Answer]:
    """Return the answers in what a server sent, without interim ones (100)."""
    found, file = [], _Shared(data)
    while file.tell() < len(data):
        response = http.client.HTTPResponse(file)  # type: ignore[arg-type]
        response.begin()
        found.append(Answer(response.status, response.getheaders(), response.read()))
    return found


def authority(state: Path, tenant: str) -> str:
    """Return the file of an institution's own authority."""
    return str(Layout(Places(state / tenant).pki).ca_certificate)


@contextmanager
def channel(
    port: int, name: str, cafile: str, alpn: tuple[str, ...] = ()
) -> Iterator[ssl.SSLSocket]:
    """Connect to this machine, send a name, verify it under one authority and no other."""
    trust = ssl.create_default_context(cafile=cafile)
    if alpn:
        trust.set_alpn_protocols(list(alpn))
    with (
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as plain,
        trust.wrap_socket(plain, server_hostname=name) as wrapped,
    ):
        yield wrapped


def everything(connection: ssl.SSLSocket) -> bytes:
    """Return what comes until the other side closes."""
    received = b""
    try:
        while chunk := connection.recv(65_536):
            received += chunk
    except (ConnectionResetError, ssl.SSLEOFError):
        # A refusal while more was on its way: what came before it is the answer.
        return received
    return received


@dataclass
class Client:
    """Somebody at one institution's address, with cookies, who sends what they like."""

    state: Path
    tenant: str
    port: int
    jar: dict[str, str] = field(default_factory=dict)

    @property
    def host(self) -> str:
        return f"{self.tenant}.localhost:{self.port}"

    def open(self) -> Any:
        return channel(self.port, f"{self.tenant}.localhost", authority(self.state, self.tenant))

    def raw(self, data: bytes) -> list[Answer]:
        """Send bytes as they are; return every answer until the server closes."""
        with self.open() as connection:
            try:
                connection.sendall(data)
            except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
                # The server has heard enough; its answer may be there all the same.
                return parse_answers(everything(connection))
            return parse_answers(everything(connection))

    def line(self, start: bytes, *headers: bytes, body: bytes = b"") -> list[Answer]:
        """Send a request whose first line and headers are given, the Host unless it is too."""
        lines = [start, *headers]
        if not any(line.lower().startswith(b"host") for line in headers):
            lines.append(f"Host: {self.host}".encode())
        return self.raw(b"\r\n".join([*lines, b"Connection: close", b"", b""]) + body)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a well-formed request with the cookies, keep the cookies of the answer."""
        with self.open() as connection:
            sender = http.client.HTTPConnection(self.host)
            sender.sock = connection
            cookies = "; ".join(f"{name}={value}" for name, value in self.jar.items())
            sent = {"Host": self.host, "Cookie": cookies, **(headers or {})}
            sender.request(method, path, body, sent)
            response = sender.getresponse()
            answer = Answer(response.status, response.getheaders(), response.read())
        for name, value in answer.headers:
            if name.lower() == "set-cookie":
                cookie, _equals, rest = value.partition("=")
                self.jar[cookie] = rest.split(";")[0]
        return answer

    def token(self, path: str = "/sign-in") -> str:
        """Return the CSRF token of a page."""
        found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', self.ask("GET", path).text)
        assert found is not None
        return found[1]

    def post(
        self, path: str, fields: object, token: str | None = None, content_type: str = FORM
    ) -> Answer:
        """Post a form, given as pairs, as a text or as bytes; the token goes in a header."""
        if isinstance(fields, Mapping | list):
            fields = urlencode(fields)
        body = fields.encode() if isinstance(fields, str) else fields
        assert isinstance(body, bytes)
        headers = {"Content-Type": content_type, "Sec-Fetch-Site": "same-origin"}
        return self.ask(
            "POST", path, body, headers | {"X-CSRF-Token": self.token() if token is None else token}
        )

    def sign_in(self, account: Mapping[str, str]) -> "Client":
        fields = {"number": account["citizen_number"], "password": account["password"]}
        answer = self.post("/sign-in", {**fields, "next": "/"})
        assert answer.status == 303, answer.text
        return self


def form_fields(page: Answer) -> list[tuple[str, str]]:
    """Return the names and values of a page's form, in order, as a browser would send them."""
    form = BeautifulSoup(page.text, "html.parser").find("form", id="form")
    fields = []
    for element in form.find_all(["input", "select", "textarea"]):
        if element.name == "select":
            chosen = element.find("option", selected=True) or element.find("option")
            fields.append((element["name"], chosen.get("value", "")))
        elif element.get("type") not in {"submit", "radio", "checkbox"}:
            fields.append((element["name"], element.get("value") or element.text.strip("\n")))
    return fields


def enter_record(somebody: Client, patient: str, **values: str) -> str:
    """Enter a record about the patient of an address; return the address of the record."""
    page = somebody.ask("GET", f"{patient}/records/new")
    fields = form_fields(page)
    assert set(values) <= {name for name, _value in fields}
    typed = [(name, values.get(name, value)) for name, value in fields]
    answer = somebody.post(f"{patient}/records/new", typed, dict(fields)["csrf_token"])
    assert answer.status == 303, answer.text
    return path_of(answer)


def find_patient(somebody: Client, number: str) -> str:
    """Return the address of the patient with a number."""
    token = somebody.token("/patients/find")
    answer = somebody.post("/patients/find", {"number": number}, token)
    assert answer.status == 303, answer.text
    return path_of(answer)


def path_of(answer: Answer) -> str:
    return answer.header("location").removeprefix("https://").partition("/")[2].join(["/", ""])


def delivered(somebody: Client, record: str, seconds: float = 60) -> bool:
    """Wait until the state of a record's delivery is final; tell whether it has arrived."""
    page = BeautifulSoup(somebody.ask("GET", record).text, "html.parser")
    live = page.find(attrs={"data-poll-url": True})
    if live is None:
        return "Receipt number" in page.text
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        state = json.loads(somebody.ask("GET", live["data-poll-url"]).text)
        if state["final"]:
            return bool(state["state"] == "delivered")
        time.sleep(0.2)
    return False


def client(demonstration: Any, tenant: str = "hospital") -> Client:
    """Return a client of a running demonstration."""
    return Client(demonstration.state, tenant, demonstration.ports[TENANTS.index(tenant)])


def descendants(pid: int) -> set[int]:
    """Return the processes that a process has started, and those that they have."""
    parents: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and (parent := _parent(int(entry.name))) is not None:
            parents.setdefault(parent, []).append(int(entry.name))
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found.update(children)
        waiting.extend(children)
    return found


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and waits to be noticed does not."""
    return _parent(pid) is not None


def _parent(pid: int) -> int | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in {"Z", "X"} else int(fields[1])
