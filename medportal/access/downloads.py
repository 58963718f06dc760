"""Tables to take along, made piece by piece: CSV that no spreadsheet takes for a formula, JSON.

The event of a download is written before its first byte leaves. The rest is read afterwards, in
batches, so that a long log takes no more memory than a short one; if that fails, the download
breaks off and the browser says so.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import StringIO
from typing import Any

from pyramid.response import Response

from medportal.web.gateway import Stream

#: Spreadsheets take a cell that begins so for a formula (OWASP, "CSV Injection"); the last four
#: are the first four as Japanese keyboards write them.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
FORMATS = ("csv", "json")
#: Spreadsheets know by this that the file is UTF-8.
BYTE_ORDER_MARK = "\ufeff"
#: How much is collected before it is sent on.
CHUNK = 64 * 1024


def safe_cell(text: str) -> str:
    """Return a text that a spreadsheet shows as it is: an apostrophe in front where needed."""
    begins = text.startswith(FORMULA) or text.lstrip().startswith(FORMULA)
    return f"'{text}" if begins else text


def csv_pieces(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[bytes]:
    """Give a table as CSV (RFC 4180), every cell in quotation marks."""
    yield (BYTE_ORDER_MARK + _csv_line(heads)).encode("utf-8")
    for row in rows:
        yield _csv_line(row).encode("utf-8")


def json_pieces(
    head: Mapping[str, Any], name: str, entries: Iterable[Mapping[str, Any]]
) -> Iterator[bytes]:
    """Give an object with the members of ``head``, then a list of entries called ``name``."""
    begun = json.dumps(dict(head), ensure_ascii=False)
    yield f"{begun[:-1]}, {json.dumps(name)}: [".encode()
    between = "\n"
    for entry in entries:
        yield f"{between}{json.dumps(dict(entry), ensure_ascii=False)}".encode()
        between = ",\n"
    yield b"\n]}\n"


def attachment(pieces: Iterator[bytes], content_type: str, filename: str) -> Response:
    """Return a file to keep. ``filename`` is ours and names nobody."""
    return Response(
        app_iter=Stream(chunks(pieces)),
        content_type=content_type,
        charset="utf-8" if content_type.startswith("text/") else None,
        content_disposition=f'attachment; filename="{filename}"',
    )


def chunks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Give pieces several at once: a row is too little to send by itself."""
    held = bytearray()
    for piece in pieces:
        held += piece
        if len(held) >= CHUNK:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)


def _csv_line(cells: Sequence[str]) -> str:
    line = StringIO()
    csv.writer(line, quoting=csv.QUOTE_ALL).writerow([safe_cell(cell) for cell in cells])
    return line.getvalue()
