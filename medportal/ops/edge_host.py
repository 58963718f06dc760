"""Renewed keys on the edge: fetched from the portal, checked, put where nginx reads them.

The edge asks the portal directly, over the connection that nginx uses: with its certificate, and
believing the edge's own authority alone. What comes is checked before a file is touched, numbered
as in the code:

1. The authority is the one that is here: another one is carried by hand.
2. The list is that authority's, and not older than the one that is here.
3. Each private key opens with the passphrase that is here, and belongs to its certificate.
4. The edge's certificate is good now, of that authority, and not withdrawn.
5. The portal's certificate for browsers bears the names that it bore, and ends no earlier.

Each file is replaced in one step and holds certificate and key together, so nginx, which is told
last, may be told or restarted at any moment.
"""

import http.client
import json
import os
import signal
import ssl
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from medportal.core.errors import MedportalError
from medportal.ops.edges import public_part, public_part_of
from medportal.pki.carried import EDGE_FILES, EDGE_PUBLIC
from medportal.pki.certificates import crl_number
from medportal.pki.expiry import days_left
from medportal.pki.files import PRIVATE, PUBLIC, write_file
from medportal.pki.keyfiles import certificate_from_pem, from_pem
from medportal.pki.layout import load_profiles
from medportal.pki.profiles import CrlLimits, Purpose
from medportal.pki.verify import institution_of, verify_crl_origin, verify_leaf

PATH = "/edge/keys"
#: More than four small files have.
_MOST = 256 * 1024
_SECONDS = 30
#: Later than this before its end nothing should still wait to be renewed.
WARN_DAYS = 30


class EdgeFilesUnfit(MedportalError):
    """What the portal gave is not what belongs on this edge; nothing was replaced."""


class PortalUnreachable(MedportalError):
    """The portal gave no files."""


@dataclass(frozen=True, slots=True)
class Edge:
    """The edge's directory with the files that nginx reads, and the passphrase of its keys."""

    directory: Path
    passphrase: bytes


@dataclass(frozen=True, slots=True)
class Held:
    """One certificate that nginx presents."""

    file: str
    days_left: int
    is_new: bool


def fetch(edge: Edge, portal: str, host: str) -> dict[str, bytes]:
    """Return the files that the portal has for its edge; ``portal`` is ``https://NAME:PORT``.

    ``host`` is the name that browsers use. Raises ``PortalUnreachable``, or ``EdgeFilesUnfit`` for
    files of this edge that do not open.
    """
    name, port = _place(portal)
    connection = http.client.HTTPSConnection(name, port, context=_context(edge), timeout=_SECONDS)
    try:
        connection.request("GET", PATH, headers={"Host": host})
        answer = connection.getresponse()
        body = answer.read(_MOST + 1)
    except (OSError, http.client.HTTPException) as error:
        kind = type(error).__name__
        raise PortalUnreachable(f"the portal cannot be reached as its edge ({kind})") from None
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise PortalUnreachable(
            f"the portal has no files for this edge (status {answer.status}): jobs makes them "
            "where it has the edge passphrase, and the portal gives them to its trusted edges"
        )
    return _parsed(body)


def _place(portal: str) -> tuple[str, int]:
    at = urlsplit(portal)
    try:
        port = at.port or 443
    except ValueError:  # A port that there is not.
        port = 0
    if at.scheme != "https" or not at.hostname or not port:
        raise PortalUnreachable("say where the portal is as https://NAME:PORT")
    return at.hostname, port


def _context(edge: Edge) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    try:
        context.load_verify_locations(edge.directory / "edge-ca.crt")
        context.load_verify_locations(edge.directory / "edge-ca.crl")
        context.load_cert_chain(edge.directory / "edge.pem", password=edge.passphrase)
    except ssl.SSLError:
        raise EdgeFilesUnfit(
            f"{edge.directory}: edge-ca.crt, edge-ca.crl and edge.pem are not what they should be, "
            "or the passphrase is not that of edge.pem"
        ) from None
    return context


def _parsed(body: bytes) -> dict[str, bytes]:
    try:
        found = json.loads(body) if len(body) <= _MOST else None
    except ValueError:
        found = None
    if not isinstance(found, dict) or set(found) != set(EDGE_FILES):
        raise EdgeFilesUnfit("what the portal gave are not the files of an edge")
    if not all(isinstance(each, str) and each.isascii() for each in found.values()):
        raise EdgeFilesUnfit("what the portal gave are not the files of an edge")
    return {name: text.encode("ascii") for name, text in found.items()}


def take(edge: Edge, files: dict[str, bytes], now: datetime) -> list[Held]:
    """Check the files, put those in place that are new, and return what nginx presents.

    Raises ``EdgeFilesUnfit`` or a ``PkiError``; then no file was replaced.
    """
    authority = _authority(edge, files)
    crl = _list(edge, files, authority)
    for name in ("edge.pem", "web.pem"):
        _open(edge, name, files[name])  # (3)
    limits = CrlLimits(
        warn_after=timedelta(days=400), refuse_after=timedelta(days=400), skew=load_profiles().skew
    )
    verify_leaf(  # (4)
        (certificate_from_pem(files["edge.pem"], "edge.pem").public_bytes(Encoding.DER),),
        ca=authority,
        crl_der=crl,
        purpose=Purpose.EDGE,
        institution=institution_of(authority),
        now=now,
        crl_limits=limits,
    )
    _require_same_site(edge, files["web.pem"], now)
    changed = [
        name
        for name in EDGE_FILES
        if public_part(edge.directory / name) != public_part_of(files[name])
    ]
    for name in changed:
        write_file(edge.directory / name, files[name], PUBLIC if name in EDGE_PUBLIC else PRIVATE)
    return [
        Held(name, days_left(_leaf(edge, name).not_valid_after_utc, now), name in changed)
        for name in ("web.pem", "edge.pem")
    ]


def _authority(edge: Edge, files: dict[str, bytes]) -> x509.Certificate:
    here = edge.directory / "edge-ca.crt"
    known = certificate_from_pem(here.read_bytes(), str(here))
    if certificate_from_pem(files["edge-ca.crt"], "edge-ca.crt") != known:  # (1)
        raise EdgeFilesUnfit("the edge has a new authority: carry its files by hand")
    return known


def _list(edge: Edge, files: dict[str, bytes], authority: x509.Certificate) -> bytes:
    try:
        given = x509.load_pem_x509_crl(files["edge-ca.crl"])
    except ValueError:
        raise EdgeFilesUnfit("the list that the portal gave is none") from None
    der = given.public_bytes(Encoding.DER)
    verify_crl_origin(der, ca=authority)  # (2)
    known = x509.load_pem_x509_crl((edge.directory / "edge-ca.crl").read_bytes())
    if crl_number(given) < crl_number(known):
        raise EdgeFilesUnfit("the list that the portal gave is older than the one here")
    return der


def _open(edge: Edge, name: str, data: bytes) -> None:
    key = from_pem(data, edge.passphrase, name)
    if key.public_key() != certificate_from_pem(data, name).public_key():
        raise EdgeFilesUnfit(f"key and certificate in {name} do not belong together")


def _require_same_site(edge: Edge, data: bytes, now: datetime) -> None:
    given, known = certificate_from_pem(data, "web.pem"), _leaf(edge, "web.pem")
    if _names(given) != _names(known):  # (5)
        raise EdgeFilesUnfit("the certificate for browsers bears other names: carry it by hand")
    if given.not_valid_after_utc < known.not_valid_after_utc or now >= given.not_valid_after_utc:
        raise EdgeFilesUnfit("the certificate for browsers is older than the one here")


def _leaf(edge: Edge, name: str) -> x509.Certificate:
    path = edge.directory / name
    return certificate_from_pem(path.read_bytes(), str(path))


def _names(leaf: x509.Certificate) -> set[str]:
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return set(names.get_values_for_type(x509.DNSName))


def reload(pid_file: Path) -> None:
    """Tell nginx to read its files again (SIGHUP).

    Raises ``EdgeFilesUnfit`` if it does not run under that number, ``OSError`` for the file.
    """
    text = pid_file.read_text("ascii").strip()
    if not text.isdigit() or int(text) < 2:
        raise EdgeFilesUnfit(f"{pid_file} holds no number of a process")
    try:
        os.kill(int(text), signal.SIGHUP)
    except ProcessLookupError:
        raise EdgeFilesUnfit(f"{pid_file}: no process has this number; start nginx") from None
