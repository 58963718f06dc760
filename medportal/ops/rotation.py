"""Change the tenant key while the portal serves: ``keys rotate`` and ``keys rekey``.

*Rotation* makes a new tenant key and wraps every patient's key under it. *Rekey* answers a theft:
besides, every patient gets another key, and all that was sealed under the old one is sealed anew.
Both end with the older tenant keys gone from the keystore.

How far one is stands in what it changes: in the keystore (more than one version: one is under
way; ``distrusted``: it is a rekey) and in each row (the version that wraps it). So a command that
was killed at any place goes on from there when it is run again, and one that is done finds nothing
left. The older versions go last, and only when

1. nothing is under them any more, counted while every transaction that makes or changes a patient
   key waits, so that none is under way with an older ring;
2. everything opened: what does not is counted, and its tenant key stays. So does the key of a
   patient of whom anything does not open, unless the operator gives that up by name;
3. the new key has been current, and the last row changed, for :data:`SETTLE`, longer than a request
   lasts: whoever sealed a secret of an account under the older key has committed it by then, and
   whoever read a row just before it changed has opened it.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from medportal.audit.append import append
from medportal.audit.events import Action, Event
from medportal.core.clock import Clock, utcnow
from medportal.core.errors import MedportalError
from medportal.identity import totp
from medportal.keys import TenantKeys
from medportal.ops.resealing import Resealed, reseal_patient, reseal_told
from medportal.pki.profiles import Group
from medportal.settings import Settings
from medportal.tenancy.registry import Database
from medportal.tenancy.tenant import Tenant
from medportal.vault import keystore
from medportal.vault.errors import Tampered, UnknownVersion
from medportal.vault.keyring import TenantKeyring
from medportal.vault.passphrase import DEFAULT_COST, Cost
from medportal.vault.service import Vault
from medportal.vault.store import (
    count_by_version,
    count_stale,
    settle_patient_keys,
    stale_patients,
)
from medportal.vault.stores import documents_of

ACTOR = "process:command-line"
#: Longer than any request, and any batch of jobs, lasts.
SETTLE = timedelta(seconds=120)
BATCH = 500
#: Patients who are looked up together.
LAG = 50
_PAUSE_SECONDS = 0.2
ATTEMPTS = 5


class RekeyUnderWay(MedportalError):
    """A theft is being answered: that comes first."""


class DoesNotOpen(MedportalError):
    """Something that no key opens: everything else is changed, and the older keys are kept."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a change is: what is being done, and how many of how many."""

    step: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Changed:
    """What a finished change came to. ``damaged`` counts sealed things that stayed unreadable."""

    version: int
    patients: int
    secrets: int
    damaged: int = 0


@dataclass(frozen=True, slots=True)
class _Patients:
    """What one pass over the patients did.

    ``shut`` counts those whose key does not open; ``kept`` those who keep theirs because
    something of them does not open, ``damaged`` how much that is, or was given up. ``at`` is when
    the last one was changed.
    """

    done: int
    damaged: int = 0
    shut: int = 0
    kept: int = 0
    at: datetime | None = None


Say = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Change:
    """One institution's keys, and how to go about changing them.

    ``settle`` and ``wait`` are for tests and for machines where nothing serves.
    ``give_up_damaged``: a rekey may leave behind what does not open, for ever. ``renew_boxes`` is
    called by a rekey before it can end, and again if it was interrupted, with the same name of
    the run.
    """

    tenant: Tenant
    database: Database
    path: Path
    passphrase: bytes
    say: Say
    clock: Clock = utcnow
    settle: timedelta = SETTLE
    wait: Callable[[float], None] = time.sleep
    cost: Cost = DEFAULT_COST
    batch: int = BATCH
    give_up_damaged: bool = False
    renew_boxes: Callable[[str], None] = lambda _run: None


def change_of(
    settings: Settings,
    tenant: Tenant,
    database: Database,
    say: Say,
    settle: timedelta = SETTLE,
    *,
    give_up_damaged: bool = False,
) -> Change:
    """Return what a change of an institution's keys needs.

    Raises ``ConfigurationError`` where the passphrase file is missing.
    """
    keys = TenantKeys(
        tenant, settings.home(tenant.id), (Group.PORTAL,), settings.secrets(tenant.id)
    )
    passphrase = keys.passphrase(Group.PORTAL)
    return Change(
        tenant,
        database,
        keys.places.keyring,
        passphrase,
        say,
        settle=settle,
        give_up_damaged=give_up_damaged,
    )


def rotate(change: Change) -> Changed:
    """Put a new tenant key in the old one's place; goes on with one that was interrupted.

    Raises ``RekeyUnderWay``, ``DoesNotOpen``, ``KeysBusy``, or what opening the keystore raises.
    """
    with keystore.changing(change.path):
        ring = _load(change)
        if ring.distrusted:
            raise RekeyUnderWay(
                "a rekey was begun and is not finished: run medportal keys rekey first"
            )
        if not ring.older:
            ring = _begin(change, ring.rotated(change.clock()), "rotate")
        vault = Vault(change.tenant.id, ring)
        return _finish(change, vault, ring, "rotate", lambda: _rewrap(change, vault, ring))


def rekey(change: Change) -> Changed:
    """Answer a theft: another tenant key, another key for every patient, everything sealed anew.

    Goes on with one that was interrupted, and takes a rotation along that was. Raises as
    :func:`rotate` does.
    """
    with keystore.changing(change.path):
        ring = _load(change)
        if not ring.distrusted:
            ring = _begin(change, ring.distrusting(change.clock()), "rekey")
        change.renew_boxes(_run_of(ring))
        vault = Vault(change.tenant.id, ring)
        return _finish(change, vault, ring, "rekey", lambda: _rekey_patients(change, vault, ring))


def _run_of(ring: TenantKeyring) -> str:
    """Return what names this rekey and no other: its tenant key, and when that was made."""
    made = ring.made.get(ring.current)
    return f"rekey {ring.current} {made.isoformat() if made else ''}".strip()


def _load(change: Change) -> TenantKeyring:
    return keystore.load(change.path, change.passphrase)


def _begin(change: Change, ring: TenantKeyring, deed: str) -> TenantKeyring:
    """Write the new key down before anything is wrapped under it, and say so in the log."""
    with _writing(change) as session, session.begin():
        append(session, _event(change, deed, "begun", ring, {}))
    keystore.save(change.path, ring, change.passphrase, change.cost)
    return ring


def _rewrap(change: Change, vault: Vault, ring: TenantKeyring) -> _Patients:
    """Wrap every patient's key under the current tenant key."""
    with change.database.reader() as session:
        total = count_stale(session, ring.current)
    done, damaged = 0, 0
    while True:
        before, damaged, after = done, 0, ""
        while True:
            with _writing(change) as session, session.begin():
                batch = vault.rewrap_patient_keys(session, change.batch, after)
            done, damaged = done + batch.done, damaged + batch.damaged
            change.say(Progress("patient keys", done, max(total, done)))
            if batch.last is None:
                break
            after = batch.last
        with change.database.reader() as session:
            left = count_stale(session, ring.current)
        if left <= damaged:
            break
        if done == before:
            # What is left is held by somebody at this moment.
            change.wait(_PAUSE_SECONDS)
    return _Patients(done, shut=damaged, at=change.clock() if done else None)


def _rekey_patients(change: Change, vault: Vault, ring: TenantKeyring) -> _Patients:
    """Give every patient another key, and seal everything of theirs anew."""
    with change.database.reader() as session:
        counted = count_by_version(session)
    total = sum(number for version, number in counted.items() if version <= ring.distrusted)
    done, damaged, shut, kept, after = 0, 0, 0, 0, ""
    outdated = _Outdated(change)
    while True:
        with change.database.reader() as session:
            patients = stale_patients(session, ring.distrusted, LAG, after)
        for patient_id in patients:
            try:
                made = _rekey_patient(change, vault, patient_id)
            except (Tampered, UnknownVersion):
                shut += 1
            except _Harmed as harm:
                kept, damaged = kept + 1, damaged + harm.number
            else:
                if made is not None:
                    done, damaged = done + 1, damaged + made.damaged
                    outdated.add(made.left)
        change.say(Progress("patients", done, max(total, done)))
        if not patients:
            at = change.clock() if done else None
            outdated.finish()
            return _Patients(done, damaged, shut, kept, at)
        outdated.remove()
        after = patients[-1]


class _Harmed(Exception):
    """Takes a patient's transaction back, in which something did not open."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__()


def _rekey_patient(change: Change, vault: Vault, patient_id: str) -> Resealed | None:
    """Give one patient another key, in one transaction; ``None`` where that is done already.

    Two who need the same rows in another order end with the database refusing one of them, which
    is tried again. Raises a ``VaultError`` where the patient's key does not open, ``_Harmed``
    where something sealed under it does not: then the patient keeps the key, for the day on which
    what is missing is brought back.
    """
    for attempt in range(ATTEMPTS):
        try:
            with _writing(change) as session, session.begin():
                rekeying = vault.begin_rekey(session, patient_id)
                if rekeying is None:
                    return None
                made = reseal_patient(session, documents_of(change.tenant, session), rekeying)
                if made.damaged and not change.give_up_damaged:
                    raise _Harmed(made.damaged)
                return made
        except OperationalError:
            if attempt == ATTEMPTS - 1:
                raise
            change.wait(_PAUSE_SECONDS)
    raise AssertionError("unreachable")


class _Outdated:
    """Documents under an old key, which are removed once nobody can be reading them any more.

    Whoever read a row of the index a moment ago still fetches its document: for as long as a
    request may last (``Change.settle``) the old one stays. What a killed command leaves behind,
    ``medportal store sweep`` removes.
    """

    def __init__(self, change: Change) -> None:
        self._change = change
        self._waiting: deque[tuple[datetime, tuple[str, ...]]] = deque()

    def add(self, document_ids: tuple[str, ...]) -> None:
        """Note documents that were replaced at this moment, in a committed transaction."""
        if document_ids:
            self._waiting.append((self._change.clock(), document_ids))

    def remove(self) -> None:
        """Remove those that were replaced long enough ago."""
        ready: list[str] = []
        latest = self._change.clock() - self._change.settle
        while self._waiting and self._waiting[0][0] <= latest:
            ready.extend(self._waiting.popleft()[1])
        if ready:
            with _writing(self._change) as session, session.begin():
                documents_of(self._change.tenant, session).remove(ready)

    def finish(self) -> None:
        """Wait for the last ones, and remove them."""
        self.remove()
        while self._waiting:
            _wait_until(self._change, self._waiting[-1][0] + self._change.settle)
            self.remove()


def _reseal_secrets(change: Change, vault: Vault) -> tuple[int, int]:
    """Seal what lies under the tenant key itself under the current one: how many, and damaged."""
    with _writing(change) as session, session.begin():
        done, damaged = reseal_told(session, vault)
    after = ""
    while True:
        with _writing(change) as session, session.begin():
            batch = totp.reseal(session, vault, after, change.batch)
        done, damaged = done + batch.done, damaged + batch.damaged
        if batch.last is None:
            return done, damaged
        after = batch.last
        change.say(Progress("secrets of accounts", done, done))


def _finish(
    change: Change,
    vault: Vault,
    ring: TenantKeyring,
    deed: str,
    work: Callable[[], _Patients],
) -> Changed:
    """Do the work until nothing is under the older versions, and let them go."""
    patients = damaged = secrets = 0
    while True:
        found = work()
        patients, damaged = patients + found.done, damaged + found.damaged
        if found.shut:
            raise _does_not_open(found.shut, "patient keys")
        if found.kept:
            raise _is_harmed(found)
        _settle(change, ring, found.at)
        # Only now: nobody seals one under an older version any more.
        more, unreadable = _reseal_secrets(change, vault)
        secrets += more
        if unreadable:
            raise _does_not_open(unreadable, "secrets of accounts or held transfers")
        with _writing(change) as session, session.begin():
            settle_patient_keys(session)
            # If one is there, somebody had an older ring in hand a moment ago.
            if count_stale(session, ring.current) == 0:
                numbers = {"patients": patients, "secrets": secrets, "damaged": damaged}
                append(session, _event(change, deed, "finished", ring, numbers))
                # Within the transaction that makes others wait: it fails, or both are done.
                keystore.save(change.path, _slim(ring), change.passphrase, change.cost)
                return Changed(ring.current, patients, secrets, damaged)


def _slim(ring: TenantKeyring) -> TenantKeyring:
    for version in ring.older:
        ring = ring.without(version)
    return ring.trusted()


def _settle(change: Change, ring: TenantKeyring, changed_at: datetime | None) -> None:
    """Wait until the new key has been current for long enough, and what was changed as well.

    Who read a row just before it changed still needs the version that the row names.
    """
    moments = [at for at in (changed_at, ring.made.get(ring.current)) if at is not None]
    if moments:
        _wait_until(change, max(moments) + change.settle)


def _wait_until(change: Change, moment: datetime) -> None:
    total = int(change.settle.total_seconds())
    while (rest := (moment - change.clock()).total_seconds()) > 0:
        waited = max(0, total - int(rest) - 1)
        change.say(Progress("seconds waited for requests under way", waited, total))
        change.wait(min(rest, 10.0))


def _writing(change: Change) -> Session:
    return change.database.writer()


def _event(
    change: Change, deed: str, step: str, ring: TenantKeyring, numbers: dict[str, int]
) -> Event:
    now: datetime = change.clock()
    return Event.create(
        Action.KEYS_ROTATED,
        now=now,
        actor=ACTOR,
        details={"deed": deed, "step": step, "version": ring.current, **numbers},
    )


def _does_not_open(number: int, what: str) -> DoesNotOpen:
    return DoesNotOpen(
        f"{number} {what} do not open under any version of the tenant key: everything else is "
        "changed, and the older versions are kept. Bring these rows back from a backup of the "
        "same database, or restore tenant.keystore if it is older than they are, and run the "
        "command again"
    )


def _is_harmed(found: _Patients) -> DoesNotOpen:
    return DoesNotOpen(
        f"{found.damaged} documents or notes of {found.kept} patients do not open: these patients "
        "keep their keys, every other has a new one, and the older tenant keys are kept. medportal "
        "store status --verify counts the documents; bring them back from a backup and run the "
        "command again. What nothing brings back is lost for ever with --give-up-damaged"
    )
