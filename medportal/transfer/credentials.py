"""What the PKI room offers, in the shapes that the protocol's ports ask for.

A partner is looked up in the trust store on every question, so a local revocation acts on open
connections at once. The partner's own CRL travels in the handshake.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509

from medportal.delivery.parcel import Parcel
from medportal.delivery.states import DeliveryReason
from medportal.patients.pseudonyms import (
    MalformedIdentifier,
    PartnerKey,
    demographic_tag,
    normal_number,
    pseudonym,
)
from medportal.pki import errors as pki
from medportal.pki.partners import Partner, TrustStore, check_link_kept
from medportal.pki.profiles import CrlLimits, Purpose
from medportal.pki.signatures import (
    Signed,
    check_statement,
    verify_kept_signer,
    verify_signature,
    with_newer_list,
)
from medportal.pki.signers import Signer
from medportal.pki.verify import VerifiedLeaf, verify_leaf, verify_path
from medportal.records import fhir, statement
from medportal.records.errors import FhirError
from medportal.transfer import transcript
from medportal.transfer.batches import Batched, Seen, check_batched, sign_batch
from medportal.transfer.errors import Code, FromFuture, Untrusted

REMEMBER_FOR = timedelta(minutes=1)
REMEMBER_MOST = 16


_Name = tuple[Purpose, tuple[bytes, ...], tuple[bytes, ...]]
"""What a verified leaf depends on: purpose, chain and revocation lists."""


@contextmanager
def _untrusted(code: Code) -> Iterator[None]:
    """Turn what the PKI refuses into the error of this room, with the PKI's code."""
    try:
        yield
    except pki.PkiError as error:
        raise Untrusted(code, error.code) from error


@dataclass(frozen=True, slots=True)
class LeafKey:
    """A verified exchange key of a partner, for one connection."""

    leaf: VerifiedLeaf
    algorithm: str
    _seen: Seen = field(default_factory=Seen, repr=False, compare=False)

    @property
    def key_id(self) -> str:
        """The id of the certified key."""
        return self.leaf.key_id

    @property
    def link(self) -> x509.Certificate | None:
        """The partner's next authority, where it is that which issued the key's certificate."""
        return self.leaf.link

    def verify(self, signature: bytes, data: bytes) -> None:
        """Return if the signature holds. Raises ``Untrusted``."""
        with _untrusted(Code.SIGNATURE):
            verify_signature(self.leaf, signature, data)

    def statement(self, signed: bytes, label: str) -> Mapping[str, Any]:
        """Return the fields of a statement of a batch of this key. Raises ``Untrusted``."""
        with _untrusted(Code.DELIVERY):
            return check_batched(Batched.from_bytes(signed), label, self.leaf, self._seen)


@dataclass(frozen=True, slots=True)
class PkiPeer:
    """One partner under its own CA; see :class:`medportal.transfer.ports.Peer`."""

    partner: Partner
    trusted: TrustStore
    limits: CrlLimits
    _verified: dict[_Name, tuple[datetime, VerifiedLeaf]] = field(
        default_factory=dict, repr=False, compare=False
    )
    _seen: Seen = field(default_factory=Seen, repr=False, compare=False)

    @property
    def institution(self) -> str:
        """The partner's id."""
        return self.partner.institution

    def channel(self, chain: Sequence[bytes], crl: bytes | None, now: datetime) -> None:
        """Check a TLS chain; without a CRL, its path only."""
        if crl is not None:
            self._leaf(chain, crl, Purpose.CHANNEL, now)
            return
        self._check_trusted()
        with _untrusted(Code.CERTIFICATE):
            verify_path(
                chain,
                ca=self.partner.anchors(now),
                purpose=Purpose.CHANNEL,
                institution=self.institution,
                now=now,
            )

    def exchange(self, chain: Sequence[bytes], crl: bytes, now: datetime) -> LeafKey:
        """Return the verified exchange key."""
        leaf = self._leaf(chain, crl, Purpose.EXCHANGE, now)
        return LeafKey(leaf, "Ed25519")

    def receipt(self, signed: bytes, crl: bytes, now: datetime) -> Mapping[str, Any]:
        """Return the fields of a receipt, which stands in a batch of one or more."""
        with _untrusted(Code.RECEIPT):
            said = Batched.from_bytes(signed)
        leaf = self._leaf(said.chain_der, crl, Purpose.RECEIPT, now)
        with _untrusted(Code.RECEIPT):
            return check_batched(said, transcript.RECEIPT, leaf, self._seen)

    def author(self, signed: bytes, crl: bytes, now: datetime) -> Mapping[str, Any]:
        """Return the fields of an author statement.

        It is read as intake reads it, and everybody later
        (:func:`medportal.pki.signatures.verify_kept`), so that what is receipted can be filed.
        ``crl`` is the list of the handshake, which is checked there. Raises ``FromFuture`` where
        the clock here may be to blame: what is refused in a receipt is refused for good.
        """
        self._check_trusted()
        with _untrusted(Code.SIGNATURE):
            said = Signed.from_bytes(signed)
            lists = (said.crl_der, crl)
            try:
                leaf = self._remembered(
                    Purpose.RECORD, said.chain_der, lists, now, lambda: self._author(said, crl, now)
                )
            except (pki.NotYetValid, pki.CrlFromFuture) as error:
                raise FromFuture(error.code) from error
            return check_statement(said, statement.LABEL, leaf)

    def _author(self, said: Signed, crl: bytes, now: datetime) -> VerifiedLeaf:
        anchors, lists = self.partner.anchors(now), (crl, *self.partner.lists.values())
        leaf = verify_kept_signer(
            with_newer_list(said, lists, ca=anchors),
            ca=anchors,
            purpose=Purpose.RECORD,
            institution=self.institution,
            crl_limits=self.limits,
            taken_in=now,
            # Of a next authority, under which the author was certified since the handshake, no list
            # is held yet but the one that the statement carries.
            known_crl_der=(said.crl_der, *lists),
        )
        return self._followed(leaf)

    def _followed(self, leaf: VerifiedLeaf) -> VerifiedLeaf:
        """Return a leaf if its issuer is an authority trusted, or the one successor of it.

        The link itself must not be withdrawn by the newest list held of who signed it.
        """
        link = leaf.link
        if link is not None:
            self.partner.check_successor(link)
            check_link_kept(link, self.partner.authorities, self.partner.lists)
        return leaf

    def _leaf(
        self, chain: Sequence[bytes], crl: bytes, purpose: Purpose, now: datetime
    ) -> VerifiedLeaf:
        self._check_trusted()

        def verified() -> VerifiedLeaf:
            leaf = verify_leaf(
                chain,
                ca=self.partner.anchors(now),
                crl_der=crl,
                purpose=purpose,
                institution=self.institution,
                now=now,
                crl_limits=self.limits,
                crl_floor=self.partner.floors,
            )
            return self._followed(leaf)

        with _untrusted(Code.CERTIFICATE):
            return self._remembered(purpose, chain, (crl,), now, verified)

    def _remembered(
        self,
        purpose: Purpose,
        chain: Sequence[bytes],
        lists: tuple[bytes, ...],
        now: datetime,
        verify: Callable[[], VerifiedLeaf],
    ) -> VerifiedLeaf:
        """Return a leaf verified under the same CRLs a moment ago, or verify it now.

        One certificate signs thousands of receipts; only what has verified is remembered, for
        less than a connection's life, and trust in the partner is asked about every time.
        """
        name = (purpose, tuple(chain), lists)
        found = self._verified.get(name)
        if found and timedelta(0) <= now - found[0] < REMEMBER_FOR:
            return found[1]
        leaf = verify()
        if len(self._verified) >= REMEMBER_MOST:
            self._verified.clear()
        self._verified[name] = (now, leaf)
        return leaf

    def _check_trusted(self) -> None:
        if not self.trusted.is_trusted(self.institution):
            raise Untrusted(Code.REVOKED_PARTNER)


def peer_of(trusted: TrustStore, limits: CrlLimits) -> Callable[[str], PkiPeer | None]:
    """Return a lookup of partners that are trusted at the moment of asking."""

    def find(institution: str) -> PkiPeer | None:
        partner = trusted.find(institution)
        if partner is None or partner.revoked:
            return None
        return PkiPeer(partner, trusted, limits)

    return find


def deliveries_signer(
    signer: Signer,
) -> Callable[[Sequence[Mapping[str, Any]]], Sequence[bytes]]:
    """Return what signs the delivery statements that go out together, with the exchange key.

    They go without chain and list: the receiver verified those of the handshake, in which the same
    key signed, and checks statements by that key alone. A record would be half as long again.
    """
    return lambda batch: [
        each.to_bytes() for each in sign_batch(signer, transcript.DELIVERY, batch, bare=True)
    ]


@dataclass(frozen=True, slots=True)
class PairNames:
    """Pseudonyms and tags under the keys shared with partners.

    A key is kept once it was needed: its id covers both shares, so it can never mean another key,
    and opening the key file for every record would cost more than everything else together.
    """

    keys: Callable[[], Sequence[PartnerKey]]
    _known: dict[tuple[str, str], bytes] = field(default_factory=dict, repr=False)

    def pseudonym(self, partner: str, key_id: str, scheme: str, number: str) -> bytes:
        """Return the pseudonym of a number; nothing has the pseudonym of a malformed one."""
        try:
            return pseudonym(self._key(partner, key_id), scheme, number)
        except MalformedIdentifier:
            return b""

    def tag(self, partner: str, key_id: str, name: str, birth: str) -> bytes:
        """Return the tag of name and birth date; malformed ones have no patient's tag."""
        try:
            return demographic_tag(
                self._key(partner, key_id), name, datetime.fromisoformat(birth).date()
            )
        except (MalformedIdentifier, ValueError):
            return b""

    def _key(self, partner: str, key_id: str) -> bytes:
        wanted = (partner, key_id)
        if wanted not in self._known:
            self._known.update({(key.partner, key.key_id): key.key for key in self.keys()})
        if wanted not in self._known:
            raise Untrusted(Code.REVOKED_PARTNER)
        return self._known[wanted]


def content_problem(parcel: Parcel) -> str:
    """Return why content cannot be filed, as a reason code; empty if it can.

    The receiver reads it here so that the laboratory hears of it in the receipt; intake checks
    everything again.
    """
    try:
        subject = fhir.read(parcel.content).subject
        number = normal_number(parcel.number)
        # As a rule both are written alike, and one of them need not be made normal.
        same = subject.number == parcel.number or normal_number(subject.number) == number
    except (FhirError, MalformedIdentifier):
        return DeliveryReason.CONTENT_INVALID
    return "" if same else DeliveryReason.IDENTIFIER_MISMATCH
