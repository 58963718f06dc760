"""What each process may do in a PostgreSQL database: one role a process, no more than it needs.

The owner of the database migrates and maintains it; the roles of processes own nothing. Whoever
takes a portal over can add events and read them, and cannot change, number or remove one. Who
takes over a process that faces partners cannot remove what it holds against them.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType

from sqlalchemy import Connection, text

from medportal.backup.tables import FLEETING
from medportal.core.errors import MedportalError
from medportal.models import Base


class ProcessRole(StrEnum):
    """A process with a database role of its own, or a timer's work."""

    PORTAL = "portal"
    JOBS = "jobs"
    SENDER = "sender"
    RECEIVER = "receiver"
    BACKUP = "backup"


class NotPostgres(MedportalError):
    """Only PostgreSQL has roles; a file of SQLite has the rights of the file."""


class NoSuchRole(MedportalError):
    """The database has no role of this name."""


READ = ("SELECT",)
ADD = ("SELECT", "INSERT")
CHANGE = ("SELECT", "INSERT", "UPDATE")
ALL = ("SELECT", "INSERT", "UPDATE", "DELETE")

#: The one column of an event that the sequencer alone fills in.
SEQUENCE = "sequence"
_EVENT = ", ".join(
    column.name for column in Base.metadata.tables["audit_event"].columns if column.name != SEQUENCE
)
#: An event comes without its number: a large one would leave the sequencer none to give.
APPEND = ("SELECT", f"INSERT ({_EVENT})")
NUMBER = (*APPEND, f"UPDATE ({SEQUENCE})")
#: Evidence is added and counted, not changed.
COUNT = ("SELECT", "INSERT", "UPDATE (times, last_at)")

VERSION = "alembic_version"
_AUDIT = {
    "audit_event": APPEND,
    "audit_node": READ,
    "audit_head": READ,
    "audit_credential": READ,
    "audit_statement": READ,
}
_SEQUENCER = {
    **_AUDIT,
    "audit_event": NUMBER,
    "audit_node": ADD,
    "audit_head": ADD,
    "audit_credential": ADD,
}
_HEADS = {"partner_head": CHANGE, "partner_head_past": ADD, "partner_head_conflict": COUNT}
_SENDER = {
    **_AUDIT,
    **_HEADS,
    "outbox": CHANGE,
    "partner_mark": CHANGE,
    "recalled_receipt": ADD,
    "partner_block": READ,
    "revocation_list": READ,
    "partner_hold": READ,
}
_RECEIVER = {
    **_AUDIT,
    **_HEADS,
    "inbox": CHANGE,
    "receipt_counter": CHANGE,
    "storage_epoch": CHANGE,
    "partner_block": READ,
    "block_changes": READ,
    "box_key": READ,
    "revocation_list": READ,
}
#: Tables by the beginning of their names that a process reads besides.
_ALSO = {ProcessRole.RECEIVER: ("partner_index",)}

Rights = Mapping[str, tuple[str, ...]]


def rights_of(process: ProcessRole) -> Rights:
    """Return table by table what a process may do; tables that are not named are closed to it."""
    tables = sorted(Base.metadata.tables)
    if process is ProcessRole.SENDER:
        own: dict[str, tuple[str, ...]] = dict(_SENDER)
    elif process is ProcessRole.RECEIVER:
        own = dict(_RECEIVER)
    elif process is ProcessRole.BACKUP:
        # Reads what a backup holds, changes nothing, and tells the log that it did. Who is signed
        # in, or tries to, is in no backup.
        own = {**dict.fromkeys(set(tables) - FLEETING, READ), **_AUDIT}
    else:
        audit = _SEQUENCER if process is ProcessRole.JOBS else _AUDIT
        seen = dict.fromkeys(_HEADS, READ)
        own = {**dict.fromkeys(tables, ALL), **seen, **audit}
    for start in _ALSO.get(process, ()):
        own |= {table: READ for table in tables if table.startswith(start)}
    return MappingProxyType({**own, VERSION: READ})


def statements(process: ProcessRole, role: str) -> list[str]:
    """Return the SQL that gives ``role`` the rights of a process, and takes every other."""
    to = _quoted(role)
    found = [
        f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {to}",
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        f"GRANT USAGE ON SCHEMA public TO {to}",
    ]
    for table, rights in sorted(rights_of(process).items()):
        found.append(f"GRANT {', '.join(rights)} ON {_quoted(table)} TO {to}")
    return found


def _quoted(name: str) -> str:
    """Return an SQL identifier (PostgreSQL, 4.1.1); whoever names a role cannot add a command."""
    return '"' + name.replace('"', '""') + '"'


def apply(connection: Connection, process: ProcessRole, role: str) -> None:
    """Give a role the rights of a process, in the caller's transaction, as the tables' owner.

    Raises ``NotPostgres`` or ``NoSuchRole``.
    """
    if connection.dialect.name != "postgresql":
        raise NotPostgres("this institution's database is a file: there are no roles in it")
    known = connection.scalar(text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": role})
    if known is None:
        raise NoSuchRole("the database knows no such role: make it first with CREATE ROLE")
    _run(connection, statements(process, role))


def _run(connection: Connection, lines: Iterable[str]) -> None:
    for line in lines:
        connection.exec_driver_sql(line)
