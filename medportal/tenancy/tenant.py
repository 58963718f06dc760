"""One institution as its file describes it (PURE); :mod:`medportal.tenancy.parsing` reads it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from medportal.core.permissions import Permission, Reach

LANGUAGES = ("en", "pt")
#: Whoever is registered as a patient holds this role, and whoever stands for a patient the other.
PATIENT_ROLE = "patient"
REPRESENTATIVE_ROLE = "representative"
#: The roles that are no staff's, and that no administrator gives or takes.
OWN_ROLES = frozenset({PATIENT_ROLE, REPRESENTATIVE_ROLE})
#: What an institution's file may leave to its admins, who then edit it on a page.
EDITABLE = ("names", "colours", "logo", "contact", "sessions", "passwords", "second_factor")


class Kind(StrEnum):
    """What an institution is; it changes words and defaults, never code paths of security."""

    HOSPITAL = "hospital"
    LABORATORY = "laboratory"


@dataclass(frozen=True, slots=True)
class Role:
    """A role of the tenant's catalogue: names by language, permission -> reach.

    ``treating`` roles may be a patient's treating doctor, to whom sensitive categories open.
    ``second_factor`` roles are nobody's who signed in with a password alone. ``sessions``
    is the role's own; of somebody with several roles the shortest times count.
    """

    id: str
    names: Mapping[str, str]
    grants: Mapping[Permission, Reach]
    clinical: bool = False
    treating: bool = False
    second_factor: bool = False
    sessions: "SessionPolicy | None" = None


@dataclass(frozen=True, slots=True)
class PasswordPolicy:
    """Passwords: least length in characters, argon2id cost.

    ``minimum_length`` counts where the password is the only factor,
    ``minimum_with_second_factor`` where the account has another.
    """

    minimum_length: int = 15
    minimum_with_second_factor: int = 8
    time_cost: int = 3
    memory_kib: int = 65_536
    parallelism: int = 1


@dataclass(frozen=True, slots=True)
class SessionPolicy:
    """How long a session lives without use, and at most."""

    idle: timedelta = timedelta(minutes=30)
    absolute: timedelta = timedelta(hours=12)


@dataclass(frozen=True, slots=True)
class SecondFactorPolicy:
    """Whether staff need a second factor when they are not on site."""

    remote_staff: bool = False


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """How long a broken glass stays open, and how long a proof of identity counts as fresh."""

    glass: timedelta = timedelta(hours=1)
    fresh_for: timedelta = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class ResultsPolicy:
    """How long a critical value may wait to be noted before the ward's team is told."""

    critical_within: timedelta = timedelta(minutes=60)


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """How many years records are kept by duty, counted from a patient's newest one.

    ``backup_days`` is how long backups of keys are kept: so long after an erasure could somebody
    who has the keys file of before, and a backup of data, however old, bring the records back.
    """

    years: int = 20
    backup_days: int = 35


@dataclass(frozen=True, slots=True)
class Documents:
    """Where sealed documents lie: ``sql`` (the institution's own database) or ``mongodb``.

    For MongoDB ``url`` names servers and database and no password, which stands in a file;
    ``ca_file`` is the authority of its certificate, or empty for the system's. It may be named
    before it is used, to copy documents to it. ``fallback`` is the other store while documents
    move: what the first does not hold is looked for there.
    """

    store: str = "sql"
    fallback: str = ""
    url: str = ""
    user: str = ""
    password_file: str = field(default="", repr=False)
    ca_file: str = ""


@dataclass(frozen=True, slots=True)
class Mail:
    """The server that takes this institution's mail, over verified TLS in any case.

    ``implicit_tls`` begins with TLS (RFC 8314), otherwise STARTTLS is demanded. ``ca_file``
    is empty for the system's authorities. The password lies in a file.
    """

    server: str
    sender: str
    implicit_tls: bool = False
    ca_file: str = ""
    user: str = ""
    password_file: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Contact:
    """How people reach the institution, besides this portal."""

    phone: str = ""
    email: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class IdentifierScheme:
    """How people are numbered here: so many plain digits, or as a ``standard`` says.

    ``scheme`` is the name under which numbers are stored and compared with partners;
    ``standard`` a scheme of python-stdnum such as "pt.cc", and ``digits`` then 0.
    """

    scheme: str
    digits: int
    standard: str = ""

    @property
    def is_numeric(self) -> bool:
        """Tell whether a number is digits alone, so that a keyboard for digits will do."""
        return not self.standard


@dataclass(frozen=True, slots=True)
class Exchange:
    """Where partners reach the receiver, and the address it listens on (host:port).

    Empty for an institution that only sends.
    """

    endpoint: str = ""
    listen: str = ""


@dataclass(frozen=True, slots=True)
class Tenant:
    """One institution, frozen."""

    id: str
    kind: Kind
    names: Mapping[str, str]
    hostnames: tuple[str, ...]
    colours: Mapping[str, str]
    default_language: str
    time_zone: str
    demonstration: bool
    identifiers: IdentifierScheme
    database_url: str = field(repr=False)
    documents: Documents
    roles: Mapping[str, Role]
    passwords: PasswordPolicy
    sessions: SessionPolicy
    exchange: Exchange
    wards: tuple[str, ...]
    #: Where people open the portal, without a slash at the end: links in mails begin so.
    address: str = ""
    second_factor: SecondFactorPolicy = SecondFactorPolicy()
    access: AccessPolicy = AccessPolicy()
    results: ResultsPolicy = ResultsPolicy()
    retention: RetentionPolicy = RetentionPolicy()
    #: Addresses from which somebody is on site, as CIDR networks.
    staff_networks: tuple[str, ...] = ()
    #: How long a change of somebody's email address by staff waits, so that they can object.
    email_delay: timedelta = timedelta(hours=72)
    mail: Mail | None = None
    contact: Contact = Contact()
    #: A PNG of the institution's mark, as the admins set it; ``None`` for the drawn one.
    logo: bytes | None = field(default=None, repr=False)
    #: Which of :data:`EDITABLE` admins edit on a page.
    editable: frozenset[str] = frozenset()

    def sessions_of(self, roles: Iterable[str]) -> SessionPolicy:
        """Return the session lifetimes of somebody with these roles: the shortest count."""
        known = [self.roles[role] for role in roles if role in self.roles]
        policies = [role.sessions or self.sessions for role in known] or [self.sessions]
        return SessionPolicy(
            min(policy.idle for policy in policies), min(policy.absolute for policy in policies)
        )

    def name(self, language: str) -> str:
        """Return the institution's name in a language, or in its own."""
        return self.names.get(language) or self.names[self.default_language]
