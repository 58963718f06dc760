"""What an authority publishes: its certificate and its revocation list (RFC 5280, RFC 2585).

No certificate says where (no CRL distribution point), see ``docs/adr/0031``: partners get the list
in every handshake, browsers ask no list of a private authority, and an address in a certificate
could neither be changed nor be HTTPS without going round in a circle.
"""

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from medportal.pki.ca import former_layouts, read_ca, read_crl
from medportal.pki.layout import Layout
from medportal.pki.rollover import authority_id

#: An hour: a list is made daily, and a withdrawal should be seen soon.
FILES_SECONDS = 3600
CERTIFICATE_TYPE, LIST_TYPE = "application/pkix-cert", "application/pkix-crl"


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """One public file (DER) with its content type, and since when it is as it is."""

    der: bytes
    content_type: str
    made: datetime

    @property
    def etag(self) -> str:
        """A validator: the file's digest."""
        return sha256(self.der).hexdigest()[:32]


def published(directory: Path, name: str) -> PublishedFile | None:
    """Return ``ca.crt``, ``ca.crl``, or with an authority's id instead of "ca", a former one's."""
    stem, _, kind = name.rpartition(".")
    layout = _layout(Layout(directory), stem)
    if layout is None:
        return None
    if kind == "crt":
        ca = read_ca(layout.root)
        return PublishedFile(
            ca.public_bytes(Encoding.DER), CERTIFICATE_TYPE, ca.not_valid_before_utc
        )
    if kind == "crl":
        crl = read_crl(layout.root)
        return PublishedFile(crl.public_bytes(Encoding.DER), LIST_TYPE, crl.last_update_utc)
    return None


def _layout(layout: Layout, stem: str) -> Layout | None:
    if stem == "ca":
        return layout
    # Compared with what there is: what came from outside names no path.
    known = (layout, *former_layouts(layout))
    return next((each for each in known if authority_id(read_ca(each.root)) == stem), None)
