"""Check an exported audit log anywhere: no database, no application, no key (PURE).

::

    python -m medportal.ops.verify_log FILE --ca ca.crt [--head HEAD ...] [--json]

``FILE`` is what ``medportal audit export`` or the portal's export wrote. ``ca.crt`` is the
certificate of the institution's authority, got from somewhere that the institution does not
control alone. Each ``HEAD`` is a signed head of this log that somebody else kept: a partner
(``medportal audit partner-head``), or oneself at the last check. Without any, a log that its own
institution wrote anew from the beginning looks whole.

Needs Python, ``cryptography`` and ``cbor2``; ``medportal audit verifier`` writes it as one file
that needs the first two only. Exit status: 0 whole, 1 not whole (the first bad event is named),
2 a file that is not what it should be, 3 whole, but a head that you hold contradicts the log, and
only what the institution itself declares about a restore excuses that.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from medportal.audit.checking import Report
from medportal.audit.heads import Credential, SignedHead
from medportal.audit.lines import verify_lines
from medportal.core.errors import MedportalError
from medportal.pki.keyfiles import certificate_from_pem
from medportal.pki.profiles import Algorithm, CrlLimits, Purpose
from medportal.pki.verify import Anchors, institution_of, verify_leaf

HEAD_PURPOSES = {Algorithm.ED25519: Purpose.HEAD, Algorithm.ML_DSA_65: Purpose.HEAD_PQ}

#: How old the revocation list that came with a head may have been at the head's own time.
CRL_LIMITS = CrlLimits(
    warn_after=timedelta(days=7), refuse_after=timedelta(days=14), skew=timedelta(minutes=5)
)


class NoRevocationList(MedportalError):
    """A head that carries no revocation list of its moment cannot be checked."""


@dataclass(frozen=True, slots=True)
class CaTrust:
    """Trusts the head certificates of one institution, as of the moment of each head."""

    ca: Anchors
    crl_limits: CrlLimits = CRL_LIMITS

    def __call__(self, credential: Credential, *, algorithm: str, tenant: str, at: datetime) -> Any:
        """Return the certified key; raises a ``PkiError`` or ``NoRevocationList``."""
        if credential.crl is None:
            raise NoRevocationList("the head carries no revocation list")
        leaf = verify_leaf(
            credential.chain,
            ca=self.ca,
            crl_der=credential.crl,
            purpose=HEAD_PURPOSES[Algorithm(algorithm)],
            institution=tenant,
            now=at,
            crl_limits=self.crl_limits,
        )
        return leaf.public_key


#: Exit statuses.
WHOLE, NOT_WHOLE, UNREADABLE, EXCUSED = 0, 1, 2, 3


@dataclass(frozen=True, slots=True)
class Result:
    """What a check came to, for the command line."""

    report: Report
    tenant: str

    @property
    def is_whole(self) -> bool:
        """Tell whether nothing was found, and nothing had to be excused."""
        return self.report.ok and not self.report.is_excused

    @property
    def status(self) -> int:
        """Return the exit status of a program that checked."""
        if not self.report.ok:
            return NOT_WHOLE
        return EXCUSED if self.report.is_excused else WHOLE

    @property
    def _kind(self) -> str:
        found = self.report.finding
        if found is not None:
            return str(found.kind)
        return "whole-except-for-a-restore" if self.report.is_excused else "whole"

    @property
    def row(self) -> dict[str, Any]:
        """Return the result as one row."""
        report, found = self.report, self.report.finding
        return {
            "tenant": self.tenant,
            "events": report.size,
            "heads": report.heads,
            "not_yet_signed": report.pending,
            "finding": self._kind,
            "first_bad_event": "" if found is None else str(found.sequence),
            "up_to": "" if found is None else str(found.until),
            "event_id": (found and found.event_id) or "",
            "why": "" if found is None else found.why,
            "forgotten": report.forgotten,
            "lost_in_restores": sum(each.lost_size - each.kept for each in report.restores),
            "heads_explained_by_a_restore": report.explained,
        }


def verify_file(file: Path, authority: Path, heads: Iterable[Path] = ()) -> Result:
    """Check an exported log against an authority's certificate and heads kept elsewhere.

    Raises ``MalformedLine``, ``MalformedHead``, ``BadSignature`` or a ``PkiError`` for files that
    are not what they should be, ``OSError`` for those that cannot be read.
    """
    ca = certificate_from_pem(authority.read_bytes(), str(authority))
    tenant = institution_of(ca)
    held = [SignedHead.from_bytes(path.read_bytes()) for path in heads]
    with file.open(encoding="utf-8", newline="\n") as lines:
        report = verify_lines(lines, tenant=tenant, trust=CaTrust(ca), held=held)
    return Result(report, tenant)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the files that the command line names; return the exit status."""
    given = _parser().parse_args(arguments)
    try:
        result = verify_file(given.file, given.ca, given.head)
    except (MedportalError, OSError, UnicodeDecodeError) as error:
        print(f"cannot check: {error}", file=sys.stderr)
        return UNREADABLE
    if given.json:
        print(json.dumps(result.row, sort_keys=True))
    else:
        print(*in_words(result), sep="\n")
    return result.status


def in_words(result: Result) -> list[str]:
    """Return the result as sentences."""
    row, found = result.row, result.report.finding
    if found is None:
        word = "WHOLE, EXCEPT FOR A DECLARED RESTORE" if result.report.is_excused else "WHOLE"
        said = [f"{word}: {row['events']} events of {result.tenant} under {row['heads']} heads."]
    else:
        said = [f"NOT WHOLE: {found.kind} at event {found.sequence}: {found.why}."]
        if found.until > found.sequence + 1:
            said.append(f"The heads tell only that it lies before event {found.until}.")
        if found.event_id:
            said.append(f"The event there calls itself {found.event_id}.")
        said.append(f"The {row['events']} events before are as they were signed.")
    if row["forgotten"]:
        said.append(f"Of the first {row['forgotten']} events only hashes are kept (pruned).")
    said += [
        f"Declared: events {r.kept} to {r.lost_size - 1} were lost in a restore, said {r.at}."
        for r in result.report.restores
    ]
    if row["heads_explained_by_a_restore"]:
        said.append(
            "A head that you hold lies in what was lost: ask what happened. Nothing but the word of"
            " the institution tells a restore from a log that it wrote anew."
        )
    return said


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Check an exported audit log; names the first event that is not right.",
    )
    parser.add_argument("file", type=Path, help="the exported log (JSON Lines)")
    parser.add_argument("--ca", type=Path, required=True, help="the authority's certificate (PEM)")
    parser.add_argument(
        "--head",
        type=Path,
        action="append",
        default=[],
        help="a signed head of this log that somebody else kept; may be given several times",
    )
    parser.add_argument("--json", action="store_true", help="the result as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
