"""Whether a version of a record that arrives continues what is held of it (PURE).

Versions form a chain: each names the digest of the content before it. A partner that makes two
different second versions, or moves a correction to another patient, is told from one whose
first version never came.
"""

from dataclasses import dataclass

from medportal.records.content import ClinicalRecord
from medportal.records.errors import AlreadyFiled, CorrectionUnfit, OriginalMissing


@dataclass(frozen=True, slots=True)
class Held:
    """What is held of a record beside the version that arrives.

    ``before`` is the content digest of the version before it, ``replaced_after`` what the version
    after it replaces, each ``None`` where that version is not here. ``is_here`` tells whether
    one of its own number is, ``is_beside`` whether the one before or the one after is.
    """

    id: str
    patient_id: str
    kind: str
    before: bytes | None
    replaced_after: bytes | None
    is_here: bool
    is_beside: bool


def check_continues(
    held: Held, record: ClinicalRecord, digest: bytes, patient_id: str, *, may_leave_gap: bool
) -> None:
    """Refuse a version that does not continue what is held.

    ``digest`` is that of its content, ``patient_id`` the id here of whom it is about.
    ``may_leave_gap``: a person has looked at it, and takes it without those in between.

    1. It is about the patient of whom the others are.
    2. It is of their kind.
    3. No version of its number is here.
    4. It replaces the version before it, if that is here.
    5. The version after it, if that is here, replaces this one.
    6. One of these is here: what a number far ahead hides would never be missed.

    Raises ``AlreadyFiled`` (3), ``OriginalMissing`` (6) or ``CorrectionUnfit``.
    """
    if held.patient_id != patient_id:  # 1
        raise CorrectionUnfit("patient")
    if held.kind != record.kind:  # 2
        raise CorrectionUnfit("kind")
    if held.is_here:  # 3
        raise AlreadyFiled("this version of this record is filed already")
    if held.before is not None and record.replaces != held.before.hex():  # 4
        raise CorrectionUnfit("replaces")
    if held.replaced_after is not None and held.replaced_after != digest:  # 5
        raise CorrectionUnfit("replaces")
    if not (held.is_beside or may_leave_gap):  # 6
        raise OriginalMissing("versions between this one and those held never came")
