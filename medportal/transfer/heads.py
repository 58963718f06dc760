"""What the stores of sender and receiver have in common: transactions, and heads of logs.

What a partner states of its log is verified before it is kept.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

import structlog
from cryptography import x509
from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session

from medportal.audit import verifier
from medportal.audit.append import append
from medportal.audit.errors import AuditError
from medportal.audit.events import Action, Event
from medportal.audit.events import Outcome as AuditOutcome
from medportal.audit.heads import Credential, Head, SignedHead, check_extends, verify_head
from medportal.delivery import receipts
from medportal.delivery.conflicts import note_conflict
from medportal.delivery.errors import HeadWentBack
from medportal.keys import TenantKeys
from medportal.pki.errors import PkiError
from medportal.pki.partners import remember_crl
from medportal.pki.profiles import Purpose
from medportal.pki.verify import verify_leaf
from medportal.tenancy.engines import reading
from medportal.transfer.messages import HeldHead
from medportal.transfer.ports import OwnHead

log = structlog.get_logger()


class HeadStore:
    """What sender and receiver have in common: transactions, and heads of logs."""

    def __init__(self, engine: Engine, keys: TenantKeys) -> None:
        """Use a tenant's engine and the keys of this process."""
        self._engine, self._keys = engine, keys
        self._reader = reading(engine)
        self._asker = self._reader
        if engine.dialect.name == "postgresql":
            # A statement sees one moment by itself. (SQLite's driver has its own meaning of this.)
            self._asker = engine.execution_options(isolation_level="AUTOCOMMIT")

    @contextmanager
    def _transaction(self) -> Iterator[Session]:
        with Session(self._engine) as session, session.begin():
            yield session

    @contextmanager
    def _reading(self) -> Iterator[Session]:
        with Session(self._reader) as session, session.begin():
            yield session

    @contextmanager
    def _asking(self) -> Iterator[Connection]:
        """Give a connection for a single question, which sees one moment by itself.

        It is asked several times a second: a session and a transaction would cost more than it.
        """
        with self._asker.connect() as connection:
            yield connection

    @property
    def _institution(self) -> str:
        return self._keys.tenant.id

    def _held(self, session: Session, partner: str) -> HeldHead | None:
        held = receipts.held_head(session, partner)
        return HeldHead(held.size, held.root) if held else None

    def _own_head(self, session: Session, held: HeldHead | None) -> OwnHead:
        """Return our newest head, and the proof that it continues what the partner holds.

        A partner that holds more than we have gets our head without proof: it will see that our
        log became shorter, which is for its people to ask about.
        """
        signed = verifier.latest_head(session)
        if signed is None:
            return OwnHead()
        size = signed.head.size
        if held is None or held.size > size:
            return OwnHead(signed.to_bytes())
        proof = verifier.consistency_proof(session, held.size, size)
        return OwnHead(signed.to_bytes(), tuple(proof))

    def peer_head(
        self,
        partner: str,
        head: bytes | None,
        proof: Sequence[bytes],
        since: HeldHead | None,
        now: datetime,
    ) -> bool:
        """Verify and keep a partner's head; audit one that does not continue what we hold.

        ``head`` is ``None`` if the partner shows none: good as long as it never showed one.
        A signed head that contradicts a signed head is kept beside it, as evidence.
        """
        try:
            with self._transaction() as session:
                self._take_head(session, partner, head, proof, since, now)
        except (AuditError, PkiError, HeadWentBack) as error:
            log.error("partner's log head refused", partner=partner, kind=type(error).__name__)
            self._note_refusal(partner, head, proof, since, type(error).__name__, now)
            return False
        return True

    def _take_head(
        self,
        session: Session,
        partner: str,
        body: bytes | None,
        proof: Sequence[bytes],
        since: HeldHead | None,
        now: datetime,
    ) -> None:
        if body is None:
            if receipts.held_head(session, partner) is not None:
                raise HeadWentBack("a partner that had a log shows none")
            return
        head = verify_head(SignedHead.from_bytes(body), tenant=partner, trust=self._trust_head)
        before = None
        if since is not None:
            check_extends(Head(partner, since.size, since.root, now), head, proof)
            before = receipts.HeldHead(since.size, since.root, b"")
        new = receipts.HeldHead(head.size, head.root, body)
        receipts.hold_head(session, partner, new, before, now)

    def _note_refusal(
        self,
        partner: str,
        body: bytes | None,
        proof: Sequence[bytes],
        since: HeldHead | None,
        kind: str,
        now: datetime,
    ) -> None:
        """Audit that a head was refused, and keep it if its signatures make it evidence."""
        with self._transaction() as session:
            held = receipts.held_head(session, partner)
            is_new = False
            # What was proved from another head than the one held now says nothing about this one.
            if held is not None and since == HeldHead(held.size, held.root):
                with suppress(AuditError, PkiError):
                    shown = self._evidence(partner, body)
                    is_new = note_conflict(session, partner, held, shown, proof, now)
            append(session, _head_refused(partner, kind, is_new, now))

    def _evidence(self, partner: str, body: bytes | None) -> receipts.HeldHead | None:
        """Return a head that was shown, its signatures verified."""
        if body is None:
            return None
        head = verify_head(SignedHead.from_bytes(body), tenant=partner, trust=self._trust_head)
        return receipts.HeldHead(head.size, head.root, body)

    def _trust_head(
        self, credential: Credential, *, algorithm: str, tenant: str, at: datetime
    ) -> Any:
        purpose = Purpose.HEAD if algorithm == "Ed25519" else Purpose.HEAD_PQ
        leaf = verify_leaf(
            credential.chain,
            ca=self._keys.trusted.get(tenant).authorities,
            crl_der=credential.crl,
            purpose=purpose,
            institution=tenant,
            now=at,
            crl_limits=self._keys.crl_limits,
        )
        return leaf.public_key

    def remember_crl(
        self, partner: str, crl: bytes, link: x509.Certificate | None, now: datetime
    ) -> None:
        """Keep a partner's newest CRL, so that an older one is refused later, and its link."""
        remember_crl(self._keys.places.pki, partner, crl, now, link)


def _head_refused(partner: str, kind: str, is_new: bool, now: datetime) -> Event:
    return Event.create(
        Action.PEER_REFUSED,
        AuditOutcome.FAILED,
        now=now,
        actor=f"partner:{partner}",
        reasons=["log-head"],
        details={"partner": partner, "error": kind, "new_evidence": int(is_new)},
    )
