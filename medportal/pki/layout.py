"""Where things lie in an institution's key directory, and the profiles file.

::

    ca.key  ca.crt  ca.crl        the authority (the key only where certificates are issued)
    ca.link                       while a former authority retires: the present key, signed by it
    former/KEYID/                 a former authority: ca.crt, ca.crl, until it retires ca.key, and
                                  ca.back, its key signed by the present one
    issued/SERIAL.crt             every certificate issued
    keys/PURPOSE.pem              certificate and encrypted private key of one purpose, in one file
    requested/PURPOSE.key         encrypted private key that waits for its certificate
    keys/pair.pem                 encrypted private share of the pseudonym keys
    partners/ID.partner           a trusted partner;  ID.revoked  a mark that it no longer is
    partners/ID.AUTHORITY.crl     the newest revocation list seen from it
    partners/ID.AUTHORITY.former  an authority that it no longer uses, and until when it did
    partners/ID.AUTHORITY.link    its next authority, as the one trusted vouches for it

A certificate and its key share a file so that a renewal replaces both in one step, and so that
moving a key to the host that uses it is copying one file.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from medportal.core.errors import ConfigurationError
from medportal.pki.profiles import Profiles, Purpose, parse_profiles

PROFILES = Path(__file__).resolve().parents[2] / "pki" / "profiles.toml"


@dataclass(frozen=True, slots=True)
class Layout:
    """Names of the files in one key directory."""

    root: Path

    @property
    def ca_key(self) -> Path:
        """Private key of the authority."""
        return self.root / "ca.key"

    @property
    def ca_certificate(self) -> Path:
        """Certificate of the authority; what people install in their browser."""
        return self.root / "ca.crt"

    @property
    def crl(self) -> Path:
        """The authority's newest revocation list, also its memory of what it revoked."""
        return self.root / "ca.crl"

    @property
    def link(self) -> Path:
        """The authority's key as certified by the authority before it, while that one retires."""
        return self.root / "ca.link"

    @property
    def back(self) -> Path:
        """In the directory of a former authority: its key as certified by the present one."""
        return self.root / "ca.back"

    @property
    def former(self) -> Path:
        """Directory of the authorities that were used before, one directory each."""
        return self.root / "former"

    @property
    def lock(self) -> Path:
        """Held while the authority works."""
        return self.root / ".lock"

    def issued(self, serial: int) -> Path:
        """Copy of an issued certificate."""
        return self.root / "issued" / f"{serial:040x}.crt"

    def key(self, purpose: Purpose) -> Path:
        """Certificate and private key of one purpose."""
        return self.root / "keys" / f"{purpose}.pem"

    def requested(self, purpose: Purpose) -> Path:
        """Private key for which a certificate was requested from an authority kept elsewhere."""
        return self.root / "requested" / f"{purpose}.key"

    @property
    def pair(self) -> Path:
        """Private share of the pseudonym keys."""
        return self.root / "keys" / "pair.pem"

    @property
    def partners(self) -> Path:
        """Directory of the trusted partners."""
        return self.root / "partners"


@cache
def load_profiles(path: Path = PROFILES) -> Profiles:
    """Return the profiles in ``path``, read once per process.

    Raises ``ConfigurationError`` naming the file and every problem in it.
    """
    try:
        return parse_profiles(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read") from error
    except ConfigurationError as error:
        raise ConfigurationError(*(f"{path}: {each}" for each in error.problems)) from error
