"""Check or export the audit log of an institution, with its own authority as the anchor."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509

from medportal.audit.heads import Credential
from medportal.audit.lines import verify_lines
from medportal.audit.verifier import Report, export_lines, verify_session
from medportal.core.errors import MedportalError
from medportal.keys import TenantKeys
from medportal.pki.keyfiles import certificate_from_pem
from medportal.pki.layout import load_profiles
from medportal.pki.profiles import Algorithm, Purpose
from medportal.pki.verify import institution_of, verify_leaf
from medportal.settings import Settings
from medportal.tenancy.registry import Database
from medportal.tenancy.tenant import Tenant

HEAD_PURPOSES = {Algorithm.ED25519: Purpose.HEAD, Algorithm.ML_DSA_65: Purpose.HEAD_PQ}


class NoRevocationList(MedportalError):
    """A head that carries no revocation list of its moment cannot be checked."""


@dataclass(frozen=True, slots=True)
class CaTrust:
    """Trusts the head certificates of one authority, as of the moment of each head."""

    ca: x509.Certificate

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
            crl_limits=load_profiles().crl_limits,
        )
        return leaf.public_key


@dataclass(frozen=True, slots=True)
class Result:
    """What a check came to, for the command line."""

    report: Report
    tenant: str

    @property
    def is_whole(self) -> bool:
        """Tell whether nothing was found."""
        return self.report.finding is None

    @property
    def row(self) -> dict[str, Any]:
        """Return the result as one row."""
        found = self.report.finding
        return {
            "tenant": self.tenant,
            "events": self.report.size,
            "heads": self.report.heads,
            "not_yet_signed": self.report.pending,
            "finding": "whole" if found is None else str(found.kind),
            "first_bad_event": "" if found is None else str(found.sequence),
        }


def verify_tenant_log(settings: Settings, tenant: Tenant, database: Database) -> Result:
    """Check an institution's stored log from its first event to its last head."""
    keys = TenantKeys(tenant, settings.home(tenant.id))
    with database.reader() as session:
        report = verify_session(session, tenant=tenant.id, trust=CaTrust(keys.keystore.ca))
    return Result(report, tenant.id)


def verify_exported_log(file: Path, authority: Path) -> Result:
    """Check an exported log against an authority's certificate; no database is needed.

    Raises ``MalformedLine`` or a ``PkiError`` for files that are not what they should be.
    """
    ca = certificate_from_pem(authority.read_bytes(), str(authority))
    tenant = institution_of(ca)
    with file.open(encoding="utf-8") as lines:
        report = verify_lines(lines, tenant=tenant, trust=CaTrust(ca))
    return Result(report, tenant)


def export_tenant_log(tenant: Tenant, database: Database, output: Path) -> int:
    """Write the log as JSON Lines; return how many."""
    count = 0
    with database.reader() as session, output.open("w", encoding="utf-8") as file:
        for line in export_lines(session, tenant.id):
            file.write(line + "\n")
            count += 1
    return count
