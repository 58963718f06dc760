"""Keep the Portuguese catalogue in step with the words in the code.

``python -m medportal.web.catalogue update`` collects every message of ``medportal`` (Python
modules and Chameleon templates), keeps the translations that are there, adds the new
messages empty and drops those that nobody uses any more. ``check`` changes nothing and names
what is missing.

Templates are read with Chameleon's own parser, so that a message id here is by construction
the one asked for when the page is made.
"""

import ast
import os
import re
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any

import chameleon.nodes
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_python
from babel.messages.pofile import read_po, write_po
from chameleon import PageTemplate
from chameleon.astutil import Node

from medportal.core.errors import MedportalError
from medportal.web.i18n import po_file

#: Functions whose arguments are messages. As a function, ``plural`` takes the request before
#: them, as a method of the templates' helpers it does not: what is a text is a message.
KEYWORDS = {"_": None, "plural": None}
LANGUAGE = "pt"
#: Chameleon gives its nodes their attributes from a list of names, which types cannot follow.
nodes: Any = chameleon.nodes
HEADER = (
    'msgid ""\n'
    'msgstr ""\n'
    '"Language: pt\\n"\n'
    '"MIME-Version: 1.0\\n"\n'
    '"Content-Type: text/plain; charset=utf-8\\n"\n'
    '"Content-Transfer-Encoding: 8bit\\n"\n'
    '"Plural-Forms: nplurals=2; plural=(n != 1);\\n"\n'
)
_PYTHON_IN_TEMPLATE = re.compile(
    r"""(?P<call>\b_|\bplural)\(\s*(?P<args>(?:'[^']*'|"[^"]*")(?:\s*,\s*(?:'[^']*'|"[^"]*"))?)"""
)
_STRING = re.compile(r"""'([^']*)'|"([^"]*)\"""")

MessageId = str | tuple[str, str]


class Untranslatable(MedportalError):
    """A template marks something for translation that has no fixed message id."""


def messages() -> Iterator[tuple[MessageId, str]]:
    """Yield each message of the package with the file it stands in."""
    root = Path(str(files("medportal")))
    for path in sorted(root.rglob("*")):
        if path.suffix in {".py", ".pt"}:
            where = path.relative_to(root.parent).as_posix()
            yield from ((message, where) for message in _of_file(path.read_bytes(), where))


@cache
def _of_file(source: bytes, where: str) -> tuple[MessageId, ...]:
    """Return the messages of a file; kept by what it says, since ``update`` reads all twice."""
    if where.endswith(".py"):
        return tuple(in_python(source))
    return tuple(in_template(source.decode("utf-8"), where))


def in_python(source: bytes) -> Iterator[MessageId]:
    """Yield the messages of a Python module."""
    for _line, name, found, _comments in extract_python(BytesIO(source), KEYWORDS, [], {}):
        texts = [text for text in _as_list(found) if text]
        if name == "plural" and len(texts) >= 2:
            yield texts[0], texts[1]
        elif name == "_" and texts:
            yield texts[0]


def in_template(source: str, where: str = "") -> Iterator[MessageId]:
    """Yield the messages of a Chameleon template.

    Raises ``Untranslatable`` for a marked text with an expression in it that is not named with
    ``i18n:name``, and for one in an expression that has an escaped quote in it.
    """
    # An empty template to parse with: one made of the source would be compiled, for nothing.
    program = PageTemplate("").parse(source)
    for node in _walk(program.macros):
        if isinstance(node, nodes.Translate):
            yield _message_id(node, where)
    for call in _PYTHON_IN_TEMPLATE.finditer(source):
        texts = [a or b for a, b in _STRING.findall(call["args"])]
        if any(text.endswith("\\") for text in texts):
            raise Untranslatable(f"{where}: a text with an escaped quote; word it without one")
        if call["call"] == "_":
            yield texts[0]
        elif len(texts) == 2:
            yield texts[0], texts[1]


def refreshed(old: bytes) -> bytes:
    """Return the catalogue ``old`` with the messages of today."""
    previous = read_po(BytesIO(old), locale=LANGUAGE)
    current = Catalog(locale=LANGUAGE)
    for message_id, where in messages():
        before = _before(previous, message_id)
        current.add(message_id, before.string if before else None, locations=[(where, 1)])
    written = BytesIO()
    write_po(written, current, width=100, omit_header=True, sort_output=True, include_lineno=False)
    return HEADER.encode() + b"\n" + written.getvalue()


def missing() -> list[str]:
    """Return the messages that have no Portuguese translation, or none in the catalogue."""
    catalogue = read_po(BytesIO(_read()), locale=LANGUAGE)
    lacking = []
    for message_id, where in messages():
        found = catalogue.get(message_id if isinstance(message_id, str) else message_id[0])
        if found is None or found.fuzzy or not all(_as_list(found.string)):
            lacking.append(f"{where}: {message_id}")
    return lacking


def main(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    if arguments == ["update"]:
        _write(refreshed(_read()))
    elif arguments != ["check"]:
        print("usage: python -m medportal.web.catalogue update|check", file=sys.stderr)
        return 2
    lacking = missing()
    for line in lacking:
        print(f"no translation: {line}")
    return 1 if lacking else 0


def _message_id(node: Any, where: str) -> str:
    if node.msgid:
        return str(node.msgid)
    text = "".join(_texts(node.node, where))
    return re.sub(r"\s+", " ", text).strip()


def _texts(node: Any, where: str) -> Iterator[str]:
    match node:
        case nodes.Text(value=value) | ast.Constant(value=value):
            yield str(value)
        case nodes.Name(name=name):
            yield f"${{{name}}}"
        case nodes.Element(start=start, content=content, end=end):
            yield from _tag(start, where)
            yield from _texts(content, where)
            yield from _texts(end, where)
        case nodes.Define(node=inner):
            # Chameleon wraps each element into one, for its own record of the attributes.
            yield from _texts(inner, where)
        case nodes.End(prefix=prefix, name=name, space=space, suffix=suffix):
            yield f"{prefix}{name}{space}{suffix}"
        case _ if _is_plain(node):
            for child in _children(node):
                yield from _texts(child, where)
        case _:
            raise Untranslatable(f"{where}: an expression in a translated text needs i18n:name")


def _tag(start: Any, where: str) -> Iterator[str]:
    """Yield the start tag of markup inside a translated text, which is part of its id."""
    attributes = [node for node in _walk([start.attributes]) if isinstance(node, nodes.Attribute)]
    yield f"{start.prefix}{start.name}"
    for attribute in attributes:
        match attribute:
            case nodes.Attribute(space=space, name=name, eq=eq, quote=quote, expression=value):
                yield f"{space}{name}{eq}{quote}{''.join(_texts(value, where))}{quote}"
    yield start.suffix


def _is_plain(node: Any) -> bool:
    """Tell whether a node only holds others, and does nothing of its own."""
    return node is None or isinstance(node, list | tuple | nodes.Sequence)


def _walk(trees: Iterable[Any]) -> Iterator[Any]:
    for tree in trees:
        yield tree
        yield from _walk(_children(tree))


def _children(node: Any) -> Iterator[Any]:
    if isinstance(node, list | tuple):
        yield from node
    elif isinstance(node, Node):
        for name in node._fields:
            value = getattr(node, name, None)
            if isinstance(value, Node | list | tuple):
                yield value


def _before(catalogue: Catalog, message_id: MessageId) -> Any:
    """Return the old entry of a message, unless it has turned from single to plural or back."""
    is_single = isinstance(message_id, str)
    found = catalogue.get(message_id if is_single else message_id[0])
    return found if found is not None and found.pluralizable is not is_single else None


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _read() -> bytes:
    file = po_file(LANGUAGE)
    return bytes(file.read_bytes()) if file.is_file() else HEADER.encode()


def _write(data: bytes) -> None:
    target = Path(str(po_file(LANGUAGE)))
    beside = target.with_suffix(".new")
    beside.write_bytes(data)
    os.replace(beside, target)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
