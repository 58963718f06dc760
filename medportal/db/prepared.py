"""Statements that run for every group of records, rendered once.

SQLAlchemy's way from a statement to the database serves every statement there may be, and for a
look at an index it takes longer than the database does. A :class:`Prepared` one is rendered once a
dialect, with the types of its columns, and its text then goes to the driver. It runs on the same
connection, in the same transaction, and fails with the same errors.

A list in a statement is written with :func:`one_of`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Dialect, any_, bindparam
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import ClauseElement, ColumnElement
from sqlalchemy.types import Boolean, TypeEngine

Asked = Mapping[str, Any]
_Change = Callable[[Any], Any]
"""What the type of a column does to a value on its way to the driver, or back."""


class OneOf(ColumnElement[bool]):
    """The condition of :func:`one_of`."""

    inherit_cache = False
    type = Boolean()

    def __init__(self, column: ColumnElement[Any], name: str) -> None:
        self.each = column.in_(bindparam(name, expanding=True))
        self.at_once = column == any_(bindparam(name, type_=ARRAY(column.type)))


def one_of(column: ColumnElement[Any], name: str) -> OneOf:
    """Return the condition that a column's value is in the list that is given as ``name``.

    PostgreSQL takes a list as one value. SQLite has a place for each item; so that there are few
    texts of a statement, a list is filled up to the next power of two with its last item.
    """
    return OneOf(column, name)


@compiles(OneOf)
def _each(element: OneOf, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(element.each, **options)


@compiles(OneOf, "postgresql")
def _at_once(element: OneOf, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(element.at_once, **options)


class Prepared:
    """A statement that is rendered once; see the module. Shared by all threads."""

    def __init__(self, statement: ClauseElement) -> None:
        """Take a statement of tables, not of mapped classes."""
        self._statement = statement
        self._forms: dict[str, _Form] = {}

    def rows(self, of: Session | Connection, asked: Asked) -> list[tuple[Any, ...]]:
        """Run it; return all rows. With an empty list there are none."""
        connection, form = self._on(of)
        if not all(asked[name] for name in form.lists):
            return []
        text, values = form.filled(asked)
        return form.read(connection.exec_driver_sql(text, values).all())

    def scalar(self, of: Session | Connection, asked: Asked) -> Any:
        """Run it; return the first column of the first row, ``None`` without one."""
        rows = self.rows(of, asked)
        return rows[0][0] if rows else None

    def run(self, of: Session | Connection, asked: Asked) -> None:
        """Run it where it returns no rows; with an empty list nothing is done."""
        connection, form = self._on(of)
        if all(asked[name] for name in form.lists):
            connection.exec_driver_sql(*form.filled(asked))

    def run_all(self, of: Session | Connection, each: Sequence[Asked]) -> None:
        """Run it once for each of these, in one go; it has no list, and returns no rows."""
        if not each:
            return
        connection, form = self._on(of)
        connection.exec_driver_sql(form.text, [form.values(asked) for asked in each])

    def _on(self, of: Session | Connection) -> "tuple[Connection, _Form]":
        connection = of if isinstance(of, Connection) else _connection_of(of)
        dialect = connection.dialect
        form = self._forms.get(dialect.name)
        if form is None:
            form = self._forms[dialect.name] = _Form(self._statement, dialect)
        return connection, form


def _connection_of(session: Session) -> Connection:
    """Return a session's connection, after what waits in it was written."""
    if session.autoflush:
        session.flush()
    return session.connection()


class _Form:
    """A statement as one dialect has it."""

    def __init__(self, statement: ClauseElement, dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect)
        assert isinstance(compiled, SQLCompiler)
        self._compiled = compiled
        self.text = compiled.string
        binds = compiled.binds
        self.lists = tuple(name for name, bind in binds.items() if bind.expanding)
        self._is_positional = compiled.positional
        self._fixed = {name: b.effective_value for name, b in binds.items() if not b.required}
        self._places = [
            (name, _writes(binds[name].type, dialect), name in self.lists)
            for name in compiled.positiontup or binds
        ]
        self._reads = [
            (at, change)
            for at, column in enumerate(getattr(statement, "exported_columns", ()))
            if (change := _reads(column.type, dialect))
        ]
        self._of_length: dict[int, str] = {}

    def filled(self, asked: Asked) -> tuple[str, Any]:
        """Return the text for a list of this length, and the values for its places."""
        if not self.lists:
            return self.text, self.values(asked)
        (name,) = self.lists
        items = list(asked[name])
        items += [items[-1]] * ((1 << (len(items) - 1).bit_length()) - len(items))
        text = self._of_length.get(len(items))
        if text is None:
            state = self._compiled.construct_expanded_state({**self._fixed, **asked, name: items})
            text = self._of_length[len(items)] = state.statement
        return text, self.values({**asked, name: items})

    def values(self, asked: Asked) -> Any:
        """Return the values for the places of the text, as the driver takes them."""
        whole = {**self._fixed, **asked} if self._fixed else asked
        if not self._is_positional:
            return {
                name: change(whole[name]) if change else whole[name]
                for name, change, _is_list in self._places
            }
        values: list[Any] = []
        for name, change, is_list in self._places:
            value = whole[name]
            if is_list:
                values += map(change, value) if change else value
            else:
                values.append(change(value) if change else value)
        return tuple(values)

    def read(self, rows: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Return rows as the types of their columns give them."""
        if not self._reads:
            return [tuple(row) for row in rows]
        return [self._row(row) for row in rows]

    def _row(self, row: Any) -> tuple[Any, ...]:
        values = list(row)
        for at, change in self._reads:
            values[at] = change(values[at])
        return tuple(values)


def _writes(kind: TypeEngine[Any], dialect: Dialect) -> _Change | None:
    return kind.dialect_impl(dialect).bind_processor(dialect)


def _reads(kind: TypeEngine[Any], dialect: Dialect) -> _Change | None:
    return kind.dialect_impl(dialect).result_processor(dialect, None)
