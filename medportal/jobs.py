"""``medportal jobs``: what an institution's backend does by itself, in one loop.

Each turn: file what the receiver accepted, number and sign audit events, send mail; now and
then: tell of new results, and of critical ones that nobody noted in time; renew the revocation
list, forget stale sessions, throttles and mails. Each step is a transaction of its own, and a
step that fails is logged and tried again: one that cannot run shall not stop the others.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import structlog
from sqlalchemy.orm import Session

from medportal.access.partner_rules import turned_event
from medportal.admin import approvals
from medportal.audit.append import append
from medportal.audit.events import Action, Event, Outcome
from medportal.audit.heads import Head, HeadSigner
from medportal.audit.sequence import sequence
from medportal.audit.store import has_unsequenced
from medportal.core.clock import Clock, utcnow
from medportal.core.ids import new_id
from medportal.core.reasons import Reason
from medportal.delivery import blocks, lists, outbox, traffic
from medportal.delivery.held import has_untold
from medportal.delivery.inbox import drop_declined, has_pending
from medportal.erasure import service as erasures
from medportal.erasure.errors import NotGrounded, NotYetProven, StillToBeKept
from medportal.erasure.ledger import Entry, ledger_path
from medportal.identity import email_change, throttle
from medportal.identity.codes import forget_old_halves
from medportal.identity.links import mint
from medportal.identity.passkeys import forget_stale_challenges
from medportal.identity.sessions import forget_stale_sessions
from medportal.keys import TenantKeys
from medportal.mail.outbox import has_due, keep_house
from medportal.mail.sending import Sender, send_due
from medportal.ops import certificates
from medportal.ops.institution import renew_crl
from medportal.ops.pinned import PinMissing, pinned_head
from medportal.ops.stores import Stores
from medportal.ops.verify_log import CRL_LIMITS
from medportal.patients import partner_index
from medportal.patients.pseudonyms import PartnerKey
from medportal.patients.service import build_partner_index
from medportal.pki.profiles import Group, Purpose
from medportal.records import news
from medportal.records.intake import take_in
from medportal.results import held, telling
from medportal.settings import Settings
from medportal.tenancy.effective import EffectiveTenant
from medportal.tenancy.registry import Database
from medportal.tenancy.tenant import Tenant
from medportal.vault.documents import DocumentStore
from medportal.vault.stores import documents_of
from medportal.web.errors import kinds, places

log = structlog.get_logger()
PAUSE_SECONDS = 0.25
ACTOR = "process:jobs"
#: Jobs file records (portal), open the inbox and sign heads (jobs), index patients (pair).
JOBS_GROUPS = (Group.PORTAL, Group.JOBS, Group.PAIR)
HOUSEKEEPING = timedelta(minutes=5)
SWEEP = timedelta(days=1)
#: After a failure a step waits this long, doubled each time up to the last value.
FIRST_WAIT = timedelta(seconds=1)
LONGEST_WAIT = timedelta(minutes=1)


@dataclass(slots=True)
class _Step:
    """One thing to do: ``run`` returns whether there may be more at once."""

    name: str
    run: Callable[[datetime], bool]
    every: timedelta = timedelta(0)
    next_at: datetime | None = None
    failures: int = field(default=0)


class Jobs:
    """The loop of one tenant."""

    def __init__(self, settings: Settings, tenant: Tenant, database: Database) -> None:
        self._settings = settings
        self._effective = EffectiveTenant(tenant, database.reader)
        self._database = database
        self._keys = TenantKeys(
            tenant, settings.home(tenant.id), JOBS_GROUPS, settings.secrets(tenant.id)
        )
        self._pinned = pinned_head(settings, tenant)
        self._steps = [
            _Step("intake", self._take_in),
            _Step("audit", self._sequence),
            _Step("partner-index", self._build_indexes, every=timedelta(seconds=2)),
            _Step("patient-rules", self._apply_rules, every=timedelta(seconds=2)),
            _Step("results", self._tell_results, every=timedelta(seconds=2)),
            _Step("waiting-results", self._escalate_results, every=timedelta(seconds=30)),
            _Step("held-results", self._prepare_held, every=timedelta(seconds=2)),
            _Step("erasures", self._erase, every=timedelta(seconds=2)),
            _Step("email-changes", self._change_emails, every=timedelta(minutes=1)),
            _Step("traffic", self._count_traffic, every=timedelta(minutes=1)),
            _Step("certificates", self._certificates, every=HOUSEKEEPING),
            _Step("edge", self._edge_keys, every=HOUSEKEEPING),
            _Step("housekeeping", self._housekeeping, every=HOUSEKEEPING),
            _Step("documents", self._sweep, every=SWEEP),
        ]
        self._mailing = [_Step("mail", self._mail)]
        self._sender_id = new_id()
        self._stores = Stores(tenant, database)
        self._swept_to = ""
        self._stop = threading.Event()

    @property
    def _tenant(self) -> Tenant:
        """The institution with what its admins changed: names in mails, lifetimes of sessions."""
        return self._effective.current()

    def require_keys(self) -> None:
        """Raise ``ConfigurationError`` unless the keys that the steps need open."""
        self._keys.require()

    def run(self, stop: threading.Event, clock: Clock = utcnow) -> None:
        """Work until told to stop.

        Mail has a thread of its own: its server may take its time, and what is audited shall
        not wait for that.
        """
        self._stop = stop
        mailing = threading.Thread(target=self._loop, args=(self._mailing, clock))
        mailing.start()
        self._loop(self._steps, clock)
        mailing.join()

    def _loop(self, steps: list[_Step], clock: Clock) -> None:
        while not self._stop.is_set():
            if not self._turn(steps, clock()):
                self._stop.wait(PAUSE_SECONDS)

    def turn(self, now: datetime) -> bool:
        """Do what is due; return whether there may be more at once."""
        return self._turn([*self._steps, *self._mailing], now)

    def _turn(self, steps: list[_Step], now: datetime) -> bool:
        # Every step gets its turn: any() over a generator would stop at the first that did work.
        results = [self._attempt(step, now) for step in steps]
        return any(results)

    def _attempt(self, step: _Step, now: datetime) -> bool:
        if step.next_at is not None and now < step.next_at:
            return False
        try:
            more = step.run(now)
        except Exception as error:  # The loop is the last resort: it logs, waits and goes on.
            step.failures += 1
            wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(step.failures - 1, 10))
            step.next_at = now + wait
            log.error(
                "job failed",
                tenant=self._tenant.id,
                job=step.name,
                kinds=kinds(error),
                places=places(error),
                failures=step.failures,
            )
            return False
        step.failures = 0
        # Where there is more, the next batch does not wait for the next time.
        step.next_at = now + step.every if step.every and not more else None
        return more

    def _take_in(self, now: datetime) -> bool:
        with self._database.reader() as session:
            if not has_pending(session, now):
                return False
        with self._database.writer() as session, session.begin():
            done = take_in(session, self._documents, self._keys, now)
        return done.filed + done.set_aside > 0

    def _sequence(self, now: datetime) -> bool:
        # Looked at on a snapshot first: an idle loop shall take no write lock and read no key.
        with self._database.reader() as session:
            if not has_unsequenced(session):
                return False
        signer = self._head_signer(now)
        with self._database.writer() as session, session.begin():
            pinned = self._pinned_head(session, signer, now)
            signed = sequence(session, signer, now, pinned=pinned)
        if signed is not None:
            self._pinned.write(signed)
        return signed is not None

    def _head_signer(self, now: datetime) -> HeadSigner:
        """Return who signs heads. Raises a ``PkiError`` where nobody could verify them."""
        signers = [self._keys.signer(purpose) for purpose in (Purpose.HEAD, Purpose.HEAD_PQ)]
        for each in signers:
            each.check_begun(now, CRL_LIMITS.skew)
        return HeadSigner(self._tenant.id, classical=signers[0], post_quantum=signers[1])

    def _pinned_head(self, session: Session, signer: HeadSigner, now: datetime) -> Head:
        try:
            return self._pinned.begin(session, signer, now)
        except PinMissing as error:
            log.error("pinned head is missing", tenant=self._tenant.id, to_do=str(error))
            raise

    def _build_indexes(self, now: datetime) -> bool:
        """Build the index of a partner that was trusted since, or whose index fell behind."""
        with self._database.reader() as session:
            due = [
                key
                for key in self._keys.partner_keys()
                if not partner_index.is_complete(session, key.partner, key.key_id)
            ]
        for key in due:
            self._build_index(key, now)
        return False

    def _build_index(self, key: PartnerKey, now: datetime) -> None:
        with self._writing() as session, session.begin():
            build = partner_index.begin_index(session, key)
        after: str | None = ""
        while after is not None:
            with self._writing() as session, session.begin():
                after = build_partner_index(session, build, after)
        with self._writing() as session, session.begin():
            partner_index.finish_index(session, build, now)

    def _apply_rules(self, now: datetime) -> bool:
        """Withhold and set free what patients' rules say, as they begin and run out.

        A rule that is made or ended now acts in its own transaction; this is for those with a
        date, and for what was on its way at that moment.
        """
        with self._database.reader() as session:
            if not (blocks.has_expired(session, now) or outbox.has_turned(session, now)):
                return False
        with self._database.writer() as session, session.begin():
            for rule_id, patient_id, partner in blocks.forget_expired(session, now):
                append(session, _rule_ran_out(rule_id, patient_id, partner, now))
            for turned in outbox.withhold_stopped(session, now):
                append(session, turned_event(turned, Action.DELIVERY_WITHHELD, now, ACTOR))
            for turned in outbox.lift_freed(session, now):
                append(session, turned_event(turned, Action.DELIVERY_RELEASED, now, ACTOR))
        return False

    def _tell_results(self, now: datetime) -> bool:
        """Post mails about what was filed since, to those who may read it."""
        with self._database.reader() as session:
            if not news.has_untold(session):
                return False
        with self._database.writer() as session, session.begin():
            return telling.tell(session, self._house, now) == telling.BATCH

    def _escalate_results(self, now: datetime) -> bool:
        """Tell the team of critical results that nobody has noted in time."""
        by = now - self._tenant.results.critical_within
        with self._database.reader() as session:
            if not news.has_overdue(session, by):
                return False
        with self._database.writer() as session, session.begin():
            return telling.escalate(session, self._house, now) == telling.BATCH

    def _prepare_held(self, now: datetime) -> bool:
        """Let those who decide about results that were held back see who they are about."""
        with self._database.reader() as session:
            if not has_untold(session):
                return False
        with self._database.writer() as session, session.begin():
            return held.prepare(session, self._keys) == held.BATCH

    @property
    def _house(self) -> telling.House:
        return telling.House(self._tenant, self._keys.vault)

    def _erase(self, now: datetime) -> bool:
        """Carry out the erasures to which a second person agreed, each in its own transaction."""
        with self._database.reader() as session:
            if not erasures.has_agreed(session):
                return False
            agreed = erasures.agreed(session)
        signer = self._keys.signer(Purpose.HEAD)
        ledger = ledger_path(self._keys.places.pki)
        for shown in agreed:
            with self._database.writer() as session, session.begin():
                documents = self._documents(session)
                try:
                    entry = erasures.carry_out(
                        session, self._tenant, documents, signer, ledger, shown, now
                    )
                except NotYetProven:
                    continue
                except (NotGrounded, StillToBeKept) as error:
                    erasures.stop(session, shown, now)
                    append(session, _not_erased(shown, error, now))
                else:
                    append(session, _erased(entry, now))
        return False

    def _change_emails(self, now: datetime) -> bool:
        """Carry out changes of addresses that staff asked for and nobody objected to in time."""
        with self._database.reader() as session:
            if not email_change.has_due(session, now):
                return False
        with self._database.writer() as session, session.begin():
            for changed in email_change.apply_due(session, now):
                append(session, _email_changed(changed, now))
        return False

    def _count_traffic(self, now: datetime) -> bool:
        """Count what was carried since, for the pictures on the page of partners."""
        with self._database.reader() as session:
            if not traffic.has_uncounted(session, now):
                return False
        with self._database.writer() as session, session.begin():
            return traffic.count(session, now)

    def _mail(self, now: datetime) -> bool:
        with self._database.reader() as session:
            if not has_due(session, now):
                return False
        sender = Sender(self._sender_id, self._tenant, mint, self._transaction)
        return send_due(sender, now, is_stopping=self._stop.is_set)

    @contextmanager
    def _transaction(self) -> Iterator[Session]:
        with self._database.writer() as session, session.begin():
            yield session

    def _documents(self, session: Session) -> DocumentStore:
        return documents_of(self._tenant, session)

    def _writing(self) -> Session:
        return self._database.writer()

    def _certificates(self, now: datetime) -> bool:
        """Renew certificates and the revocation list, or warn admins where that is not possible."""
        for each in certificates.renew_due(self._settings, self._tenant, now):
            log.info("certificate renewed", tenant=self._tenant.id, purpose=str(each.purpose))
            with self._database.writer() as session, session.begin():
                append(session, certificates.issued(each, ACTOR, now))
        if certificates.retire_former(self._settings, self._tenant, now):
            log.info("former authority retired", tenant=self._tenant.id)
        if renew_crl(self._settings, self._tenant, now):
            log.info("revocation list renewed", tenant=self._tenant.id)
        directory = self._keys.places.pki
        self._post_lists(directory, now)
        due = certificates.warning_due(directory, now, self._keys.places.edge)
        if due is not None:
            log.warning(
                "certificate ends",
                tenant=self._tenant.id,
                days=due.days,
                to_do=f"medportal pki status {self._tenant.id}",
            )
            with self._database.writer() as session, session.begin():
                certificates.warn_admins(session, self._tenant, due, now)
            certificates.remember_warning(directory, due)
        return False

    def _edge_keys(self, now: datetime) -> bool:
        """Renew what is between edge and portal; a step of its own, so that lists never wait."""
        renewed, ready = certificates.renew_edge_due(self._settings, self._tenant, now)
        for each in renewed:
            log.info("edge certificate renewed", tenant=self._tenant.id, purpose=str(each.purpose))
            with self._database.writer() as session, session.begin():
                append(session, certificates.issued(each, ACTOR, now))
        if ready:
            log.info("files for the edge laid ready", tenant=self._tenant.id, files=ready)
        return False

    def _post_lists(self, directory: Path, now: datetime) -> None:
        with self._database.reader() as session:
            if not lists.unposted(session, directory):
                return
        with self._database.writer() as session, session.begin():
            lists.post(session, directory, now)

    def _housekeeping(self, now: datetime) -> bool:
        with self._database.writer() as session, session.begin():
            forget_stale_sessions(session, self._tenant, now)
            throttle.forget_old(session, now)
            forget_stale_challenges(session, now)
            forget_old_halves(session, now)
            email_change.forget_old_changes(session, now)
            approvals.expire(session, now)
            drop_declined(session, now - held.UNDONE_WITHIN)
            traffic.forget_old(session, now)
            keep_house(session, now, has_server=self._tenant.mail is not None)
        return False

    def _sweep(self, now: datetime) -> bool:
        """Sweep one batch of the store in use, and come again at once if there is another."""
        kind = self._tenant.documents.store
        _, after = self._stores.sweep_part(kind, self._swept_to, now, ACTOR)
        self._swept_to = after or ""
        return after is not None


def _rule_ran_out(rule_id: str, patient_id: str, partner: str, now: datetime) -> Event:
    return Event.create(
        Action.RULE_ENDED,
        now=now,
        actor=ACTOR,
        patient=patient_id,
        object=rule_id,
        reasons=[Reason.EXPIRED],
        details={"partner": partner},
    )


def _erased(entry: Entry, now: datetime) -> Event:
    return Event.create(
        Action.PATIENT_KEY_DESTROYED,
        now=now,
        actor=ACTOR,
        patient=entry.patient_id,
        object=entry.erasure_id,
        reasons=[Reason.APPROVED_BY_SECOND_PERSON],
    )


def _not_erased(shown: erasures.Shown, error: NotGrounded | StillToBeKept, now: datetime) -> Event:
    is_kept = isinstance(error, StillToBeKept)
    return Event.create(
        Action.PATIENT_KEY_DESTROYED,
        Outcome.FAILED,
        now=now,
        actor=ACTOR,
        patient=shown.patient_id,
        object=shown.id,
        reasons=[Reason.KEPT_BY_DUTY if is_kept else Reason.SECOND_PERSON_NEEDED],
    )


def _email_changed(changed: email_change.Changed, now: datetime) -> Event:
    return Event.create(
        Action.EMAIL_CHANGED,
        now=now,
        actor=ACTOR,
        object=changed.person_id,
        reasons=[Reason.APPROVED_BY_SECOND_PERSON],
        details={"change": changed.id},
    )
