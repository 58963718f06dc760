"""Which keys each process can open: every key file tried with every passphrase that it reads."""

import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import pytest
from functional_helpers import PORTS

from medportal.config import PORTAL_GROUPS
from medportal.core.clock import utcnow
from medportal.core.errors import ConfigurationError
from medportal.jobs import JOBS_GROUPS
from medportal.keys import GROUPS, Places, TenantKeys
from medportal.ops.institution import create_keys, descriptor_of, renew_crl
from medportal.ops.transfer import RECEIVER_GROUPS, SENDER_GROUPS
from medportal.pki import errors as pki
from medportal.pki.files import read_private
from medportal.pki.keyfiles import from_pem
from medportal.pki.keystore import KeyStore
from medportal.pki.layout import Layout
from medportal.pki.passphrases import load_passphrases
from medportal.pki.profiles import Group, Purpose, speaks_tls
from medportal.server import _web_tls
from medportal.settings import Settings, parse_settings
from medportal.vault import errors as vault
from medportal.vault.boxes import load_private
from medportal.vault.keystore import load as load_keyring

PURPOSES = [purpose for purpose in Purpose if purpose is not Purpose.EDGE]


def _pem(path: Path, passphrase: bytes) -> object:
    return from_pem(read_private(path), passphrase, str(path))


def openers(places: Places) -> dict[str, Callable[[bytes], object]]:
    """Return what opens each key of an institution with a passphrase."""
    layout = Layout(places.pki)
    return {
        **{str(purpose): partial(_pem, layout.key(purpose)) for purpose in PURPOSES},
        "pair": partial(_pem, layout.pair),
        "ca": partial(_pem, layout.ca_key),
        "vault": partial(load_keyring, places.keyring),
        "inbox": partial(load_private, places.vault, "inbox"),
        "outbox": partial(load_private, places.vault, "outbox"),
    }


def opens(opener: Callable[[bytes], object], passphrase: bytes) -> bool:
    try:
        opener(passphrase)
    except (pki.WrongPassphrase, vault.WrongPassphrase):
        return False
    return True


@pytest.fixture
def settings(key_material: Path, tmp_path: Path) -> Settings:
    """An institution with every key, in a directory of the test's own."""
    state = tmp_path / "state"
    shutil.copytree(key_material, state)
    return parse_settings(
        {
            "medportal.production": "false",
            "medportal.tenants": "hospital laboratory",
            "medportal.tenants_dir": str(Path(__file__).parents[2] / "tenants"),
            "medportal.state_dir": str(state),
            **{f"medportal.variable.{name}": port for name, port in PORTS.items()},
        }
    )


@pytest.fixture(scope="module")
def opened_by(key_material: Path) -> Mapping[str, set[str]]:
    """Group -> the keys that its passphrase opens."""
    places = Places(key_material / "hospital")
    return {
        group: {name for name, opener in openers(places).items() if opens(opener, passphrase)}
        for group, passphrase in load_passphrases(places.secrets, GROUPS).items()
    }


def keys_of(settings: Settings, groups: tuple[Group, ...]) -> TenantKeys:
    return TenantKeys(settings.tenant("hospital"), settings.home("hospital"), groups)


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (PORTAL_GROUPS, {"web", "record", "vault", "pair"}),
        (SENDER_GROUPS, {"channel", "exchange", "receipt", "outbox"}),
        (RECEIVER_GROUPS, {"channel", "exchange", "receipt", "pair"}),
        (JOBS_GROUPS, {"web", "record", "vault", "pair", "head", "head-pq", "inbox"}),
    ],
    ids=["portal", "sender", "receiver", "jobs"],
)
def test_a_process_opens_its_own_keys_and_no_others(settings, opened_by, groups, expected):
    assert set(keys_of(settings, groups).passphrases) == set(groups)
    assert set().union(*(opened_by[group] for group in groups)) == expected


def test_every_key_is_of_one_group(opened_by):
    found = sorted(name for names in opened_by.values() for name in names)
    assert found == sorted([*PURPOSES, "pair", "ca", "vault", "inbox", "outbox"])


@pytest.mark.parametrize(
    ("groups", "refused"),
    [
        (PORTAL_GROUPS, ["channel", "exchange", "receipt", "head", "head-pq", "outbox", "inbox"]),
        (SENDER_GROUPS, ["web", "record", "head", "head-pq", "pair", "inbox", "vault"]),
        (RECEIVER_GROUPS, ["web", "record", "head", "head-pq", "outbox", "inbox", "vault"]),
        (JOBS_GROUPS, ["channel", "exchange", "receipt", "outbox"]),
    ],
    ids=["portal", "sender", "receiver", "jobs"],
)
def test_a_process_that_asks_for_anothers_key_is_told_so(settings, groups, refused):
    keys = keys_of(settings, groups)
    store: KeyStore = keys.keystore
    asked: dict[str, Callable[[], object]] = {
        **{p: partial(store.credentials if speaks_tls(p) else store.signer, p) for p in PURPOSES},
        "pair": keys.partner_keys,
        "outbox": partial(keys.open_outgoing, b"", b""),
        "inbox": partial(keys.open_incoming, b"", b""),
        "vault": lambda: keys.vault,
    }
    for name in refused:
        with pytest.raises((pki.WrongPassphrase, ConfigurationError), match="passphrase"):
            asked[name]()


@pytest.mark.parametrize("groups", [PORTAL_GROUPS, SENDER_GROUPS, RECEIVER_GROUPS, JOBS_GROUPS])
def test_a_start_finds_passphrases_where_the_service_manager_puts_them(settings, tmp_path, groups):
    home = settings.home("hospital")
    keys = TenantKeys(settings.tenant("hospital"), home, groups, tmp_path / "credentials")
    (home / "secrets").rename(tmp_path / "credentials")
    keys.require()
    (tmp_path / "credentials" / f"{groups[0]}.passphrase").unlink()
    again = TenantKeys(settings.tenant("hospital"), home, groups, tmp_path / "credentials")
    with pytest.raises(ConfigurationError, match=f"credentials/{groups[0]}.passphrase is missing"):
        again.require()


# Making keys where there are some.


def test_making_keys_again_makes_nothing(settings):
    assert create_keys(settings, settings.tenant("hospital"), utcnow()) == []


@pytest.mark.parametrize("group", GROUPS)
def test_no_useless_passphrase_is_made_where_one_was_taken_away(settings, group):
    tenant, places = settings.tenant("hospital"), Places(settings.home("hospital"))
    path = places.secrets / f"{group}.passphrase"
    kept = path.read_bytes()
    path.unlink()
    with pytest.raises(ConfigurationError, match=rf"{group}\.passphrase is missing") as caught:
        create_keys(settings, tenant, utcnow())
    assert len(caught.value.problems) == 1
    assert not path.exists()
    path.write_bytes(kept)
    path.chmod(0o600)
    assert create_keys(settings, tenant, utcnow()) == []


def test_every_missing_passphrase_is_named_at_once(settings):
    places = Places(settings.home("hospital"))
    for path in places.secrets.glob("*.passphrase"):
        path.unlink()
    with pytest.raises(ConfigurationError) as caught:
        create_keys(settings, settings.tenant("hospital"), utcnow())
    assert len(caught.value.problems) == len(GROUPS)


def test_an_authority_whose_key_is_kept_offline_is_not_replaced(settings):
    """Its certificate is there: a new passphrase would open nothing, here or offline."""
    tenant, places = settings.tenant("hospital"), Places(settings.home("hospital"))
    (places.secrets / "ca.passphrase").unlink()
    Layout(places.pki).ca_key.unlink()
    with pytest.raises(ConfigurationError, match=r"ca\.passphrase is missing"):
        create_keys(settings, tenant, utcnow())
    assert renew_crl(settings, tenant, utcnow()) is False


def test_a_group_whose_keys_were_never_made_gets_them(settings):
    tenant, places = settings.tenant("hospital"), Places(settings.home("hospital"))
    for path in (places.secrets / "outbox.passphrase", *places.vault.glob("outbox.*")):
        path.unlink()
    assert create_keys(settings, tenant, utcnow()) == ["outbox keys"]


def test_what_starts_processes_reads_no_more_than_they_do(settings, tmp_path):
    """The opened web key and the revocation list are made by processes of one group each."""
    places = Places(settings.home("hospital"))
    for group in set(GROUPS) - {Group.PORTAL, Group.CA}:
        (places.secrets / f"{group}.passphrase").write_bytes(b"short")
    assert _web_tls(settings, "hospital", tmp_path)["ssl_key"].exists()
    assert renew_crl(settings, settings.tenant("hospital"), utcnow()) is False
    with pytest.raises(pki.KeyFileUnfit, match="fewer than 16"):
        descriptor_of(settings, settings.tenant("hospital"), utcnow())


def test_a_group_of_which_nothing_is_known_is_refused(settings):
    with pytest.raises(ConfigurationError, match="no process is started with keys of the group ca"):
        keys_of(settings, (Group.CA,)).require()


@pytest.mark.parametrize(
    ("groups", "purposes", "lost"),
    [
        (PORTAL_GROUPS, (Purpose.RECORD, Purpose.WEB), Purpose.RECORD),
        (PORTAL_GROUPS, (Purpose.RECORD, Purpose.WEB), Purpose.WEB),
        (RECEIVER_GROUPS, (Purpose.RECEIPT,), Purpose.RECEIPT),
        (SENDER_GROUPS, (), Purpose.CHANNEL),
        (JOBS_GROUPS, (), Purpose.HEAD_PQ),
    ],
)
def test_a_start_asks_for_every_key_that_the_process_signs_with(settings, groups, purposes, lost):
    keys_of(settings, groups).require(*purposes)
    Layout(Places(settings.home("hospital")).pki).key(lost).unlink()
    with pytest.raises(ConfigurationError, match=str(lost)):
        keys_of(settings, groups).require(*purposes)
