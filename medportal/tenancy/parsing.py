"""A tenant's file, checked as a whole (PURE).

:func:`parse` reports every problem of a file at once with its key and what would be right, so that
an operator mends it in one round. The ``read_`` functions are for what admins change on a page.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from medportal.core.errors import ConfigurationError
from medportal.core.permissions import Permission, Reach
from medportal.tenancy.reader import Reader
from medportal.tenancy.tenant import (
    EDITABLE,
    LANGUAGES,
    AccessPolicy,
    Contact,
    Documents,
    Exchange,
    IdentifierScheme,
    Kind,
    Mail,
    PasswordPolicy,
    ResultsPolicy,
    RetentionPolicy,
    Role,
    SecondFactorPolicy,
    SessionPolicy,
    Tenant,
)

_SLUG = re.compile(r"[a-z][a-z0-9-]{1,30}")
_SCHEME = re.compile(_SLUG.pattern + r"|[a-z]{2}\.[a-z][a-z0-9_]{0,25}")
_ROLE = re.compile(r"[a-z][a-z_]{1,30}")
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]{0,250}[a-z0-9])?")
_COLOUR = re.compile(r"#[0-9a-f]{6}")
_PORT = r"(6553[0-5]|655[0-2]\d|65[0-4]\d\d|6[0-4]\d{3}|[1-5]\d{4}|[1-9]\d{0,3})"
_ENDPOINT = re.compile(r"[a-z0-9.-]{1,253}:" + _PORT, re.ASCII)
_MONGODB_HOST = r"[a-z0-9]([a-z0-9.-]{0,250}[a-z0-9])?(:" + _PORT + ")?"
#: Servers, a database that is not one of MongoDB's own, the name of a replica set. What else a
#: driver would take from an address (no TLS, weaker writes, a password) is not for a file to say.
_MONGODB = re.compile(
    rf"mongodb://{_MONGODB_HOST}(,{_MONGODB_HOST}){{0,49}}"
    r"/(?!(?:admin|config|local)(?:\?|$))[a-z][a-z0-9_-]{0,59}"
    r"(\?replicaSet=[A-Za-z0-9_-]{1,60})?",
    re.ASCII,
)
_MONGODB_USER = re.compile(r"[A-Za-z0-9._@-]{1,100}", re.ASCII)
_ADDRESS = re.compile(r"https://[a-z0-9.-]{1,253}(:" + _PORT + r")?", re.ASCII)
_MAILBOX = re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9.-]{1,253}", re.ASCII)
_WARD = re.compile(r"\S.{0,59}")
_LINE = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]*")
_SHORT_LINE = re.compile(_LINE.pattern.replace("*", "{0,200}"))
#: A number as it is dialled; no more signs than an address of the form tel: may be made from.
_PHONE = re.compile(r"(\+?[0-9][0-9 ()/.-]{1,38}[0-9])?", re.ASCII)
#: The tables of a tenant file.
_TABLES = frozenset(
    {
        "names",
        "colours",
        "identifiers",
        "database",
        "documents",
        "results",
        "retention",
        "passwords",
        "sessions",
        "second_factor",
        "access",
        "network",
        "approvals",
        "mail",
        "contact",
        "exchange",
    }
)
#: What a role's table may hold.
_ROLE_KEYS = frozenset(
    {
        "names",
        "permissions",
        "clinical",
        "treating",
        "second_factor",
        "idle_minutes",
        "absolute_minutes",
    }
)


def parse(
    file: str,
    data: Mapping[str, Any],
    contrast: Callable[[str, str], float],
) -> Tenant:
    """Return the tenant that ``data`` (a parsed TOML file) describes.

    ``contrast`` gives the WCAG contrast ratio of two colours. Raises
    ``ConfigurationError`` with every problem of the file at once.
    """
    reader = Reader(file, data)
    tenant = Tenant(
        id=reader.text("id", _SLUG, 'must be a lower-case slug such as "hospital"'),
        kind=_kind(reader),
        names=reader.names("names", reader.table("names")),
        hostnames=_hostnames(reader),
        colours=read_colours(reader, contrast),
        default_language=reader.text(
            "default_language", re.compile("|".join(LANGUAGES)), "must be en or pt", "en"
        ),
        time_zone=_time_zone(reader),
        demonstration=_flag(reader, "demonstration"),
        identifiers=_identifiers(reader),
        database_url=_database_url(reader),
        documents=_documents(reader),
        roles=_roles(reader),
        passwords=read_passwords(reader),
        sessions=read_sessions(reader),
        exchange=_exchange(reader),
        wards=reader.strings("wards", _WARD, "must be a list of names of 1 to 60 characters"),
        address=_address(reader),
        second_factor=read_second_factor(reader),
        access=_access(reader),
        results=_results(reader),
        retention=RetentionPolicy(
            reader.integer("retention.years", 20, 0, 150),
            reader.integer("retention.backup_days", 35, 3, 3650),
        ),
        staff_networks=_networks(reader),
        email_delay=timedelta(hours=reader.integer("approvals.email_delay_hours", 72, 1, 720)),
        mail=_mail(reader),
        contact=read_contact(reader),
        editable=frozenset(
            reader.strings(
                "editable",
                re.compile("|".join(EDITABLE)),
                f"must be a list of some of {', '.join(EDITABLE)}",
            )
        ),
    )
    for key in sorted(_keys(data) - reader.seen):
        reader.problem(key, "is not a known key")
    if reader.found:
        raise ConfigurationError(*reader.problems)
    return tenant


def read_passwords(reader: Reader) -> PasswordPolicy:
    """Return the table ``passwords``; what is malformed is noted and has its default."""
    return PasswordPolicy(
        reader.integer("passwords.minimum_length", 15, 8, 64),
        reader.integer("passwords.minimum_with_second_factor", 8, 8, 64),
        reader.integer("passwords.time_cost", 3, 1, 20),
        reader.integer("passwords.memory_kib", 65_536, 8, 4_194_304),
        reader.integer("passwords.parallelism", 1, 1, 16),
    )


def read_sessions(reader: Reader) -> SessionPolicy:
    """Return the table ``sessions``; what is malformed is noted and has its default."""
    return SessionPolicy(
        timedelta(minutes=reader.integer("sessions.idle_minutes", 30, 1, 1_440)),
        timedelta(minutes=reader.integer("sessions.absolute_minutes", 720, 5, 10_080)),
    )


def read_second_factor(reader: Reader) -> SecondFactorPolicy:
    """Return the table ``second_factor``; what is malformed is noted and has its default."""
    return SecondFactorPolicy(reader.flag("second_factor.remote_staff"))


def _access(reader: Reader) -> AccessPolicy:
    return AccessPolicy(
        timedelta(minutes=reader.integer("access.glass_minutes", 60, 5, 1_440)),
        timedelta(minutes=reader.integer("access.fresh_minutes", 10, 1, 720)),
    )


def _results(reader: Reader) -> ResultsPolicy:
    return ResultsPolicy(
        timedelta(minutes=reader.integer("results.critical_minutes", 60, 1, 1_440))
    )


def _documents(reader: Reader) -> Documents:
    stores = re.compile("sql|mongodb")
    hint = 'must be "sql" or "mongodb"'
    store = reader.text("documents.store", stores, hint, "sql")
    fallback = reader.optional("documents.fallback", stores, hint)
    if fallback and fallback == store:
        reader.problem("documents.fallback", "must be the store that documents.store is not")
    found = Documents(
        store=store,
        fallback=fallback,
        url=reader.optional(
            "documents.url",
            _MONGODB,
            "must be mongodb://HOST:PORT,.../DATABASE?replicaSet=NAME, without user and password; "
            "the connection is always TLS",
        ),
        user=reader.optional("documents.user", _MONGODB_USER, "must be a name of plain letters"),
        password_file=reader.optional("documents.password_file", _LINE, "must be a path"),
        ca_file=reader.optional("documents.ca_file", _LINE, "must be a path"),
    )
    needed = {"url": found.url, "user": found.user, "password_file": found.password_file}
    # One of them alone is a mistake too, whatever the store.
    if "mongodb" in {store, fallback} or any(needed.values()) or found.ca_file:
        for name in (name for name, value in needed.items() if not value):
            if f"documents.{name}" not in dict(reader.found):
                reader.problem(f"documents.{name}", "is needed for MongoDB")
    return found


def _keys(data: Mapping[str, Any]) -> set[str]:
    """Return the keys of a file with those of its tables; roles check their own."""
    inner = {
        f"{key}.{name}"
        for key, value in data.items()
        if isinstance(value, dict) and key != "roles"
        for name in value
    }
    # Of a table that is unknown itself, naming the table is enough.
    return set(data) | {key for key in inner if key.split(".")[0] in _TABLES}


def _identifiers(reader: Reader) -> IdentifierScheme:
    """Return the numbering scheme; whether python-stdnum knows it is the caller's to check."""
    hint = 'must name the numbering scheme: a slug, or one of python-stdnum such as "pt.cc"'
    name = reader.text("identifiers.scheme", _SCHEME, hint)
    if "." not in name:
        return IdentifierScheme(name, reader.integer("identifiers.digits", 8, 4, 20))
    reader.seen.add("identifiers.digits")
    if "digits" in reader.table("identifiers"):
        reader.problem("identifiers.digits", "is not used where python-stdnum has the scheme")
    return IdentifierScheme(re.sub("[._]", "-", name), 0, standard=name)


def _database_url(reader: Reader) -> str:
    hint = "must be a sqlite:/// or postgresql:// address"
    url = reader.text("database.url", re.compile(r"(sqlite:////?|postgresql://).+"), hint)
    try:
        # Reading the port looks at it.
        urlsplit(url).port  # noqa: B018
    except ValueError:
        reader.problem("database.url", f"{hint} (write signs of a password as %XX)")
    return url


def _kind(reader: Reader) -> Kind:
    value = reader.text("kind", re.compile("|".join(Kind)), "must be hospital or laboratory")
    return Kind(value) if value else Kind.HOSPITAL


def _time_zone(reader: Reader) -> str:
    hint = "must be a time zone such as Europe/Lisbon"
    name = reader.text("time_zone", re.compile(r"[A-Za-z_]+(/[A-Za-z_+-]+)*"), hint, "UTC")
    try:
        ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        reader.problem("time_zone", hint)
    return name


def _flag(reader: Reader, key: str) -> bool:
    reader.seen.add(key)
    value = reader.data.get(key, False)
    if not isinstance(value, bool):
        reader.problem(key, "must be true or false")
        return False
    return value


def _hostnames(reader: Reader) -> tuple[str, ...]:
    names = reader.strings("hostnames", _HOST, "must be a list of lower-case host names, no port")
    if not names and "hostnames" not in dict(reader.found):
        reader.problem("hostnames", "must name at least one host")
    return names


def read_colours(reader: Reader, contrast: Callable[[str, str], float]) -> Mapping[str, str]:
    """Return the table ``colours``, checked for contrast; what is malformed is empty."""
    keys = ("brand", "brand_text", "accent")
    colours = {
        key: reader.text(f"colours.{key}", _COLOUR, "must be a colour such as #1a2b3c")
        for key in keys
    }
    if all(colours.values()):
        if contrast(colours["brand"], colours["brand_text"]) < 4.5:
            reader.problem("colours", "brand_text on brand must have a contrast of 4.5 (WCAG AA)")
        if contrast(colours["accent"], "#ffffff") < 4.5:
            reader.problem("colours", "accent on white must have a contrast of 4.5 (WCAG AA)")
    return colours


def _roles(reader: Reader) -> Mapping[str, Role]:
    roles = {}
    for name, value in reader.table("roles").items():
        key = f"roles.{name}"
        if not _ROLE.fullmatch(name) or not isinstance(value, dict):
            reader.problem(key, "must be a table with a lower-case name")
            continue
        for unknown in sorted(set(value) - _ROLE_KEYS):
            reader.problem(f"{key}.{unknown}", "is not a known key")
        roles[name] = Role(
            id=name,
            names=reader.names(f"{key}.names", value.get("names")),
            grants=_grants(reader, key, value.get("permissions", {})),
            clinical=_role_flag(reader, f"{key}.clinical", value.get("clinical", False)),
            treating=_role_flag(reader, f"{key}.treating", value.get("treating", False)),
            second_factor=_role_flag(
                reader, f"{key}.second_factor", value.get("second_factor", False)
            ),
            sessions=_role_sessions(reader, key, value),
        )
    if not roles:
        reader.problem("roles", "must define at least one role")
    return roles


def _role_sessions(reader: Reader, key: str, value: Mapping[str, Any]) -> SessionPolicy | None:
    """Return the session lifetimes of a role that has its own; both are then to be given."""
    idle: Any = value.get("idle_minutes")
    absolute: Any = value.get("absolute_minutes")
    if idle is None and absolute is None:
        return None
    if _is_minutes(idle) and _is_minutes(absolute):
        return SessionPolicy(timedelta(minutes=idle), timedelta(minutes=absolute))
    reader.problem(
        key, "idle_minutes and absolute_minutes must both be whole numbers from 1 to 10080"
    )
    return None


def _is_minutes(value: Any) -> bool:
    return type(value) is int and 1 <= value <= 10_080


def _role_flag(reader: Reader, key: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    reader.problem(key, "must be true or false")
    return False


def _grants(reader: Reader, key: str, value: object) -> Mapping[Permission, Reach]:
    if not isinstance(value, dict):
        reader.problem(f"{key}.permissions", "must map permissions to any, assigned or own")
        return {}
    grants = {}
    for name, reach in value.items():
        try:
            grants[Permission(name)] = Reach(reach)
        except ValueError:
            reader.problem(
                f"{key}.permissions.{name}", "must be a known permission with any, assigned or own"
            )
    return grants


def _address(reader: Reader) -> str:
    """Return where people open the portal; the first host name, if the file does not say."""
    hostnames = reader.data.get("hostnames")
    hosts = hostnames if isinstance(hostnames, list) and hostnames else [""]
    hint = "must be an address such as https://portal.example"
    address = reader.text("address", _ADDRESS, hint, f"https://{hosts[0]}")
    known = "hostnames" not in dict(reader.found)
    # Links in mails begin so: people are sent to no host but the institution's own.
    if address and known and urlsplit(address).hostname not in hosts:
        reader.problem("address", "must be at one of the hostnames")
    return address


def _networks(reader: Reader) -> tuple[str, ...]:
    hint = "must be a list of networks such as 10.0.0.0/24"
    networks = reader.strings("network.staff", re.compile(r"[0-9a-f.:/]{2,60}"), hint)
    try:
        for network in networks:
            _require_plain(ipaddress.ip_network(network))
    except ValueError:
        reader.problem("network.staff", hint)
        return ()
    return networks


def _require_plain(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> None:
    """Raise ``ValueError`` for IPv4 addresses written as IPv6: they are compared as IPv4."""
    first = network.network_address
    if isinstance(first, ipaddress.IPv6Address) and first.ipv4_mapped is not None:
        raise ValueError


def _mail(reader: Reader) -> Mail | None:
    if not reader.table("mail"):
        return None
    if bool(reader.table("mail").get("user")) != bool(reader.table("mail").get("password_file")):
        reader.problem("mail", "user and password_file belong together: give both or neither")
    return Mail(
        server=reader.text("mail.server", _ENDPOINT, "must be host:port"),
        sender=reader.text("mail.sender", _MAILBOX, "must be a mail address"),
        implicit_tls=reader.flag("mail.implicit_tls"),
        ca_file=reader.optional("mail.ca_file", _LINE, "must be a path"),
        user=reader.optional("mail.user", _LINE, "must be one line"),
        password_file=reader.optional("mail.password_file", _LINE, "must be a path"),
    )


def read_contact(reader: Reader) -> Contact:
    """Return the table ``contact``; what is malformed is noted and empty."""
    return Contact(
        phone=reader.optional("contact.phone", _PHONE, "must be a number such as +351 210 000 000"),
        email=reader.optional(
            "contact.email", re.compile(f"({_MAILBOX.pattern})?"), "must be a mail address"
        ),
        address=reader.optional(
            "contact.address", _SHORT_LINE, "must be one line of at most 200 characters"
        ),
    )


def _exchange(reader: Reader) -> Exchange:
    if not reader.table("exchange"):
        return Exchange()
    hint = "must be host:port"
    return Exchange(
        reader.text("exchange.endpoint", _ENDPOINT, hint),
        reader.text("exchange.listen", _ENDPOINT, hint),
    )
