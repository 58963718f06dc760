"""The keys between edge and portal, and how those that nginx needs come to the edge.

Jobs renews the portal's and the edge's certificate under the edge's own authority, and puts what
nginx reads, its web key too, into ``edge/carry``: private keys under the edge's passphrase, which
is one of 256 random bits. The portal hands these files to the edge, and to nobody behind it
(:mod:`medportal.admin.views.edge_keys`); :mod:`medportal.ops.edge_host` takes them there.
"""

from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from medportal.keys import TenantKeys
from medportal.ops.hosts import edge_files
from medportal.pki import ca
from medportal.pki.carried import EDGE_FILES, EDGE_PUBLIC, carry_directory
from medportal.pki.files import PRIVATE, PUBLIC, write_file
from medportal.pki.keyfiles import certificate_from_pem
from medportal.pki.layout import Layout, load_profiles
from medportal.pki.profiles import Group, Purpose
from medportal.pki.standing import is_ca_here

#: The portal's certificate under the edge's authority, and the edge's own.
_LIST = b"-----BEGIN X509 CRL-----"
_PURPOSES = (Purpose.WEB, Purpose.EDGE)


def renew_edge(keys: TenantKeys, now: datetime) -> list[tuple[Purpose, int]]:
    """Certify anew what is due between edge and portal; return what was, and serial numbers.

    Only where there is an edge and its authority's key and passphrases are at hand. The list goes
    first: the portal looks at it again when its key changes.
    """
    directory, held = keys.places.edge, keys.passphrases
    if Group.CA not in held or not is_ca_here(directory):
        return []
    groups = {purpose: load_profiles()[purpose].group for purpose in _PURPOSES}
    due = [
        info.purpose
        for info in ca.inventory(directory)
        if info.renew_at <= now and groups[info.purpose] in held
    ]
    if not due:
        return []
    lifetime = load_profiles()[Purpose.EDGE].lifetime
    ca.make_crl(directory, ca_passphrase=held[Group.CA], now=now, lifetime=lifetime)
    done = []
    for purpose in due:
        leaf = ca.issue(
            directory,
            purpose,
            dns_names=_names(directory) if purpose is Purpose.WEB else (),
            ca_passphrase=held[Group.CA],
            group_passphrase=held[groups[purpose]],
            now=now,
        )
        done.append((purpose, leaf.serial_number))
    return done


def _names(directory: Path) -> list[str]:
    """Return the names under which the edge reaches the portal: those of its certificate."""
    path = Layout(directory).key(Purpose.WEB)
    leaf = certificate_from_pem(path.read_bytes(), str(path))
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.DNSName)


def prepare(keys: TenantKeys) -> list[str]:
    """Put the files for the edge where the portal finds them; return which ones changed.

    Only where the passphrases of edge and portal are at hand. A private key that is there already
    is not written again: each writing encrypts it anew.
    """
    edge, there = Layout(keys.places.edge), carry_directory(keys.places.edge)
    is_able = {Group.EDGE, Group.PORTAL} <= set(keys.passphrases)
    if not is_able or not edge.key(Purpose.EDGE).exists():
        return []
    sources = {
        "edge-ca.crt": edge.ca_certificate,
        "edge-ca.crl": edge.crl,
        "web.pem": Layout(keys.places.pki).key(Purpose.WEB),
        "edge.pem": edge.key(Purpose.EDGE),
    }
    old = [name for name in EDGE_FILES if not _same(there / name, sources[name])]
    files = edge_files(keys) if old else {}
    for name in old:
        write_file(there / name, files[name], PUBLIC if name in EDGE_PUBLIC else PRIVATE)
    return old


def _same(path: Path, source: Path) -> bool:
    return path.exists() and public_part(path) == public_part(source)


def public_part(path: Path) -> bytes:
    """Return what tells one of these files from an older one: its certificate, or its list."""
    return public_part_of(path.read_bytes())


def public_part_of(data: bytes) -> bytes:
    """See :func:`public_part`; lists are PEM or DER."""
    if data.startswith(_LIST):
        return x509.load_pem_x509_crl(data).fingerprint(SHA256())
    if not data.startswith(b"-----"):
        return x509.load_der_x509_crl(data).fingerprint(SHA256())
    return certificate_from_pem(data, "a file for the edge").fingerprint(SHA256())
