"""The institution's own revocation lists, passed on to its hosts with copies of its keys.

The host with the authority posts them, or the host where one signed elsewhere is imported; sender
and receiver on other hosts take them up. A list is public and signed (RFC 5280): the database is
only the way, and what lies in it counts after :func:`medportal.pki.offline.import_crl` has checked
it.
"""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from sqlalchemy import Integer, LargeBinary, String, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from medportal.db import Base, UTCDateTime
from medportal.pki.ca import former_layouts, read_ca, read_crl
from medportal.pki.certificates import crl_number
from medportal.pki.files import read_file
from medportal.pki.layout import Layout
from medportal.pki.offline import import_crl
from medportal.pki.rollover import authority_id


class PostedList(Base):
    """The newest revocation list of one authority, present or former, of this institution."""

    __tablename__ = "revocation_list"

    authority: Mapped[str] = mapped_column(String(32), primary_key=True)
    number: Mapped[int] = mapped_column(Integer)
    der: Mapped[bytes] = mapped_column(LargeBinary)
    at: Mapped[datetime] = mapped_column(UTCDateTime)


def unposted(session: Session, directory: Path) -> list[Layout]:
    """Return the authorities whose list here is newer than the posted one.

    Raises a ``PkiError`` if the files here do not hold together.
    """
    numbers = _numbers(session)
    return [
        each
        for name, each in _authorities(directory)
        if crl_number(read_crl(each.root)) > numbers.get(name, -1)
    ]


def post(session: Session, directory: Path, now: datetime) -> int:
    """Put the lists of a key directory that are newer into the database; return how many.

    Raises as :func:`unposted` does.
    """
    newer = unposted(session, directory)
    for each in newer:
        crl = read_crl(each.root)
        session.merge(
            PostedList(
                authority=authority_id(read_ca(each.root)),
                number=crl_number(crl),
                der=read_file(each.crl),
                at=now,
            )
        )
    return len(newer)


def take_up(session: Session, directory: Path, now: datetime) -> list[int]:
    """Put posted lists that are newer than those of a key directory in use; return their numbers.

    A list of an authority that is not here is left alone. Raises a ``PkiError`` for one that is
    not what it says: then nothing of it is kept.
    """
    numbers = _numbers(session)
    taken = []
    for name, each in _authorities(directory):
        if numbers.get(name, -1) > crl_number(read_crl(each.root)):
            der = session.scalars(select(PostedList.der).where(PostedList.authority == name)).one()
            taken.append(crl_number(import_crl(directory, der, now)))
    return taken


def _numbers(session: Session) -> dict[str, int]:
    rows = session.execute(select(PostedList.authority, PostedList.number))
    return {row.authority: row.number for row in rows}


def _authorities(directory: Path) -> Iterator[tuple[str, Layout]]:
    layout = Layout(directory)
    for each in (layout, *former_layouts(layout)):
        yield authority_id(read_ca(each.root)), each
