"""Results that were held back: what the partner says of the person, and deciding about them.

The portal has no key that opens what partners send. The jobs open an item that waits for a
person and seal for the portal who it says the patient is: number, name and birth date, never
what is in the record. A decision lets intake try again, which checks everything anew, or says
that it is nobody's here: then the content goes after a time in which anybody can undo that.
"""

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from sqlalchemy.orm import Session

from medportal.core import canonical
from medportal.core.canonical import NotCanonical
from medportal.delivery import boxkeys, held, inbox
from medportal.delivery.errors import MalformedDelivery, NotAwaiting
from medportal.delivery.held import HeldItem
from medportal.delivery.parcel import Parcel, inbox_info
from medportal.keys import TenantKeys
from medportal.patients.pseudonyms import MalformedIdentifier, normal_name, normal_number
from medportal.patients.service import demographics, find_patient
from medportal.results.errors import HeldRefused
from medportal.vault.errors import Tampered, VaultError
from medportal.vault.service import Vault

PURPOSE = "held"
#: How long a decision that something is nobody's here can be undone.
UNDONE_WITHIN = timedelta(days=30)
BATCH = 16
#: Longer than any name or number that this institution would take.
LONGEST = 200
#: Stands for what would not be seen, or would turn around what stands beside it.
ODD = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True, slots=True)
class Told:
    """Who the partner says the patient is; ``birth`` as it was written."""

    scheme: str = field(repr=False)
    number: str = field(repr=False)
    name: str = field(repr=False)
    birth: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Known:
    """Who is registered here under the number that the partner gave."""

    patient_id: str
    number: str = field(repr=False)
    name: str = field(repr=False)
    birth_date: date = field(repr=False)


@dataclass(frozen=True, slots=True)
class Compared:
    """A held result, what is said of its patient, who that is here, and what is the same.

    ``told`` is ``None`` if it cannot be read (yet); ``known`` if nobody here has the number.
    """

    item: HeldItem
    told: Told | None
    known: Known | None
    same_name: bool = False
    same_birth: bool = False

    @property
    def patient_id(self) -> str | None:
        """Return the patient whom it concerns here, as far as that is known."""
        return self.known.patient_id if self.known else self.item.patient_id


# The jobs' part


def prepare(session: Session, keys: TenantKeys, limit: int = BATCH) -> int:
    """Open what waits for a person, and keep who it says the patient is; return how many.

    What does not open, or is no parcel, says nothing, and is noted as such. Raises
    ``ConfigurationError`` where key files of this machine are at fault: then nothing is noted.
    """
    keys.require_intake()
    found = held.untold(session, limit)
    for sender, tid, sealed in found:
        told = _told(session, keys, sender, tid, sealed)
        plain = canonical.encode(told)
        sealed_told = keys.vault.seal_secret(PURPOSE, owner_of(sender, tid), plain)
        held.set_told(session, sender, tid, sealed_told)
    return len(found)


def owner_of(sender: str, tid: str) -> str:
    """Return the name to which what a partner says of a held transfer is bound."""
    return f"{sender}/{tid}"


def _told(session: Session, keys: TenantKeys, sender: str, tid: str, sealed: bytes) -> list[str]:
    info = inbox_info(keys.tenant.id, sender, tid)
    try:
        parcel = Parcel.from_bytes(boxkeys.open_incoming(session, keys, sealed, info))
    except (Tampered, MalformedDelivery, NotCanonical):
        return []
    return [_legible(text) for text in (parcel.scheme, parcel.number, parcel.name, parcel.birth)]


def _legible(text: str) -> str:
    """Return a text that can be shown beside others, whatever a partner wrote."""
    return "".join(sign if sign.isprintable() else ODD for sign in text[:LONGEST])


# The portal's part


def compare(session: Session, vault: Vault, item: HeldItem) -> Compared:
    """Put what the partner says of the patient beside what is registered here."""
    told = _open(vault, item)
    known = _known(session, told) if told is not None else None
    if told is None or known is None:
        return Compared(item, told, known)
    return Compared(
        item,
        told,
        known,
        same_name=_same_name(told.name, known.name),
        same_birth=told.birth == known.birth_date.isoformat(),
    )


def try_again(session: Session, shown: Compared, by: str) -> None:
    """Let intake file it for the patient who has the number here. Raises ``HeldRefused``."""
    _refuse_own(session, shown, by)
    if shown.known is None:
        raise HeldRefused("nobody-here")
    try:
        inbox.approve(session, shown.item.sender, shown.item.tid, shown.known.patient_id)
    except NotAwaiting as error:
        raise HeldRefused("decided-already") from error


def give_up(session: Session, shown: Compared, by: str, now: datetime) -> None:
    """Decide that it is nobody's here: its content goes after a time. Raises ``HeldRefused``."""
    _refuse_own(session, shown, by)
    try:
        inbox.decline(session, shown.item.sender, shown.item.tid, now)
    except NotAwaiting as error:
        raise HeldRefused("decided-already") from error


def take_back(session: Session, shown: Compared, by: str) -> None:
    """Undo such a decision, one's own or a colleague's. Raises ``HeldRefused``."""
    _refuse_own(session, shown, by)
    try:
        inbox.undo_decline(session, shown.item.sender, shown.item.tid)
    except NotAwaiting as error:
        raise HeldRefused("decided-already") from error


def is_own(session: Session, shown: Compared, by: str) -> bool:
    """Tell whether it is about the person who would decide, or may be.

    With a number that nobody has here, name and date of birth together say that it is.
    """
    if by in {shown.patient_id, shown.item.patient_id}:
        return True
    me = demographics(session, by)
    told = shown.told
    return (
        told is not None
        and told.birth == me.birth_date.isoformat()
        and _same_name(told.name, me.name)
    )


def _refuse_own(session: Session, shown: Compared, by: str) -> None:
    if is_own(session, shown, by):
        raise HeldRefused("about-you")


def _open(vault: Vault, item: HeldItem) -> Told | None:
    if item.told is None:
        return None
    try:
        plain = vault.open_secret(PURPOSE, owner_of(item.sender, item.tid), item.told)
        fields = canonical.decode(plain)
    except (VaultError, NotCanonical):
        return None
    # An empty one was written where nothing could be read.
    return Told(*fields) if isinstance(fields, list) and len(fields) == 4 else None


def _known(session: Session, told: Told) -> Known | None:
    try:
        number = normal_number(told.number)
    except MalformedIdentifier:
        return None
    found = find_patient(session, told.scheme, number)
    if found is None:
        return None
    here = demographics(session, found)
    return Known(found, number, here.name, here.birth_date)


def _same_name(told: str, known: str) -> bool:
    try:
        return normal_name(told) == normal_name(known)
    except MalformedIdentifier:
        return False
