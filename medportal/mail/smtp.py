"""Handing mails to the institution's server: TLS that is verified, or nothing (RFC 3207, 8314).

1. The connection is encrypted before anything is said: from the start, or by STARTTLS. A
   server that does not offer STARTTLS, refuses it, or has it stripped by somebody in between
   gets nothing.
2. Certificate and host name are verified, against the system's authorities or those of a file.
3. What the server said before encryption is forgotten.
4. The password comes from a file that others cannot read, and is sent over TLS only.
5. All waits together are bounded, also with a server that sends a byte now and then.
6. A server's words, and addresses, stay here: only codes leave.
"""

import re
import smtplib
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from medportal.mail.addresses import Mailbox
from medportal.mail.errors import Interrupted, Problem, Refused, ServerFault, Unsendable
from medportal.mail.replies import Meaning, of_content, of_recipient
from medportal.pki.errors import PkiError
from medportal.pki.files import read_private
from medportal.tenancy.tenant import Mail

#: For one address of the server to answer.
CONNECT_SECONDS = 10.0
#: From the connection to the end of the sign-in.
GREETING_SECONDS = 30.0
#: For one mail, from claiming it to the server's last word.
MAIL_SECONDS = 60.0
GOODBYE_SECONDS = 2.0
#: An honest server says a few lines of 512 octets to a mail.
_MOST_BYTES = 262_144
_SECRET = re.compile(r"[\x20-\x7e]{1,500}")


class Deadline:
    """An end that all waits of a piece of work share."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds that are left. Raises ``TimeoutError`` if there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("too long")
        return left


class _Lines:
    """Reads a server's lines before a deadline; takes the place of smtplib's file."""

    def __init__(self, connection: "_Bounded") -> None:
        self._connection = connection
        self._buffer = b""
        self._bytes = 0

    def readline(self, limit: int) -> bytes:
        """Return a line, or what there is at ``limit`` or at the end."""
        while b"\n" not in self._buffer and len(self._buffer) < limit:
            data = self._receive()
            if not data:
                break
            self._buffer += data
        end = (self._buffer.find(b"\n") + 1) or len(self._buffer)
        line, self._buffer = self._buffer[: min(end, limit)], self._buffer[min(end, limit) :]
        return line

    def close(self) -> None:
        """Do nothing: the socket is the connection's."""

    def _receive(self) -> bytes:
        sock: socket.socket = self._connection.sock  # type: ignore[assignment]
        sock.settimeout(self._connection.deadline.left())
        data = sock.recv(4096)
        self._bytes += len(data)
        if self._bytes > _MOST_BYTES:
            raise OSError("the server says too much")
        return data


class _Bounded(smtplib.SMTP):
    """smtplib's client with one deadline over all reads and writes.

    Its own time limit is one for each read, so a server that sends a byte now and then could
    hold a mail for ever.
    """

    def __init__(self, host: str, port: int, local_hostname: str) -> None:
        self.deadline = Deadline(CONNECT_SECONDS + GREETING_SECONDS)
        super().__init__(host, port, local_hostname, CONNECT_SECONDS)

    def getreply(self) -> tuple[int, bytes]:
        if self.file is None:
            self.file = _Lines(self)
        return super().getreply()

    def send(self, s: Any) -> None:
        if self.sock is not None:
            try:
                self.sock.settimeout(self.deadline.left())
            except TimeoutError:
                # Nothing more is said: the mail may be another sender's soon.
                self.close()
                raise
        super().send(s)


class _Implicit(_Bounded):
    """The same, encrypted from the first byte."""

    def __init__(self, host: str, port: int, local_hostname: str, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__(host, port, local_hostname)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        plain = socket.create_connection((host, port), timeout)
        try:
            return self._context.wrap_socket(plain, server_hostname=host)
        except BaseException:
            plain.close()
            raise


class Connection:
    """A server that has accepted our sign-in and takes mails, one after the other."""

    def __init__(self, client: _Bounded, sender: str) -> None:
        self._client = client
        self._sender = sender
        self._is_refused = False

    def begin(self) -> None:
        """Start the time of the next mail: call this before it is claimed."""
        self._client.deadline = Deadline(MAIL_SECONDS)

    def send(self, message: EmailMessage, to: Mailbox) -> None:
        """Hand a mail over; returning means that the server has taken it.

        Raises ``Refused`` and ``Unsendable`` (this mail), ``ServerFault`` (nothing was said of
        it) and ``Interrupted`` (it is not known). After the last two the connection is over.
        """
        data = message.as_bytes()
        self._name_sender(to)
        try:
            self._hand_over(data, to)
        except (OSError, smtplib.SMTPException) as error:
            raise Interrupted(_problem_of(error)) from None

    def _name_sender(self, to: Mailbox) -> None:
        options: tuple[str, ...] = ()
        if to.needs_utf8:
            if not self._client.has_extn("smtputf8"):
                raise Unsendable(Problem.ADDRESS_UNSUPPORTED)
            options = ("SMTPUTF8", "BODY=8BITMIME")
        try:
            if self._is_refused:
                self._client.rset()
                self._is_refused = False
            code, _text = self._client.mail(self._sender, options)
        except (OSError, smtplib.SMTPException) as error:
            raise ServerFault(_problem_of(error)) from None
        if code != 250:
            raise ServerFault(Problem.SENDER_REFUSED)

    def _hand_over(self, data: bytes, to: Mailbox) -> None:
        code, text = self._client.rcpt(to.address)
        self._judge(of_recipient(code, text), Problem.RECIPIENT_REFUSED, Problem.RECIPIENT_DEFERRED)
        try:
            code, text = self._client.data(data)
        except smtplib.SMTPDataError as error:
            code, text = error.smtp_code, _bytes(error.smtp_error)
        later = Problem.CONTENT_REFUSED if code >= 500 else Problem.CONTENT_DEFERRED
        self._judge(of_content(code, text), Problem.RECIPIENT_REFUSED, later)

    def _judge(self, meaning: Meaning, final: Problem, later: Problem) -> None:
        if meaning is Meaning.TAKEN:
            return
        if meaning is Meaning.SERVER:
            raise Interrupted(Problem.SERVER_REFUSES)
        self._is_refused = True
        is_final = meaning is Meaning.FINAL
        raise Refused(final if is_final else later, final=is_final)


@contextmanager
def connect(mail: Mail) -> Iterator[Connection]:
    """Open a connection to an institution's server. Raises ``ServerFault``."""
    password, context = _password(mail), _context(mail)
    client = _open(mail, context)
    try:
        _sign_in(client, mail, password)
        yield Connection(client, mail.sender)
    finally:
        _leave(client)


def _password(mail: Mail) -> str:
    if not mail.user:
        return ""
    try:
        password = read_private(Path(mail.password_file)).decode("utf-8").rstrip("\r\n")
    except (PkiError, UnicodeDecodeError):
        raise ServerFault(Problem.PASSWORD_FILE) from None
    # What a sign-in can carry (RFC 4616 would allow more, smtplib does not).
    if not _SECRET.fullmatch(password):
        raise ServerFault(Problem.PASSWORD_FILE)
    return password


def _context(mail: Mail) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=mail.ca_file or None)
    except (OSError, ssl.SSLError):
        raise ServerFault(Problem.AUTHORITY_FILE) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _open(mail: Mail, context: ssl.SSLContext) -> _Bounded:
    """Return an encrypted connection to the verified server."""
    host, _colon, port = mail.server.rpartition(":")
    # Our name for the server: the sender's domain. The machine's own is nobody's business.
    own_name = mail.sender.rpartition("@")[2]
    try:
        if mail.implicit_tls:
            return _Implicit(host, int(port), own_name, context)
        client = _Bounded(host, int(port), own_name)
    except (OSError, smtplib.SMTPException) as error:
        raise ServerFault(_problem_of(error, Problem.CANNOT_CONNECT)) from None
    try:
        _start_tls(client, context)
    except BaseException:
        client.close()
        raise
    return client


def _start_tls(client: _Bounded, context: ssl.SSLContext) -> None:
    try:
        client.ehlo()
        if not client.has_extn("starttls"):
            raise ServerFault(Problem.TLS_NOT_OFFERED)
        client.starttls(context=context)
    except smtplib.SMTPResponseException:
        raise ServerFault(Problem.TLS_NOT_OFFERED) from None
    except (OSError, smtplib.SMTPException) as error:
        raise ServerFault(_problem_of(error)) from None


def _sign_in(client: _Bounded, mail: Mail, password: str) -> None:
    """Say who we are; over TLS, since :func:`_open` gives nothing else."""
    try:
        code, _text = client.ehlo()
        if code != 250:
            raise ServerFault(Problem.SERVER_REFUSES)
        if mail.user:
            client.login(mail.user, password)
    except smtplib.SMTPNotSupportedError:
        raise ServerFault(Problem.SIGN_IN_NOT_OFFERED) from None
    except smtplib.SMTPAuthenticationError:
        raise ServerFault(Problem.SIGN_IN_REFUSED) from None
    except (OSError, smtplib.SMTPException) as error:
        raise ServerFault(_problem_of(error)) from None


def _leave(client: _Bounded) -> None:
    """Say goodbye. What was taken is taken, whatever the server answers now."""
    client.deadline = Deadline(GOODBYE_SECONDS)
    try:
        client.quit()
    except (OSError, smtplib.SMTPException):
        client.close()


def _problem_of(error: BaseException, usual: Problem = Problem.CONNECTION_LOST) -> Problem:
    """Return the code of what went wrong with a connection; smtplib wraps what it met."""
    causes = [error]
    while causes[-1].__context__ is not None and len(causes) < 5:
        causes.append(causes[-1].__context__)
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return Problem.CERTIFICATE_NOT_VALID
    if any(isinstance(cause, TimeoutError) for cause in causes):
        return Problem.TIMED_OUT
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        return Problem.TLS_FAILED
    return Problem.SERVER_REFUSES if isinstance(error, smtplib.SMTPResponseException) else usual


def _bytes(text: bytes | str) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "replace")
