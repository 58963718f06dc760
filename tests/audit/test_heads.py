"""Heads: signed twice, checked with nothing but the authority's certificate."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from medportal.audit import heads, merkle
from medportal.audit.errors import BadProof, BadSignature, MalformedHead
from medportal.audit.heads import Credential, Head, HeadSigner, SignedHead
from medportal.core import canonical

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HEAD = Head("hospital", 7, bytes(range(32)), NOW)


def verify(signed: SignedHead, authority: Any, tenant: str = "hospital") -> Head:
    return heads.verify_head(signed, tenant=tenant, trust=authority.trust)


def test_a_signed_head_survives_its_bytes_and_verifies(signer: HeadSigner, authority: Any) -> None:
    signed = SignedHead.from_bytes(signer.sign(HEAD).to_bytes())
    assert verify(signed, authority) == HEAD
    assert [item.algorithm for item in signed.signatures] == ["Ed25519", "ML-DSA-65"]


def test_the_head_of_another_institution_is_refused(signer: HeadSigner, authority: Any) -> None:
    with pytest.raises(BadSignature, match="another institution"):
        verify(signer.sign(HEAD), authority, tenant="laboratory")


def test_another_authority_is_refused(signer: HeadSigner, stranger: Any) -> None:
    with pytest.raises(BadSignature, match="not issued"):
        verify(signer.sign(HEAD), stranger)


@pytest.mark.parametrize(
    "changed",
    [
        {"size": 8},
        {"root": bytes(32)},
        {"at": NOW + timedelta(microseconds=1)},
    ],
)
def test_a_changed_head_does_not_verify(
    signer: HeadSigner, authority: Any, changed: dict[str, Any]
) -> None:
    signed = signer.sign(HEAD)
    with pytest.raises(BadSignature, match="does not hold"):
        verify(replace(signed, head=replace(HEAD, **changed)), authority)


@pytest.mark.parametrize("which", [0, 1])
def test_each_signature_is_needed_and_must_hold(
    signer: HeadSigner, authority: Any, which: int
) -> None:
    signed = signer.sign(HEAD)
    items = list(signed.signatures)
    with pytest.raises(BadSignature, match="carries one"):
        verify(replace(signed, signatures=tuple(items[:which] + items[which + 1 :])), authority)
    value = items[which].value
    items[which] = replace(items[which], value=bytes([value[0] ^ 1]) + value[1:])
    with pytest.raises(BadSignature, match="does not hold"):
        verify(replace(signed, signatures=tuple(items)), authority)


def test_a_signature_cannot_stand_in_for_the_other(signer: HeadSigner, authority: Any) -> None:
    signed = signer.sign(HEAD)
    first, second = signed.signatures
    for signatures in [(second, first), (first, first), (first, second, second)]:
        with pytest.raises(BadSignature, match="carries one"):
            verify(replace(signed, signatures=signatures), authority)
    forged = replace(first, algorithm=heads.ML_DSA_65)
    with pytest.raises(BadSignature):
        verify(replace(signed, signatures=(first, forged)), authority)


def test_a_certificate_of_the_other_algorithm_is_refused(
    signer: HeadSigner, authority: Any
) -> None:
    odd = authority.signer(heads.ED25519, purpose=heads.ML_DSA_65)
    signed = signer.sign(HEAD)
    forged = replace(signed.signatures[1], credential=Credential(odd.chain_der, None))
    with pytest.raises(BadSignature, match="another algorithm"):
        verify(replace(signed, signatures=(signed.signatures[0], forged)), authority)


def test_the_key_id_must_name_the_key(signer: HeadSigner, authority: Any) -> None:
    signed = signer.sign(HEAD)
    first, second = signed.signatures
    forged = (replace(first, key_id="0" * 32), second)
    with pytest.raises(BadSignature, match="key id"):
        verify(replace(signed, signatures=forged), authority)


def test_a_signer_has_both_algorithms(signer: HeadSigner) -> None:
    with pytest.raises(BadSignature):
        HeadSigner("hospital", signer.post_quantum, signer.classical).sign(HEAD)


@pytest.mark.parametrize(
    "changes",
    [
        {"v": 2},
        {"tenant": 5},
        {"size": -1},
        {"size": True},
        {"size": "7"},
        {"root": b"short"},
        {"root": "text"},
        {"at": "now"},
        {"at": 2**63},
        {"more": 1},
    ],
)
def test_other_bytes_are_no_head(changes: dict[str, Any]) -> None:
    fields = canonical.decode(HEAD.to_bytes())
    with pytest.raises(MalformedHead):
        Head.from_bytes(canonical.encode({**fields, **changes}))


@pytest.mark.parametrize("data", [b"", b"\x80", canonical.encode([]), canonical.encode({})])
def test_noise_is_no_head(data: bytes) -> None:
    for read in (Head.from_bytes, SignedHead.from_bytes, Credential.from_bytes):
        with pytest.raises(MalformedHead):
            read(data)


@pytest.mark.parametrize(
    "parts",
    [
        ["another label", HEAD.to_bytes(), []],
        [heads.LABEL, "text", []],
        [heads.LABEL, b"", []],
        [heads.LABEL, HEAD.to_bytes(), [[1, "k", b"v", [], None]]],
        [heads.LABEL, HEAD.to_bytes(), [["a", 1, b"v", [], None]]],
        [heads.LABEL, HEAD.to_bytes(), [["a", "k", "v", [], None]]],
        [heads.LABEL, HEAD.to_bytes(), [["a", "k", b"v", b"", None]]],
        [heads.LABEL, HEAD.to_bytes(), [["a", "k", b"v", ["x"], None]]],
        [heads.LABEL, HEAD.to_bytes(), [["a", "k", b"v", [], "x"]]],
        [heads.LABEL, HEAD.to_bytes(), [["a", "k", b"v", []]]],
        [heads.LABEL, HEAD.to_bytes(), [5]],
        [heads.LABEL, HEAD.to_bytes(), 5],
    ],
)
def test_other_bytes_are_no_signed_head(parts: list[Any]) -> None:
    with pytest.raises(MalformedHead):
        SignedHead.from_bytes(canonical.encode(parts))


@pytest.mark.parametrize("value", [[[], None, 1], [None, None], [[], 1]])
def test_other_bytes_are_no_credential(value: list[Any]) -> None:
    with pytest.raises(MalformedHead):
        Credential.from_bytes(canonical.encode(value))


def test_a_credential_survives_its_bytes() -> None:
    for credential in (Credential((b"leaf",), None), Credential((b"leaf", b"ca"), b"crl")):
        assert Credential.from_bytes(credential.to_bytes()) == credential


def test_a_longer_head_must_continue_the_shorter() -> None:
    frontier = merkle.Frontier()
    nodes: dict[tuple[int, int], bytes] = {}
    made = [Head("hospital", 0, frontier.root(), NOW)]
    for number in range(5):
        frontier, completed = frontier.append(merkle.leaf_hash(bytes([number])))
        nodes.update({(node.level, node.index): node.hash for node in completed})
        made.append(Head("hospital", frontier.size, frontier.root(), NOW))
    proof = merkle.consistency_proof(3, 5, lambda level, index: nodes[level, index])
    heads.check_extends(made[3], made[5], proof)
    with pytest.raises(BadProof, match="shorter"):
        heads.check_extends(made[5], made[3], proof)
    with pytest.raises(BadProof, match="two institutions"):
        heads.check_extends(replace(made[3], tenant="laboratory"), made[5], proof)
    with pytest.raises(BadProof, match="not consistent"):
        heads.check_extends(replace(made[3], root=bytes(32)), made[5], proof)
