"""What each host of a deployment is given: a directory with its own keys, and no others.

All keys of an institution are made in one place (``medportal keys init``, ``edge init``). From
there each host gets a copy of what its process needs, the private keys still encrypted, and the
passphrases of just those. What a process may hold is said in :mod:`medportal.ops.transfer` and
:mod:`medportal.config`; this module adds no right to it.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_der_x509_crl

from medportal.core.errors import ConfigurationError
from medportal.keys import Places, TenantKeys
from medportal.ops.transfer import RECEIVER_GROUPS, SENDER_GROUPS
from medportal.pki import ca
from medportal.pki.carried import EDGE_FILES, EDGE_PUBLIC
from medportal.pki.files import PRIVATE, PUBLIC, read_file, read_private, write_file
from medportal.pki.keyfiles import to_pem
from medportal.pki.keystore import KeyStore
from medportal.pki.layout import Layout, load_profiles
from medportal.pki.passphrases import create_passphrases, load_passphrases, passphrase_path
from medportal.pki.profiles import Group, Purpose
from medportal.settings import Settings
from medportal.tenancy.tenant import Tenant

_GROUPS = {"receiver": RECEIVER_GROUPS, "sender": SENDER_GROUPS}
#: The receiver seals what it accepts to the inbox, the sender opens what waits in the outbox.
_BOXES = {"receiver": ("inbox.pub",), "sender": ("outbox.pub", "outbox.key")}


class HostRole(StrEnum):
    """A host that gets keys from the place where they are made."""

    EDGE = "edge"
    RECEIVER = "receiver"
    SENDER = "sender"


def create_edge(
    settings: Settings, tenant: Tenant, names: Sequence[str], now: datetime
) -> list[str]:
    """Make the authority between edge and portal, and the keys of both; return what was made.

    ``names`` are those under which the edge reaches the portal; the authority can certify no
    others. It is none that a partner or a browser trusts. Safe to run again.
    """
    places = _places(settings, tenant)
    passphrases = load_passphrases(places.secrets, (Group.CA, Group.PORTAL))
    passphrases |= create_passphrases(places.secrets, (Group.EDGE,))
    made = []
    if not Layout(places.edge).ca_certificate.exists():
        ca.init_ca(
            places.edge, tenant.id, tenant.names, passphrases[Group.CA], now, permitted_dns=names
        )
        made.append("edge authority")
    for purpose, group in ((Purpose.WEB, Group.PORTAL), (Purpose.EDGE, Group.EDGE)):
        if not Layout(places.edge).key(purpose).exists():
            ca.issue(
                places.edge,
                purpose,
                dns_names=names if purpose is Purpose.WEB else (),
                ca_passphrase=passphrases[Group.CA],
                group_passphrase=passphrases[group],
                now=now,
            )
            made.append("portal's key" if purpose is Purpose.WEB else "edge's key")
    if made:
        # nginx takes no portal whose list has ended, and jobs renews the institution's list, not
        # this one: it lasts as long as the two certificates.
        lifetime = load_profiles()[Purpose.EDGE].lifetime
        ca.make_crl(places.edge, ca_passphrase=passphrases[Group.CA], now=now, lifetime=lifetime)
    return made


def export_host(settings: Settings, tenant: Tenant, role: HostRole, target: Path) -> list[Path]:
    """Write what a host of this role needs into a new directory; return the files.

    Raises ``ConfigurationError`` if there is something in the directory already: files of
    another time would stay among the new ones.
    """
    if target.exists() and any(target.iterdir()):
        raise ConfigurationError(f"{target} is not empty")
    places = _places(settings, tenant)
    if role is HostRole.EDGE:
        return _export_edge(tenant, places, target)
    return _export_transfer(places, str(role), target)


def _export_edge(tenant: Tenant, places: Places, target: Path) -> list[Path]:
    keys = TenantKeys(tenant, places.home, (Group.PORTAL, Group.EDGE), places.given)
    for name, data in edge_files(keys).items():
        write_file(target / name, data, PUBLIC if name in EDGE_PUBLIC else PRIVATE)
    passphrase = target / "edge.passphrase"
    write_file(passphrase, keys.passphrase(Group.EDGE) + b"\n", PRIVATE)
    return [*(target / name for name in EDGE_FILES), passphrase]


def edge_files(keys: TenantKeys) -> dict[str, bytes]:
    """Return the files that nginx reads, by name; ``keys`` are of the groups portal and edge.

    Both private keys lie under the edge's own passphrase: the portal's, under which the web key
    lies where it was made, opens stored records too.
    """
    edge = KeyStore(keys.places.edge, keys.passphrases)
    passphrase = keys.passphrase(Group.EDGE)
    return {
        "edge-ca.crt": edge.ca.public_bytes(Encoding.PEM),
        "edge-ca.crl": load_der_x509_crl(edge.crl_der).public_bytes(Encoding.PEM),
        "web.pem": _pem(keys.keystore, Purpose.WEB, passphrase),
        "edge.pem": _pem(edge, Purpose.EDGE, passphrase),
    }


def _pem(store: KeyStore, purpose: Purpose, passphrase: bytes) -> bytes:
    held = store.credentials(purpose)
    return held.certificate.public_bytes(Encoding.PEM) + to_pem(held.private_key, passphrase)


def _export_transfer(places: Places, role: str, target: Path) -> list[Path]:
    to = Places(target)
    written: dict[Path, None] = {}
    for group in _GROUPS[role]:
        written |= dict.fromkeys(ca.export_group(places.pki, group, to.pki))
        passphrase = passphrase_path(to.secrets, group)
        write_file(passphrase, read_private(passphrase_path(places.secrets, group)), PRIVATE)
        written[passphrase] = None
    for name in _BOXES[role]:
        path = to.vault / name
        mode = PUBLIC if name.endswith(".pub") else PRIVATE
        write_file(path, read_file(places.vault / name), mode)
        written[path] = None
    return list(written)


def _places(settings: Settings, tenant: Tenant) -> Places:
    return Places(settings.home(tenant.id), settings.credentials)
