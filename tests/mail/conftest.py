"""A certificate, a good server, an institution that sends, and letters."""

import tomllib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from mail_servers import Behaviour, Running, mail_of, mail_server, make_certificate
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session, sessionmaker

from medportal.core.ids import new_id
from medportal.mail.kinds import Letter, MailKind
from medportal.mail.models import OutgoingMail
from medportal.mail.outbox import post
from medportal.tenancy.parsing import parse
from medportal.tenancy.tenant import Tenant
from medportal.web.colour import contrast

FILE = Path(__file__).resolve().parents[2] / "tenants" / "hospital.toml"
NOW = datetime(2026, 3, 7, 14, 5, tzinfo=UTC)
VARIABLES = {"{hospital_port}": "8443", "{mail_port}": "2525", "{exchange_port}": "4000"}


@pytest.fixture(scope="session")
def now() -> datetime:
    return NOW


@pytest.fixture(scope="session")
def tenant() -> Tenant:
    """Give the demonstration hospital."""
    text = FILE.read_text("utf-8")
    for name, value in VARIABLES.items():
        text = text.replace(name, value)
    return parse("hospital.toml", tomllib.loads(text), contrast)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the certificate of a good server, with its key."""
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def behaviour() -> Behaviour:
    return Behaviour()


@pytest.fixture
def server(certificate: Path, behaviour: Behaviour) -> Iterator[Running]:
    with mail_server(certificate, behaviour) as running:
        yield running


@pytest.fixture
def mail(server: Running, tmp_path: Path, certificate: Path) -> Any:
    """Give settings that reach the good server."""
    return mail_of(server.port, tmp_path, certificate)


@pytest.fixture
def sending(tenant: Tenant, mail: Any) -> Tenant:
    """Give an institution that sends through the good server."""
    return replace(tenant, mail=mail)


Begin = Callable[[], AbstractContextManager[Session]]


@pytest.fixture
def begin(engine: Engine) -> Begin:
    """``with begin() as session`` is one transaction."""
    return sessionmaker(engine).begin


@pytest.fixture(scope="session")
def letter() -> Callable[..., Letter]:
    """Make a letter; name what matters."""

    def made(**values: Any) -> Letter:
        usual: dict[str, Any] = {
            "id": new_id(),
            "kind": MailKind.PASSWORD_CHANGED,
            "to": "josefa@mail.example",
            "language": "en",
            "params": {},
            "at": NOW,
        }
        return Letter(**(usual | values))

    return made


@pytest.fixture
def posted(begin: Begin) -> Callable[..., list[str]]:
    """Post mails, each to an address of its own, in transactions of their own."""

    def make(count: int = 1, kind: MailKind = MailKind.PASSWORD_CHANGED, **kw: Any) -> list[str]:
        values: dict[str, Any] = {"language": "en", "now": NOW, "person_id": new_id()} | kw
        ids = []
        for number in range(count):
            with begin() as session:
                to = values.get("to") or f"person{number}@mail.example"
                ids.append(post(session, kind, **{**values, "to": to}))
        return [mail_id for mail_id in ids if mail_id is not None]

    return make


@pytest.fixture
def row(begin: Begin) -> Callable[[str], OutgoingMail]:
    """Return a mail's row as it stands."""

    def read(mail_id: str) -> OutgoingMail:
        with begin() as session:
            found = session.scalars(select(OutgoingMail).where(OutgoingMail.id == mail_id)).one()
            session.expunge(found)
        return found

    return read
