"""Check, export and maintain the audit log of an institution, its own authority as the anchor."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

from medportal.audit.append import append
from medportal.audit.errors import LogDamaged, MalformedHead
from medportal.audit.events import COMMAND_LINE, Action, Event
from medportal.audit.heads import Head, HeadSigner, SignedHead, verify_head
from medportal.audit.maintenance import declare_restore, prune, sign_all
from medportal.audit.sequence import lock
from medportal.audit.statements import Checkpoint, Restore, SignedStatement, verify_statement
from medportal.audit.verifier import export_lines, latest_head, verify_session
from medportal.core.errors import MedportalError
from medportal.delivery.conflicts import settle
from medportal.delivery.receipts import HeldHead, fall_back, held_head, renew_epoch
from medportal.keys import TenantKeys
from medportal.ops.pinned import pinned_head
from medportal.ops.verify_log import CaTrust, Result, verify_file
from medportal.pki.layout import load_profiles
from medportal.pki.profiles import Group, Purpose
from medportal.settings import Settings
from medportal.tenancy.registry import Database
from medportal.tenancy.tenant import Tenant

#: No event younger than this is forgotten, whoever asks for it.
YOUNGEST_FORGOTTEN = timedelta(days=365)


class TooYoung(MedportalError):
    """Events of the last year are not forgotten."""


class NothingHeld(MedportalError):
    """There is no such head."""


class PinThere(MedportalError):
    """The last head is remembered beside the database."""


class NotThatRestore(MedportalError):
    """A restore that does not account for the head held of a partner."""


def verify_tenant_log(
    settings: Settings, tenant: Tenant, database: Database, heads: Iterable[Path] = ()
) -> Result:
    """Check an institution's stored log from its first event to its last head.

    ``heads`` are files with heads that somebody else kept.
    """
    held = [SignedHead.from_bytes(path.read_bytes()) for path in heads]
    trust = _trust(settings, tenant)
    with database.reader() as session:
        report = verify_session(session, tenant=tenant.id, trust=trust, held=held)
    return Result(report, tenant.id)


def verify_exported_log(file: Path, authority: Path, heads: Iterable[Path] = ()) -> Result:
    """Check an exported log; see :func:`medportal.ops.verify_log.verify_file`."""
    return verify_file(file, authority, heads)


def export_tenant_log(tenant: Tenant, database: Database, output: Path) -> int:
    """Write the log as JSON Lines; return how many."""
    count = 0
    with database.reader() as session, output.open("w", encoding="utf-8", newline="\n") as file:
        for line in export_lines(session, tenant.id):
            file.write(line + "\n")
            count += 1
    return count


def export_head(database: Database, output: Path, partner: str = "") -> Head:
    """Write the newest own head, or the one held of a partner, to a file.

    Raises ``NothingHeld``, also where only a restored partner's word is held until it shows a head.
    """
    with database.reader() as session:
        if partner:
            held = held_head(session, partner)
            signed = held and _head_of(held)
        else:
            signed = latest_head(session)
    if not signed:
        raise NothingHeld("there is no head yet")
    output.write_bytes(signed.to_bytes())
    return signed.head


@dataclass(frozen=True, slots=True)
class Accepted:
    """A restore that was declared: what was kept and lost."""

    restore: Restore
    head: Head


def accept_restore(
    settings: Settings,
    tenant: Tenant,
    database: Database,
    now: datetime,
    *,
    head: Path | None = None,
    kept: int | None = None,
    output: Path | None = None,
) -> Accepted:
    """Declare that the database was restored from a backup, and let the log go on from there.

    The lost part led to the head that is pinned beside the database, or to the one in the file
    ``head``, if the pin was restored too. What is there must be whole. The signed statement is
    written to ``output`` for the partners. Partners are told of a new storage epoch, so that
    what they sent since the backup is sent again.

    Raises ``NothingHeld`` without a head, ``NothingLost``, ``LogDamaged``, ``ValueError``.
    """
    pinned = pinned_head(settings, tenant)
    trust = _trust(settings, tenant)
    lost = pinned.read()
    if head is not None:
        signed = SignedHead.from_bytes(head.read_bytes())
        lost = verify_head(signed, tenant=tenant.id, trust=trust)
    if lost is None or not lost.size:
        raise NothingHeld("no head is remembered here: name the file of one that a partner holds")
    _require_whole(settings, tenant, database)
    signer = _signer(settings, tenant)
    with database.writer() as session, session.begin():
        said, newest = declare_restore(session, signer, lost, now, kept)
        renew_epoch(session, now)
    pinned.write(newest)
    if output is not None:
        output.write_bytes(said.to_bytes())
    assert isinstance(said.statement, Restore)  # declare_restore signs no other kind
    return Accepted(said.statement, newest.head)


def accept_partner_restore(
    settings: Settings, tenant: Tenant, database: Database, file: Path, now: datetime
) -> Restore:
    """Believe a partner's signed statement that it was restored.

    Its next head has to continue what was held of it within the part that it kept. The head held
    until now stays as evidence, with the day on which it was settled. Raises ``NotThatRestore``
    if the statement does not account for that head, ``BadSignature`` or a ``PkiError`` for one
    that the partner did not sign.
    """
    signed = SignedStatement.from_bytes(file.read_bytes())
    partner = signed.statement.tenant
    trusted = TenantKeys(
        tenant, settings.home(tenant.id), secrets=settings.secrets(tenant.id)
    ).trusted
    trust = CaTrust(trusted.get(partner).authorities, load_profiles().crl_limits)
    said = verify_statement(signed, tenant=partner, trust=trust)
    with database.writer() as session, session.begin():
        held = held_head(session, partner)
        if not isinstance(said, Restore) or held is None or not _accounts(said, held):
            raise NotThatRestore("the statement does not account for the head held here")
        settle(session, partner, now)
        kept = HeldHead(said.kept, said.kept_root, signed.to_bytes())
        since = fall_back(session, partner, kept, now)
        details: dict[str, str | int] = {
            "partner": partner,
            "kept": said.kept,
            "root": held.root.hex(),
            "continues": since.size if since else 0,
        }
        append(session, Event.create(Action.RESTORED, now=now, actor=COMMAND_LINE, details=details))
    return said


def _accounts(said: Restore, held: HeldHead) -> bool:
    head = _head_of(held)
    at = head.head.at if head else said.at
    return said.explains(Head(said.tenant, held.size, held.root, at))


def _head_of(held: HeldHead) -> SignedHead | None:
    """Return the signed head, ``None`` if what is held is what a restored partner said it kept."""
    try:
        return SignedHead.from_bytes(held.body)
    except MalformedHead:
        return None


def prune_log(
    settings: Settings, tenant: Tenant, database: Database, before: date, now: datetime
) -> Checkpoint:
    """Forget the words of events before a day, under a signed checkpoint.

    Raises ``TooYoung`` for a day within the last year, ``NothingToPrune``, ``LogDamaged``.
    """
    moment = datetime.combine(before, time(), UTC)
    if moment > now - YOUNGEST_FORGOTTEN:
        raise TooYoung("events of the last 365 days are kept: name an earlier day")
    pinned = pinned_head(settings, tenant)
    with database.reader() as session:
        remembered = pinned.require(session)
    _require_whole(settings, tenant, database, [remembered] if remembered else [])
    signer = _signer(settings, tenant)
    with database.writer() as session, session.begin():
        checkpoint, newest = prune(session, signer, moment, now)
    pinned.write(newest)
    return checkpoint


def pin_head(
    settings: Settings,
    tenant: Tenant,
    database: Database,
    now: datetime,
    heads: Iterable[Path] = (),
) -> Head:
    """Remember the log's last head beside the database again, after the file was lost.

    ``heads`` are files with heads that partners hold. The log has to be whole, with all of them,
    and tells of this in an event. Raises ``PinThere`` if a head is remembered, ``NothingHeld`` for
    a log without heads, ``LogDamaged``.
    """
    pinned = pinned_head(settings, tenant)
    if pinned.signed() is not None:
        raise PinThere("a head is remembered already: there is nothing to declare")
    held = [SignedHead.from_bytes(path.read_bytes()) for path in heads]
    _require_whole(settings, tenant, database, held)
    signer = _signer(settings, tenant)
    with database.writer() as session, session.begin():
        lock(session)
        last = latest_head(session)
        if last is None:
            raise NothingHeld("the log has no head yet: jobs begins it")
        details: dict[str, str | int] = {"pinned": last.head.size, "heads": len(held)}
        append(session, Event.create(Action.RESTORED, now=now, actor=COMMAND_LINE, details=details))
        newest = sign_all(session, signer, now)
    pinned.write(newest)
    return newest.head


def _require_whole(
    settings: Settings, tenant: Tenant, database: Database, held: Sequence[SignedHead] = ()
) -> None:
    """Raise ``LogDamaged`` unless everything that is there fits; what is signed is believed."""
    trust = _trust(settings, tenant)
    with database.reader() as session:
        report = verify_session(session, tenant=tenant.id, trust=trust, held=held)
    found = report.finding
    if found is not None:
        raise LogDamaged(f"the log is not whole: {found.kind} at event {found.sequence}")


def _trust(settings: Settings, tenant: Tenant) -> CaTrust:
    known = TenantKeys(
        tenant, settings.home(tenant.id), secrets=settings.secrets(tenant.id)
    ).keystore.authorities
    return CaTrust(known, load_profiles().crl_limits)


def _signer(settings: Settings, tenant: Tenant) -> HeadSigner:
    groups: Sequence[Group] = (Group.JOBS,)
    keys = TenantKeys(tenant, settings.home(tenant.id), groups, settings.secrets(tenant.id))
    return HeadSigner(
        tenant.id,
        classical=keys.signer(Purpose.HEAD),
        post_quantum=keys.signer(Purpose.HEAD_PQ),
    )
