"""Make, check, prune and restore backups of an institution of this installation."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from medportal.audit.heads import HeadSigner, SignedHead, verify_head
from medportal.audit.maintenance import declare_restore
from medportal.audit.statements import Restore
from medportal.audit.verifier import verify_session
from medportal.backup import checking, making, pruning, restoring
from medportal.backup.checking import Checked
from medportal.backup.container import read_label
from medportal.backup.errors import BackupDamaged, NotSignedHere, TooLong
from medportal.backup.frames import Counts
from medportal.backup.keys import Opener, load_opener, make_key, sealing_key
from medportal.backup.making import Institution, Made, Places
from medportal.backup.restoring import Pair, Restored
from medportal.backup.seals import SUFFIX
from medportal.backup.shelves import SKEW, Owner
from medportal.backup.watching import Wanted, Watched, watch
from medportal.core.errors import ConfigurationError
from medportal.delivery.models import Inbox
from medportal.identity.models import Totp
from medportal.keys import TenantKeys
from medportal.ops.pinned import pinned_head
from medportal.ops.review import Whom, hold_for_review
from medportal.ops.stores import migrate_documents
from medportal.ops.verify_log import CaTrust
from medportal.pki.ca import authorities
from medportal.pki.files import read_file
from medportal.pki.layout import Layout, load_profiles
from medportal.pki.passphrases import read_passphrase
from medportal.pki.profiles import Group, Purpose
from medportal.settings import Settings
from medportal.tenancy.registry import Database
from medportal.tenancy.tenant import Tenant
from medportal.vault import keystore
from medportal.vault.errors import VaultError
from medportal.vault.passphrase import DEFAULT_COST, Cost
from medportal.vault.service import sealed_version


def create_backup_key(
    settings: Settings, tenant: Tenant, away: Path, passphrase: Path, cost: Cost = DEFAULT_COST
) -> None:
    """Make a backup key: into ``away``, and its public half beside the institution's keys.

    Raises ``TargetNotEmpty``, or a ``PkiError`` for an unfit passphrase file.
    """
    home = settings.home(tenant.id)
    authority = read_file(Layout(TenantKeys(tenant, home).places.pki).ca_certificate)
    make_key(home, away, authority, read_passphrase(passphrase), cost)


def create(
    settings: Settings,
    tenant: Tenant,
    database: Database,
    places: Places,
    now: datetime,
    say: Callable[[Counts], None],
) -> Made:
    """Make a backup while everything serves; see :func:`medportal.backup.making.make`."""
    home = settings.home(tenant.id)
    keys = TenantKeys(tenant, home, (Group.JOBS,), settings.secrets(tenant.id))
    signers = [keys.signer(purpose) for purpose in checking.PURPOSES]
    source = Institution(tenant, home, database.engine)
    return making.make(source, sealing_key(home), signers, places, now, say)


def opener(away: Path, passphrase: Path) -> Opener:
    """Return what opens backups, from the directory that was carried away."""
    return load_opener(away, read_passphrase(passphrase))


@dataclass(frozen=True, slots=True)
class Verified:
    """The files that are whole, and a sentence for each thing that is not well."""

    whole: tuple[Checked, ...]
    wrong: tuple[str, ...]


def verify(
    paths: list[Path], with_: Opener, now: datetime, at_most: timedelta | None = None
) -> Verified:
    """Open backup files and read them to their ends; see :mod:`medportal.backup.checking`.

    Of a directory the newest of each institution and part. What was made longer ago than
    ``at_most``, or is of the future, is not well; nor is what the disk does not give back. Raises
    ``NotABackup`` or ``WrongBackupKey`` where nothing can be told.
    """
    whole: list[Checked] = []
    wrong = [f"there is no backup in {each}" for each in paths if _is_bare(each)]
    for path in (file for each in paths for file in _files(each)):
        try:
            found = checking.check(path, with_)
        except (BackupDamaged, NotSignedHere) as error:
            wrong.append(f"{path}: {error}")
            continue
        except OSError as error:
            # A disk that goes bad is what this looks for, and no reason to leave out the others.
            wrong.append(f"{path} cannot be read: {error.strerror or type(error).__name__}")
            continue
        whole.append(found)
        if found.label.made > now + SKEW:
            wrong.append(f"{path} is whole, but of the future: look at the clocks")
        if at_most is not None and now - found.label.made > at_most:
            wrong.append(f"{path} is whole, but too old: see why no other is here")
    return Verified(tuple(whole), tuple(wrong))


def _files(path: Path) -> list[Path]:
    return newest_files(path) if path.is_dir() else [path]


def _is_bare(path: Path) -> bool:
    return path.is_dir() and not newest_files(path)


def newest_files(directory: Path) -> list[Path]:
    """Return the newest backup file of each institution and part.

    Raises ``NotABackup`` for a file that is only called one.
    """
    newest: dict[tuple[str, str], tuple[datetime, Path]] = {}
    for path in sorted(directory.glob(f"[!.]*.{SUFFIX}")):
        with path.open("rb") as file:
            label = read_label(file)
        key = (label.tenant, label.part)
        newest[key] = max(newest.get(key, (label.made, path)), (label.made, path))
    return [path for _, (_, path) in sorted(newest.items())]


def check_sealed(
    settings: Settings,
    tenant: Tenant,
    places: Places,
    now: datetime,
    *,
    at_most: timedelta | None = None,
    every: bool = False,
) -> Watched:
    """Read the newest pair back without the backup key; see :mod:`medportal.backup.watching`."""
    wanted = Wanted(_promised(tenant), at_most, every)
    return watch(places, _owner(settings, tenant), wanted, now)


def prune(
    settings: Settings,
    tenant: Tenant,
    places: Places,
    now: datetime,
    *,
    keep: int,
    keys_days: int | None = None,
) -> pruning.Pruned:
    """Remove the oldest backups; see :mod:`medportal.backup.pruning`.

    Keys files stay for ``keys_days``, if not said for as many as the tenant's file says to people.
    Raises ``TooLong`` for more than these.
    """
    promised = _promised(tenant)
    stay = promised if keys_days is None else timedelta(days=keys_days)
    if stay > promised:
        raise TooLong(
            f"the pages of erasure promise that no keys file is older than {promised.days} days "
            f"(retention.backup_days in the file of {tenant.id}): keep none for longer"
        )
    return pruning.prune(places, _owner(settings, tenant), pruning.Keep(keep, stay), now)


def _promised(tenant: Tenant) -> timedelta:
    """Return how long after an erasure the last keys file from before it is gone."""
    return timedelta(days=tenant.retention.backup_days)


def _owner(settings: Settings, tenant: Tenant) -> Owner:
    places = TenantKeys(tenant, settings.home(tenant.id)).places
    return Owner(tenant.id, authorities(places.pki))


@dataclass(frozen=True, slots=True)
class Lost:
    """What is known of events since the backup: the head that they led to, which a partner or the
    old machine holds, and where to write the signed statement for the partners.
    """

    head: Path
    statement: Path


def restore(
    settings: Settings,
    tenant: Tenant,
    pair: Pair,
    with_: Opener,
    now: datetime,
    *,
    ledger: Path | None = None,
    lost: Lost | None = None,
    whom: Whom = Whom.STAFF,
) -> Restored:
    """Restore a backup into an empty directory and database; nothing may run for this tenant.

    ``whom``: whose accounts are closed until somebody confirms them, see
    :mod:`medportal.ops.review`.

    The audit log has to be whole. With ``lost`` its restore is declared at once; without, the
    log goes on from the backup's last head. Raises a ``BackupError`` or ``MedportalError``.
    """
    said: list[bytes] = []
    shut: list[int | None] = []
    held: list[str] = []

    def settle(session: Session, head: bytes) -> None:
        held.extend(hold_for_review(session, tenant, whom, now))
        session.flush()  # the log is read past the session's memory
        shut.append(_count_shut(settings, tenant, session))
        pinned = pinned_head(settings, tenant)
        if head:
            pinned.write(SignedHead.from_bytes(head))
        trust = CaTrust(with_.authority, load_profiles().crl_limits)
        _require_whole(session, tenant, trust, head)
        if lost is None:
            return
        signed = SignedHead.from_bytes(lost.head.read_bytes())
        gone = verify_head(signed, tenant=tenant.id, trust=trust)
        statement, newest = declare_restore(session, _signer(settings, tenant), gone, now)
        assert isinstance(statement.statement, Restore)  # declare_restore signs no other kind
        pinned.write(newest)
        said.append(statement.to_bytes())

    migrate_documents(tenant)
    engine = Database(tenant).unchecked()
    try:
        target = Institution(tenant, settings.home(tenant.id), engine)
        done = restoring.restore(target, pair, with_, now, settle, ledger)
    finally:
        engine.dispose()
    if lost is not None:
        lost.statement.write_bytes(said[0])
    return replace(done, shut=shut[0], held=len(held))


def _count_shut(settings: Settings, tenant: Tenant, session: Session) -> int | None:
    """Count what lies under a tenant key that the restored keystore has not.

    A later keys file, from after a rotation, opens every record, and nothing that the older data
    kept under the tenant key itself. ``None`` where the keystore's passphrase is not here.
    """
    keys = TenantKeys(
        tenant, settings.home(tenant.id), (Group.PORTAL,), settings.secrets(tenant.id)
    )
    try:
        ring = keystore.load(keys.places.keyring, keys.passphrase(Group.PORTAL))
    except (ConfigurationError, VaultError):
        # Whether the portal opens anything shows when it starts; the restore is whole without it.
        return None
    columns = (Inbox.told, Totp.sealed_secret, Totp.pending_secret)
    return sum(
        1
        for column in columns
        for found in session.scalars(select(column).where(column.is_not(None)))
        if sealed_version(found or b"") not in ring.versions
    )


def _require_whole(session: Session, tenant: Tenant, trust: CaTrust, head: bytes) -> None:
    held = [SignedHead.from_bytes(head)] if head else []
    found = verify_session(session, tenant=tenant.id, trust=trust, held=held).finding
    if found is not None:
        raise BackupDamaged(
            f"the audit log in the backup is not whole: {found.kind} at event {found.sequence}"
        )


def _signer(settings: Settings, tenant: Tenant) -> HeadSigner:
    keys = TenantKeys(tenant, settings.home(tenant.id), (Group.JOBS,), settings.secrets(tenant.id))
    return HeadSigner(
        tenant.id,
        classical=keys.signer(Purpose.HEAD),
        post_quantum=keys.signer(Purpose.HEAD_PQ),
    )
