"""Numbering schemes of countries, with their check digits, through python-stdnum.

A scheme is named as the library names its module: "pt.cc", "es.dni", "pl.pesel". What is
typed is brought into the one form that the scheme has and is checked with it.
"""

import re
from functools import cache
from types import ModuleType
from typing import Any

from stdnum import get_cc_module
from stdnum.exceptions import ValidationError

_NAME = re.compile(r"[a-z]{2}\.[a-z][a-z0-9_]{0,25}")
#: What can be hashed with a partner's key: see :mod:`medportal.patients.pseudonyms`.
_NUMBER = re.compile(r"[0-9A-Z]{4,32}", re.ASCII)
#: Of people's numbers, those that are not letters and digits alone: a sign tells the century.
_WITH_SIGNS = frozenset({"fi.hetu", "se.personnummer"})
#: How long a number is, where the library does not look.
_LENGTHS = {"pt.cc": 12}


def is_scheme(name: str) -> bool:
    """Tell whether there is such a scheme, and people can be told apart by its numbers."""
    return _module(name) is not None


def normal_form(name: str, typed: str) -> str | None:
    """Return a number in its scheme's one form, in capitals and digits; ``None`` for a wrong one.

    Raises ``KeyError`` for a scheme that there is not.
    """
    module = _module(name)
    if module is None:
        raise KeyError(name)
    try:
        number = str(module.validate(typed)).upper()
    except ValidationError:
        return None
    is_whole = len(number) == _LENGTHS.get(name, len(number))
    return number if is_whole and _NUMBER.fullmatch(number) else None


@cache
def _module(name: str) -> Any:
    """Return the module of a scheme, or ``None``."""
    if not _NAME.fullmatch(name) or name in _WITH_SIGNS:
        return None
    module: Any = get_cc_module(*name.split("."))
    is_one = isinstance(module, ModuleType) and all(
        callable(getattr(module, wanted, None)) for wanted in ("compact", "validate")
    )
    return module if is_one else None
