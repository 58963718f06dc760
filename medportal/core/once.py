"""A value that an object works out once, when it is first asked for (PURE)."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")


class once(Generic[T]):  # noqa: N801  # It is written like the decorators that it stands beside.
    """Like ``functools.cached_property``, without its lock.

    Before Python 3.12 that one holds a lock for all objects of a class while a value is worked
    out. Where this asks a database that waits for a writer, and the writer asks the same of an
    object of its own, both wait for ever. Objects of one request need no lock.
    """

    def __init__(self, work_out: Callable[[Any], T]) -> None:
        self._work_out = work_out
        self.__doc__ = work_out.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        """Note under which name the value is kept."""
        self._name = name

    @overload
    def __get__(self, held_by: None, owner: type) -> "once[T]": ...

    @overload
    def __get__(self, held_by: object, owner: type) -> T: ...

    def __get__(self, held_by: object | None, owner: type) -> "once[T] | T":
        """Work the value out, and keep it in place of this."""
        if held_by is None:
            return self
        value = self._work_out(held_by)
        held_by.__dict__[self._name] = value
        return value
