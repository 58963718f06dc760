"""HTTP that no browser sends: a clear refusal, no fault, nothing of the inside, nothing kept."""

import http.client
import json
import re
import socket
import ssl
from urllib.parse import quote, urlencode

import pytest
from e2e_wire import (
    FORM,
    Answer,
    client,
    descendants,
    enter_record,
    everything,
    form_fields,
    is_alive,
    parse_answers,
)

MARKER = "Qwyzelhostile"
POST = b"POST /sign-in HTTP/1.1"
TYPE = f"Content-Type: {FORM}".encode()
CHUNKED = b"Transfer-Encoding: chunked"


@pytest.fixture(scope="module")
def stranger(demonstration):
    return client(demonstration)


@pytest.fixture(scope="module")
def clerk(demonstration):
    """Return somebody who may use forms: their tokens and session are real."""
    somebody = client(demonstration)
    return somebody.sign_in(demonstration.account("hospital", "ward_clerk"))


@pytest.fixture(autouse=True)
def goes_on(demonstration):
    """Every test leaves a portal that serves, in the processes that served before it."""
    before = descendants(demonstration.process.pid)
    yield
    assert all(is_alive(pid) for pid in before)
    assert client(demonstration).ask("GET", "/healthz").status == 200


def only(answers: list[Answer]) -> Answer:
    assert len(answers) == 1
    return answers[0].check()


# --- Size ---


@pytest.mark.parametrize("sent", [1_000_000, 0], ids=["sent", "announced"])
def test_a_megabyte_is_too_much(stranger, sent):
    length = b"Content-Length: 1000000"
    answer = only(stranger.line(POST, TYPE, length, body=b"a" * sent))
    assert answer.status == 413
    assert "That was too much at once" in answer.text


def test_the_connection_answers_after_a_refusal(stranger):
    with stranger.open() as connection:
        sender = http.client.HTTPConnection(stranger.host)
        sender.sock = connection
        headers = {"Host": stranger.host, "Content-Type": FORM}
        for body, status in ((b"a" * 300_000, 413), (b"a=b", 403), (None, 200)):
            sender.request("POST" if body else "GET", "/sign-in", body, headers)
            answer = sender.getresponse()
            assert answer.status == status
            answer.read()


@pytest.mark.parametrize(
    "headers",
    [
        [b"X-Long: " + b"a" * 120_000],
        [b"X-Long: " + b"a" * 300_000],
        [b"X-%d: a" % number for number in range(90)],
        [b"X-%d: a" % number for number in range(2000)],
        [b"X" * 50_000 + b": a"],
        [b"Cookie: " + b"; ".join(b"c%d=v" % number for number in range(3000))],
        [b"Cookie: __Host-hospital-session=" + b"a" * 60_000],
    ],
    ids=["value", "huge-value", "many", "too-many", "name", "cookies", "cookie"],
)
def test_huge_headers(stranger, headers):
    assert only(stranger.line(b"GET /sign-in HTTP/1.1", *headers)).status in {200, 431}


def test_a_long_address(stranger):
    assert only(stranger.line(b"GET /" + b"a" * 60_000 + b" HTTP/1.1")).status == 303
    assert only(stranger.line(b"GET /" + b"a" * 70_000 + b" HTTP/1.1")).status == 414


# --- Who never finishes ---


def test_bodies_that_never_come_keep_nobody_waiting(stranger):
    """More than there are threads; each used to hold one until it went away."""
    head = f"POST /sign-in HTTP/1.1\r\nHost: {stranger.host}\r\nContent-Type: {FORM}\r\n"
    opened = []
    try:
        for _ in range(24):
            entered = stranger.open()
            connection = entered.__enter__()
            opened.append(entered)
            connection.sendall(head.encode() + b"Content-Length: 100\r\n\r\nnumber=1")
        for path in ("/sign-in", "/healthz"):
            assert stranger.ask("GET", path).status == 200
        connection.settimeout(40)
        answer = only(parse_answers(everything(connection)))
        assert answer.status == 408
        assert "did not arrive in time" in answer.text
    finally:
        for entered in opened:
            entered.__exit__(None, None, None)


def test_half_a_form_is_no_form(demonstration, clerk):
    """Whoever goes away in the middle has saved nothing."""
    fields = registration(clerk, "90000017", "Half Aform")
    body = urlencode(fields).encode()
    cookies = "; ".join(f"{name}={value}" for name, value in clerk.jar.items())
    head = (
        f"POST /patients/register HTTP/1.1\r\nHost: {clerk.host}\r\nContent-Type: {FORM}\r\n"
        f"Cookie: {cookies}\r\nSec-Fetch-Site: same-origin\r\nContent-Length: {len(body) + 1}"
    )
    with clerk.open() as connection:
        connection.sendall(head.encode() + b"\r\n\r\n" + body)
    answer = clerk.post("/patients/find", {"number": "90000017"}, clerk.token("/patients/find"))
    assert answer.status == 422
    assert "Nobody with this number" in answer.text


# --- Framing ---


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ([CHUNKED], b"3\r\na=b\r\n0\r\n\r\n"),
        ([CHUNKED], b"zz\r\na=b\r\n0\r\n\r\n"),
        ([CHUNKED], b"-1\r\na=b\r\n0\r\n\r\n"),
        ([CHUNKED], b"ffffffffffffffffff\r\na=b\r\n"),
        ([CHUNKED], b"3\r\nabcdef\r\n0\r\n\r\n"),
        ([CHUNKED], b"3;" + b"x" * 50_000 + b"\r\na=b\r\n0\r\n\r\n"),
        ([CHUNKED], b"100\r\ncut"),
        ([CHUNKED], b"3\r\na=b\r\n0\r\nContent-Length: 999\r\n\r\n"),
        ([b"Transfer-Encoding: xchunked"], b"0\r\n\r\n"),
        ([b"Transfer-Encoding: identity", b"Content-Length: 3"], b"a=b"),
        ([b"Transfer-Encoding : chunked", b"Content-Length: 3"], b"0\r\n\r\n"),
        ([b"Content-Length: -3"], b"a=b"),
        ([b"Content-Length: +3"], b"a=b"),
        ([b"Content-Length: 3, 3"], b"a=b"),
        ([b"Content-Length: 3", b"Content-Length: 4"], b"a=bc"),
        ([b"Content-Length: 0x3"], b"a=b"),
        ([b"Content-Length: " + b"9" * 400], b"a=b"),
        ([b"X-A: a", b" folded: b", b"Content-Length: 3"], b"a=b"),
        ([b"X-A: a\rb", b"Content-Length: 3"], b"a=b"),
        ([b"X-A: a\x00b", b"Content-Length: 3"], b"a=b"),
    ],
)
def test_malformed_bodies_and_lengths_are_refused(stranger, headers, body):
    assert only(stranger.line(POST, TYPE, *headers, body=body)).status in {400, 411}


@pytest.mark.parametrize(
    "headers",
    [
        [b"Content-Length: {length}", CHUNKED],
        [CHUNKED, b"Content-Length: {length}"],
        [b"Content-Length: {length}", b"Transfer-Encoding:\tchunked"],
        [b"Content-Length: {length}", CHUNKED, CHUNKED],
        [b"Content-Length: 5", CHUNKED],
    ],
)
def test_no_request_can_be_smuggled_in_a_body(stranger, headers):
    hidden = f"GET /healthz HTTP/1.1\r\nHost: {stranger.host}\r\n\r\n".encode()
    body = b"0\r\n\r\n" + hidden
    lines = [line.replace(b"{length}", str(len(body)).encode()) for line in headers]
    request = [POST, f"Host: {stranger.host}".encode(), TYPE, *lines]
    answers = stranger.raw(b"\r\n".join([*request, b"", b""]) + body)
    assert [answer.status for answer in answers] == [411]
    assert b"status" not in answers[0].check().body


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x01\x02\xff" * 200,
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/3.0\r\n\r\n",
        b"GET  /  HTTP/1.1\r\n\r\n",
        b"GET /sign-in\x00 HTTP/1.1\r\n\r\n",
        b"GET /sign in HTTP/1.1\r\n\r\n",
        b"G\x00T / HTTP/1.1\r\n\r\n",
        b"\r\n" * 200 + b"x\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused(stranger, data):
    assert only(stranger.raw(data)).status == 400


def test_http2_garbage_ends_the_connection_only(demonstration, stranger):
    from e2e_wire import authority, channel

    trusted = authority(demonstration.state, "hospital")
    with channel(stranger.port, "hospital.localhost", trusted, ("h2",)) as connection:
        assert connection.selected_alpn_protocol() == "h2"
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 5000)
        assert b"HTTP/1" not in everything(connection)


# --- Methods, addresses, names ---


@pytest.mark.parametrize(
    "method",
    ["PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "CONNECT", "PROPFIND", "FOO", "get", "X" * 900],
)
@pytest.mark.parametrize("path", ["/sign-in", "/nowhere"])
def test_unknown_methods_are_refused(stranger, method, path):
    answer = only(stranger.line(f"{method} {path} HTTP/1.1".encode()))
    assert answer.status == 405
    assert answer.header("allow") == "GET, HEAD, POST"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/%", 303),
        ("/%zz", 303),
        ("/%u0000", 303),
        ("/%2e%2e/%2e%2e/etc/passwd", 303),
        ("/static/x/..%2f..%2f..%2fdevelopment.ini", 303),
        ("/static/../../development.ini", 303),
        ("//elsewhere.example/x", 303),
        ("/\\elsewhere.example", 303),
        ("*", 400),
        ("/sign-in?next=//elsewhere.example", 200),
        ("/sign-in?next=" + "a" * 5000, 200),
        ("/%00", 400),
        ("/sign-in%00", 400),
        ("/sign-in?next=%00", 400),
        ("/sign-in?%00=1", 400),
        ("/%ff%fe", 400),
        ("/patients/%c0%ae%c0%ae", 400),
        ("/sign-in?next=%ff", 400),
        ("/sign-in?" + "&".join(f"a{number}=b" for number in range(3000)), 200),
    ],
)
def test_odd_addresses(stranger, path, status):
    answer = only(stranger.line(f"GET {path} HTTP/1.1".encode()))
    assert answer.status == status
    if status == 303:
        assert answer.header("location").startswith(f"https://{stranger.host}/sign-in")


@pytest.mark.parametrize(
    "hosts",
    [
        [b"Host: elsewhere.example"],
        [b"Host: laboratory.localhost"],
        [b"Host: "],
        [b"Host: \xff\xfe"],
        [b"Host: hospital.localhost."],
        [b"Host: hospital.localhost/x"],
        [b"Host: x@hospital.localhost"],
        [b"Host: hospital.localhost:x@elsewhere.example"],
        [b"Host: hospital.localhost:8443,elsewhere.example"],
        [b"Host: hospital.localhost", b"Host: elsewhere.example"],
        [b"Host: elsewhere.example", b"Host: hospital.localhost"],
        [b"Host: hospital.localhost", b"Host: hospital.localhost"],
    ],
)
def test_another_host_or_two_are_misdirected(stranger, hosts):
    for path in (b"/sign-in", b"/healthz", b"/"):
        answer = only(stranger.line(b"GET " + path + b" HTTP/1.1", *hosts))
        assert answer.status == 421
        assert "elsewhere" not in answer.text
        assert answer.header("location") == ""


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_no_host_at_all_is_misdirected(stranger, version):
    answers = stranger.raw(b"GET / HTTP/" + version + b"\r\nConnection: close\r\n\r\n")
    assert only(answers).status in {400, 421}


def test_the_laboratory_is_not_served_at_the_hospitals_address(demonstration):
    for tenant, other in (("hospital", "laboratory"), ("laboratory", "hospital")):
        somebody = client(demonstration, tenant)
        host = f"Host: {other}.localhost:{somebody.port}".encode()
        assert only(somebody.line(b"GET /healthz HTTP/1.1", host)).status == 421


FORGED = [
    b"X-Forwarded-For: 203.0.113.9",
    b"X-Forwarded-Host: elsewhere.example",
    b"X-Forwarded-Proto: http",
    b"X-Forwarded-Port: 1",
    b"X-Forwarded-Prefix: /elsewhere",
    b"X-Script-Name: /elsewhere",
    b"X-Original-URL: /patients",
    b"X-Rewrite-URL: /patients",
    b"X-HTTP-Method-Override: DELETE",
    b"X-Remote-User: admin",
    b"Remote-User: admin",
    b"X-Real-IP: 203.0.113.9",
    b'Forwarded: for=203.0.113.9;host=elsewhere.example;proto=http;by="x"',
    b"X_Forwarded_Host: elsewhere.example",
]


def test_forged_forwarding_headers_have_no_effect(stranger):
    for path in (b"/", b"/sign-in", b"/nowhere", b"/patients"):
        start = b"GET " + path + b" HTTP/1.1"
        plain, forged = (only(stranger.line(start, *extra)) for extra in ([], FORGED))
        assert seen_by_a_person(plain) == seen_by_a_person(forged)
        assert "elsewhere" not in str(forged.headers)


def seen_by_a_person(answer: Answer) -> tuple[object, ...]:
    """Return an answer without what is new in each: tokens and the time."""
    headers = [
        (name, value)
        for name, value in answer.headers
        if name.lower() not in {"set-cookie", "date", "content-length"}
    ]
    text = re.sub(r'(name="csrf_token"[^>]*value=)"[^"]+"', r"\1", answer.text)
    return answer.status, headers, text


# --- Cookies ---


@pytest.mark.parametrize(
    "cookies",
    [
        b'\xff\xfe;;;===;"',
        b"__Host-hospital-session=%00",
        b'__Host-hospital-session="\\000\\377"',
        b'__Host-language="\\377\\376"',
        b"__Host-hospital-session=a; __Host-hospital-session=b",
        b"__Host-hospital-session=; __Host-csrf=; __Host-language=; __Host-flash=",
        b"__Host-hospital-session=../../etc/passwd; __Host-language=../../x",
        b"__Host-hospital-session=' OR 1=1 --",
        b"__Host-flash=eyJ4Ijo; __Host-flash=\xc3\x28",
        b"__Host-csrf=" + b"A" * 43 + b"; __Host-csrf=" + b"B" * 43,
        b"$Version=1; $Path=/; =x; x",
    ],
)
def test_odd_cookies_sign_nobody_in(stranger, cookies):
    assert only(stranger.line(b"GET /sign-in HTTP/1.1", b"Cookie: " + cookies)).status == 200
    assert only(stranger.line(b"GET / HTTP/1.1", b"Cookie: " + cookies)).status == 303
    two = [b"Cookie: " + cookies, b"Cookie: " + cookies]
    assert only(stranger.line(b"GET /patients HTTP/1.1", *two)).status == 303
    elsewhere = b"Host: elsewhere.example"
    answer = only(stranger.line(b"GET / HTTP/1.1", elsewhere, b"Cookie: " + cookies))
    assert answer.status == 421


@pytest.mark.parametrize(
    "header",
    [
        b"Accept-Language: \xff",
        b"Accept-Language: " + b"en;q=abc," * 900,
        b"Accept: ;;;",
        b"Range: bytes=0-5,7-9,-1",
        b"If-Modified-Since: garbage",
        b"If-None-Match: \xff",
        b"Authorization: Basic %%%",
        b"Content-Type: \xff",
        b"Sec-Fetch-Site: \xff",
        b"Expect: something",
        b"Upgrade: websocket",
        b"Content-Encoding: gzip",
    ],
)
def test_odd_headers_change_nothing(stranger, header):
    assert only(stranger.line(b"GET /sign-in HTTP/1.1", header)).status == 200


def test_a_page_with_a_body_is_that_page(stranger):
    answer = only(stranger.line(b"GET /sign-in HTTP/1.1", b"Content-Length: 5", body=b"hello"))
    assert answer.status == 200


# --- Forms ---

PATHS = ("/sign-in", "/activate", "/patients/register", "/patients/find", "/account/password")
FIELDS = ("number", "name", "birth_date", "sex", "destinations", "password", "new", "csrf_token")


def part(name: str, value: str = "x", more: str = "") -> str:
    return f'--x\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n{value}\r\n'


BODIES = {
    "empty": (FORM, ""),
    "json": ("application/json", json.dumps({"number": {"$ne": ""}, "password": [1]})),
    "xml": ("text/xml", '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>'),
    "no type": ("", "number=1"),
    "no boundary": ("multipart/form-data", "number=1"),
    "long boundary": ("multipart/form-data; boundary=" + "x" * 5000, "--x\r\n"),
    "not closed": ("multipart/form-data; boundary=x", part("number")),
    "files": (
        "multipart/form-data; boundary=x",
        "".join(part(name, more='; filename="../../x.html"') for name in FIELDS) + "--x--\r\n",
    ),
    "nested": (
        "multipart/form-data; boundary=x",
        '--x\r\nContent-Disposition: form-data; name="a"\r\n'
        "Content-Type: multipart/mixed; boundary=y\r\n\r\n--y\r\n\r\nb\r\n--y--\r\n--x--\r\n",
    ),
    "lists": (FORM, "&".join(f"{name}=&{name}=" for name in FIELDS)),
    "thousands": (FORM, "&".join(f"f{number}=x" for number in range(5000))),
    "hundreds": (FORM, "&".join(f"f{number}=x" for number in range(490))),
    "semicolons": (FORM, ";".join(f"f{number}=x" for number in range(20_000))),
    "nul": (FORM, "number=%00&name=a%00b"),
    "no utf-8": (FORM, "number=%ff%fe&name=%c3%28"),
    "bad percent": (FORM, "number=%zz&name=%"),
    "surrogates": (FORM, "number=%ED%A0%80&name=%ED%A0%80"),
    "utf-16": (FORM + "; charset=utf-16", "number=1"),
    "utf-7": (FORM + "; charset=utf-7", "number=1"),
    "charset field": (FORM, "_charset_=utf-16&number="),
    "start only": (FORM, "__start__=birth_date:mapping"),
    "end only": (FORM, "__end__=birth_date:mapping"),
    "crossed": (FORM, "__start__=a:mapping&__start__=b:sequence&__end__=a:mapping&__end__=b"),
    "no kind": (FORM, "__start__=number&a=b&__end__=number"),
    "other kind": (FORM, "__start__=number:other&a=b&__end__=number:other"),
    "deep": (FORM, "&".join(["__start__=a:mapping"] * 490)),
    "deep and closed": (FORM, "&".join(["__start__=a:sequence"] * 245 + ["__end__=a"] * 245)),
    "year of digits": (FORM, "__start__=birth_date:mapping&year=" + "9" * 9000 + "&__end__=x"),
    "digits elsewhere": (
        FORM,
        urlencode({"__start__": "birth_date:mapping", "day": "²", "month": "٣", "__end__": "x"}),
    ),
    **{
        f"{kind} as {name}": (FORM, f"__start__={name}:{kind}&a=b&c=d&__end__={name}:{kind}")
        for kind in ("mapping", "sequence", "rename")
        for name in FIELDS
    },
}


@pytest.mark.parametrize("body", BODIES)
def test_odd_forms_are_refused_in_words(clerk, body):
    content_type, text = BODIES[body]
    token = clerk.token("/patients/find")
    for path in PATHS:
        answer = clerk.post(path, text, token, content_type).check()
        assert answer.is_ours
        assert answer.status in {400, 422}, path
        assert "<h1" in answer.text


def test_a_form_without_its_token_is_forged(clerk):
    for token in ("", "x", "A" * 43, "\xff" * 43):
        fields = registration(clerk, "90000025", "Forged Person", token)
        assert clerk.post("/patients/register", fields, token).check().status == 403


def registration(clerk, number: str, name: str, token: str | None = None) -> list[tuple[str, str]]:
    """Return the fields of a registration that would be accepted."""
    page = clerk.ask("GET", "/patients/register")
    typed = {"number": number, "name": name, "day": "9", "month": "3", "year": "1944"}
    fields = [(key, typed.get(key, value)) for key, value in form_fields(page)]
    if token is not None:
        fields = [(key, token if key == "csrf_token" else value) for key, value in fields]
    return [*fields, ("sex", "female"), ("language", "en")]


# --- Nothing is kept ---


def test_what_was_typed_is_nowhere_readable(demonstration, clerk, stranger):
    """A marker in every place that takes a text, refused and accepted, is in no log and no file."""
    marker = f"{MARKER} \u00e3"
    header = quote(marker).encode()
    start = b"GET /" + header + b"?" + header + b"=" + header + b" HTTP/1.1"
    everywhere = [b"Cookie: a=" + header, b"User-Agent: " + header, b"Referer: " + header]
    only(stranger.line(start, *everywhere, b"X-" + MARKER.encode() + b": " + header))
    only(stranger.line(start, b"Host: " + MARKER.encode() + b".example"))
    only(stranger.line(MARKER.encode() + b" / HTTP/1.1"))
    stranger.raw(MARKER.encode() + b"\r\n\r\n")
    token = clerk.token("/patients/find")
    for path in PATHS:
        names = ["number", "password", "next"]
        if path != "/sign-in":
            names = [name for name, _value in form_fields(clerk.ask("GET", path))]
        fields = [(name, marker) for name in names if not name.startswith("__")]
        assert clerk.post(path, fields, token).check().status in {401, 403, 422}
    page = clerk.ask("GET", "/patients/register")
    typed = [
        (name, value if name.startswith("__") else marker) for name, value in form_fields(page)
    ]
    assert clerk.post("/patients/register", typed, token).check().status == 422

    doctor = client(demonstration).sign_in(demonstration.account("hospital", "doctor"))
    listed = doctor.ask("GET", "/patients")
    found = re.search(r'href="(?:https://[^/"]+)?(/patients/[0-9a-f]{32})"', listed.text)
    assert found is not None
    record = enter_record(doctor, found[1], diagnosis=marker, notes=marker)
    assert marker in doctor.ask("GET", record).check().text
    everything_typed = [
        (n, v if n.startswith("__") else marker * 200)
        for n, v in form_fields(doctor.ask("GET", f"{found[1]}/records/new"))
    ]
    refused = doctor.post(f"{found[1]}/records/new", everything_typed, doctor.token("/help"))
    assert refused.check().status in {400, 403, 422}

    readable = [MARKER.encode(), MARKER.encode("utf-16-le"), MARKER.lower().encode()]
    assert not any(text in demonstration.log.read_bytes() for text in readable)
    files = [path for path in demonstration.state.rglob("*") if path.is_file()]
    assert any(path.name.endswith("-wal") for path in files)
    kept = [path for path in files if any(text in path.read_bytes() for text in readable)]
    assert kept == []


def test_the_logs_of_all_this_hold_no_trace_of_code(demonstration):
    said = demonstration.log.read_text()
    assert "Traceback" not in said
    assert "unexpected-error" not in said
    assert "request-failed" not in said


def test_plain_http_and_older_tls_are_refused(stranger):
    with socket.create_connection(("127.0.0.1", stranger.port), timeout=10) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: hospital.localhost\r\n\r\n")
        try:
            answer = plain.recv(100)
        except ConnectionError:
            answer = b""
        assert not answer.startswith(b"HTTP/")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("127.0.0.1", stranger.port), timeout=10) as plain,
        pytest.raises(ssl.SSLError),
    ):
        context.wrap_socket(plain)
