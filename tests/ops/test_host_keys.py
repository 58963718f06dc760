"""What each host is given: its own keys and passphrases, and nothing that opens others."""

import shutil
import subprocess
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from medportal.core.clock import utcnow
from medportal.core.errors import ConfigurationError
from medportal.keys import Places
from medportal.ops.hosts import HostRole, create_edge, export_host
from medportal.ops.institution import create_keys
from medportal.pki.errors import BadChain
from medportal.pki.layout import Layout
from medportal.pki.profiles import Purpose
from medportal.settings import parse_settings
from medportal.vault.errors import VaultError
from medportal.vault.keystore import load

NAME = "hosb.hospital.example"
INI = {
    "medportal.production": "false",
    "medportal.tenants": "hospital",
    "medportal.variable.exchange_port": "4000",
    "medportal.variable.mail_port": "2525",
    "medportal.variable.hospital_port": "8443",
    "medportal.variable.laboratory_port": "8444",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Give settings and tenant of an institution whose keys are made, the edge's too."""
    from medportal.pki.layout import PROFILES

    root = PROFILES.parents[1]
    state = tmp_path_factory.mktemp("hosts")
    raw = {"medportal.tenants_dir": str(root / "tenants"), "medportal.state_dir": str(state)}
    settings = parse_settings({**INI, **raw})
    tenant = settings.tenant("hospital")
    create_keys(settings, tenant, utcnow())
    said = create_edge(settings, tenant, [NAME], utcnow())
    assert said == ["edge authority", "portal's key", "edge's key"]
    assert create_edge(settings, tenant, [NAME], utcnow()) == []
    return settings, tenant


def files(directory):
    return {str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file()}


EXPECTED = {
    HostRole.EDGE: {"edge-ca.crt", "edge-ca.crl", "web.pem", "edge.pem", "edge.passphrase"},
    HostRole.RECEIVER: {
        "pki/ca.crt",
        "pki/ca.crl",
        "pki/keys/channel.pem",
        "pki/keys/exchange.pem",
        "pki/keys/receipt.pem",
        "pki/keys/pair.pem",
        "vault/inbox.pub",
        "secrets/exchange.passphrase",
        "secrets/pair.passphrase",
    },
    HostRole.SENDER: {
        "pki/ca.crt",
        "pki/ca.crl",
        "pki/keys/channel.pem",
        "pki/keys/exchange.pem",
        "pki/keys/receipt.pem",
        "vault/outbox.pub",
        "vault/outbox.key",
        "secrets/exchange.passphrase",
        "secrets/outbox.passphrase",
    },
}


@pytest.mark.parametrize("role", list(HostRole), ids=str)
def test_a_host_gets_its_keys_and_no_others(made, role, tmp_path):
    settings, tenant = made
    written = export_host(settings, tenant, role, tmp_path / "out")
    assert files(tmp_path / "out") == EXPECTED[role]
    assert {str(path.relative_to(tmp_path / "out")) for path in written} == EXPECTED[role]
    for path in written:
        public = path.suffix in {".crt", ".crl", ".pub"}
        assert path.stat().st_mode & 0o777 == (0o644 if public else 0o600)
    keyring = Places(settings.home("hospital")).keyring
    for path in written:
        if path.suffix == ".passphrase":
            with pytest.raises(VaultError):
                load(keyring, path.read_bytes().strip())


def test_the_edges_keys_open_with_its_own_passphrase(made, tmp_path):
    settings, tenant = made
    export_host(settings, tenant, HostRole.EDGE, tmp_path / "out")
    passphrase = (tmp_path / "out" / "edge.passphrase").read_bytes().strip()
    for name in ("web", "edge"):
        data = (tmp_path / "out" / f"{name}.pem").read_bytes()
        key = load_pem_private_key(data, passphrase)
        assert key.public_key() == x509.load_pem_x509_certificate(data).public_key()
    portal = (settings.home("hospital") / "secrets" / "portal.passphrase").read_bytes().strip()
    with pytest.raises(ValueError, match="password"):
        load_pem_private_key(data, portal)


@pytest.mark.parametrize(("days", "status"), [(0, 0), (30, 0), (364, 0), (366, 2)])
def test_the_edges_list_lasts_as_long_as_the_keys(made, tmp_path, want_present, days, status):
    """As nginx does it (``proxy_ssl_crl``): with a list that has ended, no portal is right."""
    want_present(shutil.which("openssl"), "openssl is not installed")
    settings, tenant = made
    export_host(settings, tenant, HostRole.EDGE, tmp_path)
    held = Layout(Places(settings.home("hospital")).edge).key(Purpose.WEB).read_bytes()
    portal = tmp_path / "portal.crt"
    portal.write_bytes(x509.load_pem_x509_certificate(held).public_bytes(Encoding.PEM))
    at = str(int((utcnow() + timedelta(days=days)).timestamp()))
    words = ["-crl_check", "-attime", at, "-CAfile", tmp_path / "edge-ca.crt"]
    words += ["-CRLfile", tmp_path / "edge-ca.crl", portal]
    done = subprocess.run(["openssl", "verify", *words], capture_output=True, text=True)
    assert done.returncode == status, done.stderr


def test_nothing_is_exported_into_a_directory_in_use(made, tmp_path):
    settings, tenant = made
    (tmp_path / "old").write_text("of another time")
    with pytest.raises(ConfigurationError, match="is not empty"):
        export_host(settings, tenant, HostRole.SENDER, tmp_path)


def test_the_edges_authority_certifies_no_other_name(made):
    settings, tenant = made
    edge = Places(settings.home("hospital")).edge
    (edge / "keys" / "web.pem").rename(edge / "keys" / "kept")
    try:
        with pytest.raises(BadChain):
            create_edge(settings, tenant, ["hospital.localhost"], utcnow())
    finally:
        (edge / "keys" / "kept").rename(edge / "keys" / "web.pem")


def test_credentials_are_of_one_institution(tmp_path):
    from medportal.pki.layout import PROFILES

    raw = {
        **INI,
        "medportal.tenants": "hospital laboratory",
        "medportal.tenants_dir": str(PROFILES.parents[1] / "tenants"),
        "medportal.state_dir": str(tmp_path),
        "medportal.credentials_dir": "/run/credentials/x.service",
    }
    with pytest.raises(ConfigurationError, match="one institution"):
        parse_settings(raw)
    settings = parse_settings({**raw, "medportal.tenants": "hospital"})
    assert str(settings.secrets("hospital")) == "/run/credentials/x.service"


@pytest.mark.parametrize(
    ("settings", "behind", "problem"),
    [
        ({"medportal.trusted_edges": "10.0.0.4"}, False, "an address alone"),
        ({}, True, "name the addresses"),
        ({"medportal.trusted_edges": " "}, True, "name the addresses"),
        ({"medportal.trusted_edges": "10.0.0.4"}, True, None),
        ({}, False, None),
        ({"medportal.trusted_edges": "::1", "medportal.production": "false"}, False, None),
    ],
)
def test_an_edge_is_believed_for_its_certificate(settings, behind, problem):
    from medportal.server import require_edges

    if problem is None:
        require_edges(settings, behind)
        return
    with pytest.raises(ConfigurationError, match=problem):
        require_edges(settings, behind)
