"""What can be wrong with a certificate, a statement, a key file or a partner (PURE).

``code`` is stable and free of personal data: it may go into logs, audit events and protocol
errors. Views turn it into a sentence.
"""

from typing import ClassVar

from medportal.core.errors import MedportalError


class PkiError(MedportalError):
    """Root of this room's errors."""

    code: ClassVar[str] = "pki"


class CertificateError(PkiError):
    """A certificate, or the chain it came in, is not acceptable."""

    code = "certificate"


class BadChain(CertificateError):
    """Not one well-formed leaf certificate that the authority issued directly."""

    code = "bad-chain"


class WrongAuthority(CertificateError):
    """Not signed by the authority of that institution."""

    code = "wrong-authority"


class UnfitAuthority(CertificateError):
    """A certificate that cannot serve as an institution's authority."""

    code = "unfit-authority"


class Expired(CertificateError):
    """The certificate's time is over."""

    code = "expired"


class NotYetValid(CertificateError):
    """The certificate's time has not begun; often a wrong clock."""

    code = "not-yet-valid"


class WrongPurpose(CertificateError):
    """The certificate is for another purpose, or its key cannot serve the stated one."""

    code = "wrong-purpose"


class WrongInstitution(CertificateError):
    """The certificate names another institution, or none."""

    code = "wrong-institution"


class Revoked(CertificateError):
    """The authority has withdrawn the certificate."""

    code = "revoked"


class CrlError(PkiError):
    """The revocation list is not acceptable, so revocation cannot be told."""

    code = "crl"


class CrlMissing(CrlError):
    """No revocation list was given."""

    code = "crl-missing"


class CrlInvalid(CrlError):
    """Malformed, of a kind not understood, or not signed by this authority."""

    code = "crl-invalid"


class CrlStale(CrlError):
    """Older than the verifier's limit."""

    code = "crl-stale"


class CrlFromFuture(CrlError):
    """Dated after now by more than clocks may differ."""

    code = "crl-from-future"


class CrlRolledBack(CrlError):
    """Older than one already seen from the same authority."""

    code = "crl-rolled-back"


class StatementError(PkiError):
    """A signed statement is not acceptable."""

    code = "statement"


class MalformedStatement(StatementError):
    """The bytes are not a signed statement."""

    code = "malformed-statement"


class WrongLabel(StatementError):
    """A statement of another kind than the one expected."""

    code = "wrong-label"


class WrongAlgorithm(StatementError):
    """The statement names an algorithm other than its purpose's."""

    code = "wrong-algorithm"


class WrongKey(StatementError):
    """The statement names a key other than the one certified."""

    code = "wrong-key"


class BadSignature(StatementError):
    """The signature does not fit what it should cover."""

    code = "bad-signature"


class KeyFileError(PkiError):
    """A file of the key directory is missing or unfit."""

    code = "key-file"


class KeyFileMissing(KeyFileError):
    """The file is not there."""

    code = "key-file-missing"


class KeyFileUnfit(KeyFileError):
    """Unreadable, readable by everybody, or its parts do not belong together."""

    code = "key-file-unfit"


class WrongPassphrase(KeyFileError):
    """The passphrase does not open the key file, or none was given for its group."""

    code = "wrong-passphrase"


class AlreadyThere(KeyFileError):
    """Making it again would overwrite what exists."""

    code = "already-there"


class KeyReused(KeyFileError):
    """A key that was certified before shall not be certified again."""

    code = "key-reused"


class RequestError(PkiError):
    """A request for a certificate asks for what no profile grants."""

    code = "request"


class NotConfirmed(PkiError):
    """Nobody confirmed what needs a person's word."""

    code = "not-confirmed"


class PartnerError(PkiError):
    """Something about a partner institution."""

    code = "partner"


class DescriptorInvalid(PartnerError):
    """The descriptor is malformed, or does not hold together."""

    code = "descriptor-invalid"


class UnknownPartner(PartnerError):
    """No such partner is trusted."""

    code = "unknown-partner"


class PartnerChanged(PartnerError):
    """A descriptor would silently replace the authority or key share of a trusted partner."""

    code = "partner-changed"


class SuccessorChanged(PartnerError):
    """A partner's authority vouches for another next key than the one that it vouched for."""

    code = "successor-changed"


class AuthorityRetired(PartnerError):
    """The authority trusted for a partner has retired: its next one is to be trusted."""

    code = "authority-retired"


class UnsafeShare(PartnerError):
    """A key share of small order: the pair key would be known to anybody."""

    code = "unsafe-share"
