"""What there is of certificates in a key directory, and how each stands: for lists and warnings."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

from medportal.pki import rollover
from medportal.pki.ca import inventory, read_ca, read_crl
from medportal.pki.certificates import crl_number
from medportal.pki.expiry import State, days_left, state_of
from medportal.pki.layout import Layout, load_profiles
from medportal.pki.partners import Partner, TrustStore
from medportal.pki.profiles import Purpose
from medportal.pki.requests import grouped
from medportal.pki.verify import key_id

AUTHORITY, FORMER, LIST = "authority", "former-authority", "revocation-list"
#: Between edge and portal: their own authority, its list, the portal's key and the edge's.
EDGE_AUTHORITY, EDGE_LIST = "edge-authority", "edge-list"
EDGE_KEYS = {Purpose.WEB: "portal-for-edge", Purpose.EDGE: "edge"}
#: Nobody renews this authority by itself: files are carried to the edge by hand.
RENEW_EDGE_AUTHORITY = timedelta(days=180)
RENEW_EDGE_LIST = timedelta(days=100)


@dataclass(frozen=True, slots=True)
class Standing:
    """One certificate, or a revocation list. ``what`` is a purpose or one of the words above.

    ``serial`` is hexadecimal, a list's number for a list. ``has_request`` tells that a new key
    waits for its certificate.
    """

    what: str
    serial: str
    not_after: datetime
    days_left: int
    state: State
    fingerprint: str
    has_request: bool = False

    @property
    def name(self) -> str:
        """What it is, unmistakably: by this a warning is remembered."""
        return f"{self.what} {self.serial}"


@dataclass(frozen=True, slots=True)
class PartnerStanding:
    """The authority trusted for a partner; ``successor`` is its next one, to be compared."""

    institution: str
    not_after: datetime
    days_left: int
    fingerprint: str
    revoked: bool
    retires: datetime | None
    successor: str


def standings(directory: Path, now: datetime) -> list[Standing]:
    """Return the authority, its list and every key in use."""
    layout, crl = Layout(directory), read_crl(directory)
    rows = [_authority(directory, now), *_former(directory, now), _list(crl, now)]
    for info in inventory(directory):
        is_revoked = crl.get_revoked_certificate_by_serial_number(info.serial) is not None
        rows.append(
            Standing(
                what=str(info.purpose),
                serial=f"{info.serial:040x}",
                not_after=info.not_after,
                days_left=days_left(info.not_after, now),
                state=state_of(info.not_after, info.renew_at, now, is_revoked=is_revoked),
                fingerprint=grouped(info.key_id),
                has_request=layout.requested(info.purpose).exists(),
            )
        )
    return rows


def edge_standings(directory: Path, now: datetime) -> list[Standing]:
    """Return what there is between edge and portal in a key directory; nothing without an edge.

    The list lasts as long as the keys, and ends when it says so: only the two look at it.
    """
    if not Layout(directory).ca_certificate.exists():
        return []
    ca, crl = read_ca(directory), read_crl(directory)
    end, ends = ca.not_valid_after_utc, crl.next_update_utc or crl.last_update_utc
    rows = [
        _of_ca(EDGE_AUTHORITY, ca, end, state_of(end, end - RENEW_EDGE_AUTHORITY, now), now),
        Standing(
            EDGE_LIST,
            str(crl_number(crl)),
            ends,
            days_left(ends, now),
            state_of(ends, ends - RENEW_EDGE_LIST, now),
            "",
        ),
    ]
    return rows + [
        Standing(
            EDGE_KEYS[info.purpose],
            f"{info.serial:040x}",
            info.not_after,
            days_left(info.not_after, now),
            state_of(info.not_after, info.renew_at, now),
            grouped(info.key_id),
        )
        for info in inventory(directory)
        if info.purpose in EDGE_KEYS
    ]


def is_ca_here(directory: Path) -> bool:
    """Tell whether the authority's key lies here, or is kept elsewhere."""
    return Layout(directory).ca_key.exists()


def partner_standings(directory: Path, now: datetime) -> list[PartnerStanding]:
    """Return the authorities trusted for partners; their leaves are not kept."""
    return [partner_standing(each, now) for each in TrustStore(directory).partners()]


def partner_standing(partner: Partner, now: datetime) -> PartnerStanding:
    """Return how the authority trusted for a partner stands."""
    return PartnerStanding(
        institution=partner.institution,
        not_after=partner.ca.not_valid_after_utc,
        days_left=days_left(partner.ca.not_valid_after_utc, now),
        fingerprint=_fingerprint(partner.ca),
        revoked=partner.revoked,
        retires=partner.retires,
        successor=_fingerprint(partner.link) if partner.link else "",
    )


def _authority(directory: Path, now: datetime) -> Standing:
    ca = read_ca(directory)
    end = ca.not_valid_after_utc
    # The next authority is due while there is time for partners to follow, twice over.
    state = state_of(end, end - 2 * load_profiles().ca_overlap, now)
    return _of_ca(AUTHORITY, ca, end, state, now)


def _former(directory: Path, now: datetime) -> list[Standing]:
    if not Layout(directory).link.exists():
        return []
    rolled = rollover.current(directory)
    state = State.RETIRING if now < rolled.retires else State.EXPIRED
    return [_of_ca(FORMER, rolled.former, rolled.retires, state, now)]


def _of_ca(what: str, ca: x509.Certificate, end: datetime, state: State, now: datetime) -> Standing:
    serial = f"{ca.serial_number:040x}"
    return Standing(what, serial, end, days_left(end, now), state, _fingerprint(ca))


def _list(crl: x509.CertificateRevocationList, now: datetime) -> Standing:
    """Return how the list stands: its end is when partners refuse what depends on it."""
    profiles = load_profiles()
    end = crl.last_update_utc + profiles.crl_limits.refuse_after
    state = state_of(end, crl.last_update_utc + profiles.crl_lifetime / 2, now)
    return Standing(LIST, str(crl_number(crl)), end, days_left(end, now), state, "")


def _fingerprint(ca: x509.Certificate) -> str:
    return grouped(key_id(ca.public_key()))  # type: ignore[arg-type]  # an authority's key is P-256
