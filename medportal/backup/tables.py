"""Rows of an institution's database as plain values, the same from SQLite and PostgreSQL.

Tables are reflected: what is dumped is what is there, and a backup of an older schema is restored
into tables of that schema, which the migrations then bring up to date. So a backup taken from one
engine can be restored into the other.
"""

import base64
import binascii
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Date,
    DateTime,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    event,
    insert,
    inspect,
    select,
)
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.types import TypeEngine

from medportal.backup.errors import BackupDamaged, UnknownColumn
from medportal.backup.frames import Heading, Row, Rows
from medportal.core.clock import from_micros, to_micros
from medportal.db import UTCDateTime

#: Without these rows nothing that was sealed for a patient opens. They lie with the keys: who has
#: the data alone can open nothing, and an erased patient stays in the keys' short-lived files only.
KEY_TABLES = frozenset({"patient_key"})
#: What no backup brings back: whoever was signed out stays so, and nothing half signed in lives on.
FLEETING = frozenset({"login_session", "passkey_challenge", "sign_in_throttle"})
#: Told by the manifest; and carried as documents, whichever store they lie in.
APART = frozenset({"alembic_version", "document"})
BATCH = 500

Convert = Callable[[Any], Any]


def reflect(connection: Connection) -> MetaData:
    """Return the tables that are there, times as this program reads them."""
    metadata = MetaData()
    event.listen(metadata, "column_reflect", _with_zones)
    metadata.reflect(connection)
    return metadata


def is_empty(connection: Connection) -> bool:
    """Tell whether a database has no tables at all."""
    return not inspect(connection).get_table_names()


def data_tables(metadata: MetaData) -> list[Table]:
    """Return the tables of the data part, each after those that it refers to."""
    left_out = KEY_TABLES | FLEETING | APART
    return [table for table in metadata.sorted_tables if table.name not in left_out]


def key_tables(metadata: MetaData) -> list[Table]:
    """Return the tables of the keys part."""
    return [table for table in metadata.sorted_tables if table.name in KEY_TABLES]


def dump(connection: Connection, table: Table) -> Iterator[Heading | Rows]:
    """Yield a table's heading and rows. Raises ``UnknownColumn``."""
    yield Heading(table.name, tuple(table.columns.keys()))
    writers = [_converters(column)[0] for column in table.columns]
    options = {"stream_results": True, "yield_per": BATCH}
    result = connection.execute(select(table), execution_options=options)
    for part in result.partitions():
        yield Rows([_row(writers, values) for values in part])


class Loader:
    """Writes rows into the table of the last heading."""

    def __init__(self, connection: Connection, allowed: list[Table]) -> None:
        self._connection = connection
        self._tables = {table.name: table for table in allowed}
        self._table: Table | None = None
        self._columns: tuple[str, ...] = ()
        self._readers: list[Convert] = []

    def heading(self, heading: Heading) -> None:
        """Go on with another table. Raises ``BackupDamaged`` if it is none, or has others."""
        table = self._tables.get(heading.table)
        if table is None or set(heading.columns) != set(table.columns.keys()):
            raise BackupDamaged("a table of the backup does not fit its schema")
        self._table = table
        self._columns = heading.columns
        self._readers = [_converters(table.columns[name])[1] for name in heading.columns]

    def rows(self, rows: Rows) -> None:
        """Insert rows. Raises ``BackupDamaged`` for values that do not fit."""
        if self._table is None:
            raise BackupDamaged("rows of the backup belong to no table")
        try:
            values = [dict(zip(self._columns, self._read(row), strict=True)) for row in rows.rows]
        except (ValueError, TypeError, AttributeError, binascii.Error):
            raise BackupDamaged("a row of the backup does not fit its table") from None
        if not values:
            return
        try:
            self._connection.execute(insert(self._table), values)
        except (IntegrityError, DataError):
            # What the database says quotes the row.
            raise BackupDamaged("a row of the backup does not fit its table") from None

    def _read(self, row: Row) -> Row:
        return _row(self._readers, row)


def _row(converters: list[Convert], values: Any) -> Row:
    return [
        None if value is None else convert(value)
        for convert, value in zip(converters, values, strict=True)
    ]


def _with_zones(_inspector: object, _table: Table, column: Any) -> None:
    if isinstance(column["type"], DateTime):
        column["type"] = UTCDateTime()


def _converters(column: Column[Any]) -> tuple[Convert, Convert]:
    """Return what writes a value of a column as JSON, and what reads it again."""
    for kind, pair in _KINDS:
        if isinstance(column.type, kind):
            return pair
    raise UnknownColumn(f"{column.table.name}.{column.name} has a type that no backup carries")


def _same(value: Any) -> Any:
    return value


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _bytes(value: str) -> bytes:
    return base64.b64decode(value, validate=True)


_KINDS: tuple[tuple[type[TypeEngine[Any]], tuple[Convert, Convert]], ...] = (
    (UTCDateTime, (to_micros, from_micros)),
    (Date, (date.isoformat, date.fromisoformat)),
    (LargeBinary, (_text, _bytes)),
    (Boolean, (_same, bool)),
    (Integer, (_same, int)),
    (String, (_same, str)),
)
