"""Every key of an institution: what it is for, where it lies, how old it is, how it stands.

Tells about keys, and opens none but the tenant's keystore, of which it shows versions and dates.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from medportal.backup.errors import NoBackupKey
from medportal.backup.keys import public_half, sealing_key
from medportal.core.errors import ConfigurationError
from medportal.erasure.ledger import ledger_path
from medportal.keys import GROUPS, Places, TenantKeys
from medportal.pki.ca import inventory as certified
from medportal.pki.ca import read_ca
from medportal.pki.layout import Layout, load_profiles
from medportal.pki.partners import TrustStore
from medportal.pki.passphrases import passphrase_path
from medportal.pki.profiles import Group, Purpose
from medportal.settings import Settings
from medportal.tenancy.registry import Database
from medportal.tenancy.tenant import Tenant
from medportal.vault import keystore
from medportal.vault.boxes import fingerprint, load_public, retired
from medportal.vault.errors import VaultError
from medportal.vault.store import ages, count_by_version

#: What a certified key does, in a few words; its algorithm stands in docs/keys.md.
PURPOSES = {
    Purpose.WEB: "TLS of the portal",
    Purpose.EDGE: "TLS between edge and portal",
    Purpose.CHANNEL: "TLS with partners",
    Purpose.EXCHANGE: "signs offers and proofs to partners",
    Purpose.RECORD: "signs records",
    Purpose.RECEIPT: "signs receipts",
    Purpose.HEAD: "signs heads of the audit log, and the ledger of erasures",
    Purpose.HEAD_PQ: "signs heads of the audit log, post-quantum",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One key, or keys of one kind. ``days`` is the age; a key that is not there has none.

    ``group`` is empty for the backup key: its passphrase is no group's and is not on the machine.
    """

    key: str
    purpose: str
    group: str
    made: datetime | None
    days: int | None
    until: datetime | None
    number: int
    state: str

    @property
    def row(self) -> dict[str, object]:
        """Return it for the command line: dates as days, nothing as nothing."""
        said = asdict(self)
        for name in ("made", "until"):
            moment = said[name]
            said[name] = moment.date().isoformat() if moment else ""
        said["days"] = "" if self.days is None else self.days
        return said


def inventory(settings: Settings, tenant: Tenant, database: Database, now: datetime) -> list[Line]:
    """Return every key of an institution, by kind; raises nothing for a key that is not there."""
    places = Places(settings.home(tenant.id), settings.credentials)
    keys = TenantKeys(
        tenant, settings.home(tenant.id), (Group.PORTAL,), settings.secrets(tenant.id)
    )
    return [
        *_tenant_keys(keys, now),
        *_patient_keys(database, now),
        *_boxes(places, now),
        *_certified(places, now),
        *_pairs(places, now),
        *_passphrases(places, now),
        *_ledger(places, now),
        *_backup_key(places, now),
    ]


def _tenant_keys(keys: TenantKeys, now: datetime) -> Iterator[Line]:
    words = "wraps the keys of patients and seals secrets of accounts"
    path = keys.places.keyring
    try:
        ring = keystore.load(path, keys.passphrase(Group.PORTAL))
    except ConfigurationError:
        yield _line(
            "tenant key", words, "portal", None, now, "passphrase missing: cannot be opened"
        )
        return
    except VaultError as error:
        yield _line("tenant key", words, "portal", None, now, f"cannot be opened: {error}")
        return
    for version in sorted(ring.versions):
        state = "current" if version == ring.current else "older: run keys rotate to finish"
        if version <= ring.distrusted:
            state = "distrusted: run keys rekey to finish"
        made = ring.made.get(version) or _written(path)
        yield _line(f"tenant key {version}", words, "portal", made, now, state)


def _patient_keys(database: Database, now: datetime) -> Iterator[Line]:
    with database.reader() as session:
        counted = count_by_version(session)
        oldest, _newest, gone = ages(session)
    for version, number in counted.items():
        words = f"seal records and notes of a patient; under tenant key {version}"
        yield _line("patient keys", words, "portal", oldest, now, "in use", number=number)
    if gone:
        words = "are destroyed: what they sealed cannot be read"
        yield _line("patient keys", words, "portal", None, now, "destroyed", number=gone)


def _boxes(places: Places, now: datetime) -> Iterator[Line]:
    for name, group, words in (
        ("inbox", Group.JOBS, "opens what partners handed over"),
        ("outbox", Group.OUTBOX, "opens what waits to be sent"),
    ):
        yield _file(f"{name} key", words, group, places.vault / f"{name}.key", now)
        for path in retired(places.vault, name):
            state = "kept for what is sealed to it: run keys rekey --finish"
            yield _line(f"older {name} key", words, str(group), _written(path), now, state)
        yield _public(name, group, places.vault / f"{name}.pub", now)


def _public(name: str, group: Group, path: Path, now: datetime) -> Line:
    """Return the public half of a box, with what those compare who carry it elsewhere."""
    words = "seals to it; carried to other machines"
    try:
        said = f"fingerprint {fingerprint(load_public(path.parent, name))}"
    except VaultError as error:
        return _line(f"{name}.pub", words, str(group), None, now, f"cannot be used: {error}")
    return _line(f"{name}.pub", words, str(group), _written(path), now, said)


def _certified(places: Places, now: datetime) -> Iterator[Line]:
    layout = Layout(places.pki)
    if layout.ca_certificate.exists():
        ca = read_ca(places.pki)
        state = "in use" if layout.ca_key.exists() else "kept elsewhere"
        until = ca.not_valid_after_utc
        words = "certifies the keys below"
        yield _line("authority", words, "ca", ca.not_valid_before_utc, now, state, until=until)
    else:
        yield _line("authority", "certifies the keys below", "ca", None, now, "missing")
    for info in certified(places.pki):
        state = "in use"
        if info.not_after <= now:
            state = "EXPIRED: medportal pki renew"
        elif info.renew_at <= now:
            state = "due: medportal pki renew"
        yield _line(
            str(info.purpose),
            PURPOSES[info.purpose],
            str(_group(info.purpose)),
            info.not_before,
            now,
            state,
            until=info.not_after,
        )


def _group(purpose: Purpose) -> Group:
    return load_profiles()[purpose].group


def _pairs(places: Places, now: datetime) -> Iterator[Line]:
    words = "pseudonyms of patients, with each partner another"
    yield _file("pair key", words, Group.PAIR, Layout(places.pki).pair, now)
    trusted = [p for p in TrustStore(places.pki).partners() if not p.revoked]
    if trusted:
        words = "derived from ours and the partner's share"
        yield _line("keys of pairs", words, "pair", None, now, "derived", number=len(trusted))


def _passphrases(places: Places, now: datetime) -> Iterator[Line]:
    for group in GROUPS:
        path = passphrase_path(places.secrets, group)
        words = f"opens the keys of group {group}"
        yield _file(f"{group}.passphrase", words, group, path, now)


def _ledger(places: Places, now: datetime) -> Iterator[Line]:
    path = ledger_path(places.pki)
    words = "names who was erased, for restores"
    if path.exists():
        yield _file("ledger of erasures", words, Group.JOBS, path, now)


def _backup_key(places: Places, now: datetime) -> Iterator[Line]:
    """Give the public half that lies here; the private one is where nobody on this host gets."""
    home = places.home
    words = "seals backups; what opens them is kept elsewhere"
    try:
        sealing_key(home)
    except NoBackupKey:
        yield _line("backup key", words, "", None, now, "missing: run medportal backup key")
    except VaultError as error:
        yield _line("backup key", words, "", None, now, f"cannot be used: {error}")
    else:
        yield _line("backup key", words, "", _written(public_half(home)), now, "in use")


def _file(name: str, words: str, group: Group, path: Path, now: datetime) -> Line:
    if not path.exists():
        return _line(name, words, str(group), None, now, "missing")
    state = "in use"
    if path.stat().st_mode & 0o077:
        state = "OPEN TO OTHERS: chmod 600 it"
    return _line(name, words, str(group), _written(path), now, state)


def _written(path: Path) -> datetime:
    """Return when a file was last written: the best that is known of a key without a date."""
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def _line(
    key: str,
    purpose: str,
    group: str,
    made: datetime | None,
    now: datetime,
    state: str,
    *,
    until: datetime | None = None,
    number: int = 1,
) -> Line:
    days = None if made is None else max(0, (now - made).days)
    return Line(key, purpose, group, made, days, until, number, state)
