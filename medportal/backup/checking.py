"""Reading a whole backup file and believing it, before anything of it is used.

Numbered as in the code:

1. The backup key opens the file key in the header, bound to what the header says.
2. Every chunk opens as what it is: this file's, in its place, the last one last.
3. Frames are whole, in order, and as many as the end says.
4. The institution's authority, as the holder of the backup key knows it, vouches for the digest of
   all of it, with both keys of the log's heads: Ed25519 and ML-DSA-65. A box alone proves nothing:
   whoever has the public half of the backup key could fill one.

The time of a backup is its maker's word; what that makes possible is an older genuine backup in
place of a newer one, which shows in the time, and in the heads that partners hold.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from medportal.backup.container import Label, SealedReader
from medportal.backup.errors import BackupDamaged, NotSignedHere
from medportal.backup.frames import Counts, Ending, Frame, Manifest, read_frames
from medportal.backup.keys import Opener
from medportal.pki.errors import PkiError
from medportal.pki.layout import load_profiles
from medportal.pki.profiles import Purpose
from medportal.pki.signatures import Signed, sign_statement, verify_statement
from medportal.pki.signers import Signer
from medportal.pki.verify import Anchors

LABEL = "medportal backup 1"
PURPOSES = (Purpose.HEAD, Purpose.HEAD_PQ)
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Checked:
    """A backup file that was read to its end and verified."""

    path: Path
    label: Label
    manifest: Manifest
    counts: Counts


def check(path: Path, opener: Opener) -> Checked:
    """Read a backup file to its end; return what it is.

    Raises ``NotABackup``, ``WrongBackupKey``, ``BackupDamaged`` or ``NotSignedHere``.
    """
    manifest: Manifest | None = None
    with opened(path, opener) as (label, frames, ending):  # (1)
        for frame in frames:  # (2), (3)
            if isinstance(frame, Manifest):
                manifest = frame
        verify(label, ending, opener.authority)  # (4)
    if manifest is None:
        raise BackupDamaged("the backup holds nothing")
    return Checked(path, label, manifest, ending.counts)


@contextmanager
def opened(path: Path, opener: Opener) -> Iterator[tuple[Label, Iterator[Frame], Ending]]:
    """Open a backup file; its ending is filled in when all its frames were read."""
    with path.open("rb") as file:
        reader = SealedReader(file, opener.key)
        ending = Ending()
        yield reader.label, read_frames(reader, ending), ending


def sign(label: Label, digest: bytes, signers: Sequence[Signer]) -> list[bytes]:
    """Return the signed statements about what stands in a part."""
    fields = {**label.fields(), "digest": digest}
    return [sign_statement(signer, LABEL, fields).to_bytes() for signer in signers]


def verify(label: Label, ending: Ending, authority: Anchors) -> None:
    """Raise ``NotSignedHere`` unless the authority vouches for what was read."""
    if len(ending.statements) != len(PURPOSES):
        raise NotSignedHere("the backup is not signed with both keys")
    for said in vouched(ending.statements, LABEL, label, authority, "this backup"):
        if said != {**label.fields(), "digest": ending.digest}:
            raise NotSignedHere("what is signed is another backup")


def vouched(
    statements: Sequence[bytes], kind: str, label: Label, authority: Anchors, what: str
) -> Iterator[Mapping[str, object]]:
    """Yield what each of the statements about a part says, of :data:`PURPOSES` in their order.

    ``kind`` is the label of such statements; ``what`` names the thing in the message. The moment
    of verification is the one that the part states. Raises ``NotSignedHere``.
    """
    for statement, purpose in zip(statements, PURPOSES, strict=True):
        try:
            yield verify_statement(
                Signed.from_bytes(statement),
                kind,
                ca=authority,
                purpose=purpose,
                institution=label.tenant,
                crl_limits=load_profiles().crl_limits,
                at=label.made,
            )
        except PkiError as error:
            raise NotSignedHere(
                f"the institution's authority does not vouch for {what} ({error.code})"
            ) from None
