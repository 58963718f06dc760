"""Make an institution's keys and database; safe to run again."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from medportal.audit.append import append
from medportal.audit.events import Action, Event
from medportal.core.clock import utcnow
from medportal.core.errors import ConfigurationError
from medportal.keys import BOXES, GROUPS, Places, TenantKeys
from medportal.pki import ca
from medportal.pki.commands import Home
from medportal.pki.descriptors import export_descriptor
from medportal.pki.keystore import create_share
from medportal.pki.layout import Layout, load_profiles
from medportal.pki.partners import Partner, read_descriptor, trust
from medportal.pki.passphrases import create_passphrases, passphrase_path
from medportal.pki.profiles import Group, Purpose
from medportal.settings import Settings
from medportal.tenancy.registry import Database
from medportal.tenancy.schema import migrate
from medportal.tenancy.tenant import Tenant
from medportal.vault import keystore as vault_keystore
from medportal.vault.boxes import create_box_keys
from medportal.vault.passphrase import DEFAULT_COST, Cost

ACTOR = "process:command-line"


def create_keys(
    settings: Settings, tenant: Tenant, now: datetime, cost: Cost = DEFAULT_COST
) -> list[str]:
    """Make every key of an institution that is missing; return what was made.

    ``cost`` is what opening the files of the tenant key and of the boxes shall take.
    Raises ``ConfigurationError`` where keys are there and the passphrase that opens them is not.
    """
    places = Places(settings.home(tenant.id), settings.credentials)
    _require_passphrases(places)
    passphrases = create_passphrases(places.secrets, GROUPS)
    made = []
    if not Layout(places.pki).ca_certificate.exists():
        ca.init_ca(
            places.pki,
            tenant.id,
            tenant.names,
            passphrases[Group.CA],
            now,
            permitted_dns=tenant.hostnames,
        )
        made.append("certificate authority")
    issued = ca.issue_missing(
        places.pki, dns_names=tenant.hostnames, passphrases=passphrases, now=now
    )
    made.extend(str(purpose) for purpose in issued)
    create_share(places.pki, passphrases[Group.PAIR])
    if not places.keyring.exists():
        vault_keystore.create(places.keyring, passphrases[Group.PORTAL], cost, now)
        made.append("tenant key")
    for name, group in BOXES.items():
        if not (places.vault / f"{name}.key").exists():
            create_box_keys(places.vault, name, passphrases[group], cost)
            made.append(f"{name} keys")
    return made


def _require_passphrases(places: Places) -> None:
    """Refuse to make a passphrase anew for keys that another one opens."""
    problems = []
    for group in GROUPS:
        path = passphrase_path(places.secrets, group)
        locked = [key for key in _key_files(places, group) if key.exists()]
        if locked and not path.exists():
            problems.append(
                f"{path} is missing, and a new one would not open {locked[0]}: put the file back "
                "from where it is kept apart, or restore keys and passphrases from the same backup"
            )
    if problems:
        raise ConfigurationError(*problems)


def _key_files(places: Places, group: Group) -> list[Path]:
    """Return the files that tell that a group's keys have been made."""
    layout = Layout(places.pki)
    others = {
        # The authority's key may be kept offline; its certificate stays.
        Group.CA: [layout.ca_key, layout.ca_certificate],
        Group.PORTAL: [places.keyring],
        Group.PAIR: [layout.pair],
        Group.OUTBOX: [places.vault / "outbox.key"],
        Group.JOBS: [places.vault / "inbox.key"],
    }
    certified = [layout.key(purpose) for purpose in load_profiles().of_group(group)]
    return certified + others.get(group, [])


def renew_crl(settings: Settings, tenant: Tenant, now: datetime) -> bool:
    """Issue the next revocation list if it is due and the authority's key is here."""
    keys = TenantKeys(tenant, settings.home(tenant.id), (Group.CA,), settings.secrets(tenant.id))
    directory = keys.places.pki
    is_here = Group.CA in keys.passphrases and Layout(directory).ca_key.exists()
    if not is_here or not ca.crl_due(directory, now):
        return False
    ca.make_crl(directory, ca_passphrase=keys.passphrase(Group.CA), now=now)
    return True


def pki_home(settings: Settings, tenant: Tenant) -> Home:
    """Return what ``medportal pki`` needs of an institution; what it does is in the audit log."""
    directory = Places(settings.home(tenant.id)).pki

    def note(what: str, details: Mapping[str, str]) -> None:
        action = Action.CERTIFICATE_REVOKED if what == "revoked" else Action.CERTIFICATE_ISSUED
        database = Database(tenant)
        try:
            with database.writer() as session, session.begin():
                append(session, Event.create(action, now=utcnow(), actor=ACTOR, details=details))
        finally:
            database.dispose()

    edge = Places(settings.home(tenant.id)).edge
    secrets = settings.secrets(tenant.id)
    return Home(tenant.id, tenant.names, tenant.hostnames, directory, secrets, note, edge)


def migrate_database(tenant: Tenant) -> None:
    """Create a tenant's database or bring it to this code's schema."""
    engine = Database(tenant).unchecked()
    try:
        migrate(engine)
    finally:
        engine.dispose()


def descriptor_of(settings: Settings, tenant: Tenant, now: datetime) -> bytes:
    """Return an institution's signed descriptor, for its partners."""
    keys = TenantKeys(
        tenant, settings.home(tenant.id), (Group.EXCHANGE, Group.PAIR), settings.secrets(tenant.id)
    )
    return export_descriptor(
        keys.signer(Purpose.EXCHANGE),
        kind=tenant.kind,
        names=tenant.names,
        ca=keys.keystore.ca,
        endpoint=tenant.exchange.endpoint or None,
        share=keys.keystore.share_public(),
        now=now,
    )


def trust_each_other(settings: Settings, now: datetime) -> list[tuple[str, Partner]]:
    """Make the institutions of one demonstration machine partners of each other.

    Where people are involved two of them compare fingerprints (``medportal partner trust``);
    here all the keys were made by this program on this machine. Raises
    ``ConfigurationError`` for an institution that is no demonstration.
    """
    trusted = []
    for tenant in settings.tenants.values():
        if not tenant.demonstration:
            raise ConfigurationError(f"{tenant.id}: not a demonstration: compare fingerprints")
        for other in settings.tenants.values():
            if other.id != tenant.id:
                descriptor = read_descriptor(descriptor_of(settings, other, now), now)
                directory = Places(settings.home(tenant.id)).pki
                trusted.append((tenant.id, trust(directory, descriptor, now)))
    return trusted
