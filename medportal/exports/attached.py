"""The signed file inside a PDF, taken out of whatever somebody sends as one."""

import io
import logging

import pypdf

from medportal.exports.errors import UnreadableFile
from medportal.exports.pdf import ATTACHMENT
from medportal.exports.verify import MOST_BYTES

_MAGIC = b"%PDF-"


def bundle_in(data: bytes) -> bytes:
    """Return the FHIR Bundle in ``data``: the file itself, or what a PDF has inside.

    Raises ``UnreadableFile`` for a PDF without one, with several, or that cannot be read.
    """
    if len(data) > MOST_BYTES:
        raise UnreadableFile(f"The file has more than {MOST_BYTES // 1024**2} megabytes.")
    if not data.startswith(_MAGIC):
        return data
    # It tells at length about each oddity of a damaged file; one sentence is enough.
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    try:
        found = [
            content
            for name, contents in pypdf.PdfReader(io.BytesIO(data)).attachments.items()
            if name == ATTACHMENT
            for content in contents
        ]
    except (Exception, RecursionError) as error:
        # Hostile bytes make the library fail in every way there is; it bounds what it unpacks.
        raise UnreadableFile("The PDF is damaged: what is inside cannot be taken out.") from error
    if len(found) != 1:
        raise UnreadableFile(f"The PDF has no file {ATTACHMENT} inside, or several.")
    return found[0]
