"""The mails of the demonstration, as files: what was sent, byte for byte."""

import email
import re
from dataclasses import dataclass
from datetime import datetime
from email.policy import default
from pathlib import Path

from medportal.core.clock import from_micros, to_micros
from medportal.core.ids import new_id
from medportal.pki.files import PRIVATE, make_directory, write_file
from medportal.settings import Settings

#: Of each institution; older ones are deleted.
MOST = 500
_NAME = re.compile(r"(\d{18})-[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class StoredMail:
    """A mail that was sent; ``name`` is its file's, ``at`` when it came."""

    name: str
    at: datetime
    to: str
    subject: str
    sender: str
    language: str
    text: str


class MailStore:
    """The mails of one institution, a file each, for their owner only."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def put(self, data: bytes, now: datetime) -> str:
        """Keep a mail and return its name; forget those beyond :data:`MOST`."""
        make_directory(self._directory)
        name = f"{to_micros(now):018d}-{new_id()}"
        write_file(self._path(name), data, PRIVATE)
        for old in self._names()[MOST:]:
            self._path(old).unlink(missing_ok=True)
        return name

    def newest(self, count: int) -> list[StoredMail]:
        """Return the last mails that came, the newest first."""
        found = (self.get(name) for name in self._names()[:count])
        return [mail for mail in found if mail is not None]

    def get(self, name: str) -> StoredMail | None:
        """Return a mail, ``None`` if there is none of this name."""
        shape = _NAME.fullmatch(name)
        if shape is None:
            return None
        try:
            data = self._path(name).read_bytes()
        except FileNotFoundError:
            return None
        return _read(name, from_micros(int(shape[1])), data)

    def _names(self) -> list[str]:
        """Return the names, the newest first: they begin with the time."""
        names = (path.stem for path in self._directory.glob("*.eml"))
        return sorted((name for name in names if _NAME.fullmatch(name)), reverse=True)

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.eml"


def mail_home(settings: Settings) -> Path:
    """Return where everything about the demonstration's mails lies."""
    return settings.state / "demo" / "mail"


def store_of(settings: Settings, tenant_id: str) -> MailStore:
    """Return the mails of a demonstration institution."""
    return MailStore(mail_home(settings) / tenant_id)


def _read(name: str, at: datetime, data: bytes) -> StoredMail:
    message = email.message_from_bytes(data, policy=default)
    body = message.get_body(("plain",))
    return StoredMail(
        name=name,
        at=at,
        to=str(message["To"] or ""),
        subject=str(message["Subject"] or ""),
        sender=str(message["From"] or ""),
        language=str(message["Content-Language"] or ""),
        text=str(body.get_content()).replace("\r\n", "\n") if body is not None else "",
    )
