"""Heads under certificates of the institution's real authority."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from medportal.audit import heads
from medportal.audit.heads import Credential, Head, HeadSigner, SignedHead, TrustChain
from medportal.core.errors import MedportalError
from medportal.pki import ca as authority
from medportal.pki.keystore import KeyStore
from medportal.pki.layout import load_profiles
from medportal.pki.profiles import Group, Purpose
from medportal.pki.verify import verify_leaf

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PASSPHRASES: dict[str, bytes] = {Group.CA: b"of the authority", Group.JOBS: b"of the jobs"}
PURPOSES = {heads.ED25519: Purpose.HEAD, heads.ML_DSA_65: Purpose.HEAD_PQ}
HEAD = Head("hospital", 7, bytes(range(32)), NOW + timedelta(minutes=5))


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyStore:
    directory: Path = tmp_path_factory.mktemp("hospital") / "pki"
    names = {"en": "Saint Example Hospital"}
    authority.init_ca(directory, "hospital", names, PASSPHRASES[Group.CA], NOW)
    for purpose in PURPOSES.values():
        authority.issue(
            directory,
            purpose,
            ca_passphrase=PASSPHRASES[Group.CA],
            group_passphrase=PASSPHRASES[Group.JOBS],
            now=NOW,
        )
    return KeyStore(directory, PASSPHRASES)


def trust_in(keys: KeyStore) -> TrustChain:
    """Return what a holder of the authority's certificate trusts."""

    def trust(credential: Credential, *, algorithm: str, tenant: str, at: datetime) -> Any:
        leaf = verify_leaf(
            credential.chain,
            ca=keys.ca,
            crl_der=credential.crl,
            purpose=PURPOSES[algorithm],
            institution=tenant,
            now=at,
            crl_limits=load_profiles().crl_limits,
        )
        return leaf.public_key

    return trust


def head_signer(keys: KeyStore) -> HeadSigner:
    return HeadSigner("hospital", keys.signer(Purpose.HEAD), keys.signer(Purpose.HEAD_PQ))


def test_a_head_verifies_from_its_bytes_and_the_authority_alone(keys: KeyStore) -> None:
    signed = SignedHead.from_bytes(head_signer(keys).sign(HEAD).to_bytes())
    assert heads.verify_head(signed, tenant="hospital", trust=trust_in(keys)) == HEAD


def test_a_head_from_before_the_certificates_is_refused(keys: KeyStore) -> None:
    signed = head_signer(keys).sign(replace(HEAD, at=NOW - timedelta(days=400)))
    with pytest.raises(MedportalError):
        heads.verify_head(signed, tenant="hospital", trust=trust_in(keys))


def test_the_purpose_of_a_key_counts(keys: KeyStore) -> None:
    signed = head_signer(keys).sign(HEAD)
    first, second = signed.signatures
    swapped = (replace(first, credential=second.credential), second)
    with pytest.raises(MedportalError):
        heads.verify_head(
            replace(signed, signatures=swapped), tenant="hospital", trust=trust_in(keys)
        )
