"""One signature for many things said together, each of which can be verified alone (PURE).

What is said in one go becomes the leaves of a Merkle tree (RFC 9162, section 2.1; the code is that
of the audit log, which hashes leaves and inner nodes under different first bytes). The root is
signed once; each thing then carries its place in the tree, the path to the root, and that
signature. A path has at most six hashes, because a batch has at most :data:`MOST` leaves.

Of a statement everything is in its leaf: label, algorithm, key id and what it says. The signature
covers canonical ``["medportal signed batch 1", label, algorithm, key id, size, root]``, so it
passes for no other kind of signature, and not for a batch of another kind. What ties a statement
to a session, a receiver or a record is a field of the statement itself.

Verification, numbered as in the code:

1. The statement's label is the expected one.
2. Algorithm and key id are those of the certified key, whose certificate the caller verified.
3. The leaf leads to the root, at the place and by exactly the path that its batch's size asks for.
4. The signature over the root fits. It is computed once for a batch: :class:`Seen` remembers the
   few last ones that did fit.
5. The payload is a canonical map.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medportal.audit.errors import BadProof
from medportal.audit.merkle import (
    HASH_LENGTH,
    Frontier,
    inclusion_proof,
    leaf_hash,
    verify_inclusion,
)
from medportal.core import canonical
from medportal.pki import errors
from medportal.pki.profiles import meaning
from medportal.pki.signatures import MAX_STATEMENT_BYTES, verify_signature
from medportal.pki.signers import Signer
from medportal.pki.verify import VerifiedLeaf

MOST = 64
"""How many things one signature may cover."""

MAX_PATH = HASH_LENGTH * (MOST - 1).bit_length()
"""Greatest length of a path in bytes."""

REMEMBER = 8
"""How many batches of one connection are remembered as verified."""

_FORMAT = "medportal signed batch 1"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a leaf stands: number ``index`` of ``size``, and the hashes from it to ``root``."""

    index: int
    size: int
    path: bytes = field(repr=False)
    root: bytes = field(repr=False)

    def check(self, leaf: bytes) -> None:
        """Return if the bytes of a leaf have this place. Raises ``BadProof``."""
        if not 1 <= self.size <= MOST or len(self.path) > MAX_PATH or len(self.path) % HASH_LENGTH:
            raise BadProof("a batch or a path of a size that there is not")
        path = [self.path[at : at + HASH_LENGTH] for at in range(0, len(self.path), HASH_LENGTH)]
        verify_inclusion(leaf_hash(leaf), self.index, self.size, path, self.root)


def places(leaves: Sequence[bytes]) -> list[Place]:
    """Return the place of each leaf in the tree of them all, of one to :data:`MOST`."""
    size = len(leaves)
    if not 1 <= size <= MOST:
        raise ValueError("a batch of a size that there is not")
    tree = Frontier()
    nodes: dict[tuple[int, int], bytes] = {}
    for leaf in leaves:
        tree, made = tree.append(leaf_hash(leaf))
        nodes.update(((node.level, node.index), node.hash) for node in made)
    root = tree.root()

    def lookup(level: int, index: int) -> bytes:
        return nodes[level, index]

    return [
        Place(index, size, b"".join(inclusion_proof(index, size, lookup)), root)
        for index in range(size)
    ]


class Seen:
    """A few batches whose signature was found to fit, for one connection.

    With one more than :data:`REMEMBER` all are forgotten, and verified again when they come again.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._covered: dict[tuple[str, bytes, bytes], None] = {}

    def verify(self, leaf: VerifiedLeaf, signature: bytes, covered: bytes) -> None:
        """Return if ``signature`` fits, by computation or memory. Raises ``BadSignature``."""
        name = (leaf.key_id, signature, covered)
        if name in self._covered:
            return
        verify_signature(leaf, signature, covered)
        if len(self._covered) >= REMEMBER:
            self._covered.clear()
        self._covered[name] = None


@dataclass(frozen=True, slots=True)
class Batched:
    """A statement signed with others, as it arrives: nothing in it is verified yet."""

    label: str
    algorithm: str
    key_id: str
    payload: bytes
    place: Place
    signature: bytes
    chain_der: tuple[bytes, ...]
    crl_der: bytes

    def to_bytes(self) -> bytes:
        """Return the canonical bytes to store or send."""
        return canonical.encode(
            {
                "format": _FORMAT,
                "label": self.label,
                "alg": self.algorithm,
                "kid": self.key_id,
                "payload": self.payload,
                "index": self.place.index,
                "size": self.place.size,
                "path": self.place.path,
                "root": self.place.root,
                "signature": self.signature,
                "chain": self.chain_der,
                "crl": self.crl_der,
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "Batched":
        """Return the statement in ``data``. Raises ``MalformedStatement``."""
        if len(data) > MAX_STATEMENT_BYTES:
            raise errors.MalformedStatement("the statement is too large")
        try:
            return cls._from_map(canonical.decode(data))
        except canonical.NotCanonical as error:
            raise errors.MalformedStatement("the statement is not canonical CBOR") from error

    @classmethod
    def _from_map(cls, value: Any) -> "Batched":
        if not isinstance(value, dict) or value.keys() != _TYPES.keys():
            raise errors.MalformedStatement("not the members of a statement of a batch")
        if any(type(value[name]) is not kind for name, kind in _TYPES.items()):
            raise errors.MalformedStatement("a member of another type than it should have")
        if value["format"] != _FORMAT or any(type(each) is not bytes for each in value["chain"]):
            raise errors.MalformedStatement("not a statement of a batch of this version")
        return cls(
            label=value["label"],
            algorithm=value["alg"],
            key_id=value["kid"],
            payload=value["payload"],
            place=Place(value["index"], value["size"], value["path"], value["root"]),
            signature=value["signature"],
            chain_der=tuple(value["chain"]),
            crl_der=value["crl"],
        )


_TYPES: Mapping[str, type] = {
    "format": str,
    "label": str,
    "alg": str,
    "kid": str,
    "payload": bytes,
    "index": int,
    "size": int,
    "path": bytes,
    "root": bytes,
    "signature": bytes,
    "chain": list,
    "crl": bytes,
}


def sign_batch(
    signer: Signer, label: str, batch: Sequence[Mapping[str, object]], *, bare: bool = False
) -> list[Batched]:
    """Return the fields of each statement signed under ``label``, all with one signature.

    ``bare`` statements go without chain and list, for a reader who has verified those before.
    Raises ``NotCanonical`` for fields that are not plain data, ``ValueError`` for more than
    :data:`MOST` of them or for none.
    """
    algorithm, kid = str(signer.algorithm), signer.key_id
    payloads = [canonical.encode(dict(fields)) for fields in batch]
    stand = places([_leaf(label, algorithm, kid, payload) for payload in payloads])
    signature = signer.sign(_covered(label, algorithm, kid, stand[0]))
    chain, crl = ((), b"") if bare else (signer.chain_der, signer.crl_der)
    return [
        Batched(label, algorithm, kid, payload, place, signature, chain, crl)
        for payload, place in zip(payloads, stand, strict=True)
    ]


def check_batched(said: Batched, label: str, leaf: VerifiedLeaf, seen: Seen) -> dict[str, Any]:
    """Return the fields of a statement by the key of a verified leaf; see the module.

    The chain that it carries is not looked at: ``leaf`` stands for it. Raises a ``PkiError``.
    """
    if said.label != label:  # (1)
        raise errors.WrongLabel("a statement of another kind")
    if said.algorithm != meaning(leaf.purpose).algorithm:  # (2)
        raise errors.WrongAlgorithm("not the algorithm of this purpose")
    if said.key_id != leaf.key_id:  # (2)
        raise errors.WrongKey("not the key that is certified")
    try:
        said.place.check(_leaf(label, said.algorithm, said.key_id, said.payload))  # (3)
    except BadProof as error:
        raise errors.BadSignature("the statement has no place in the batch") from error
    covered = _covered(label, said.algorithm, said.key_id, said.place)
    seen.verify(leaf, said.signature, covered)  # (4)
    return _fields(said.payload)  # (5)


def _leaf(label: str, algorithm: str, kid: str, payload: bytes) -> bytes:
    return canonical.encode([_FORMAT, "leaf", label, algorithm, kid, payload])


def _covered(label: str, algorithm: str, kid: str, place: Place) -> bytes:
    return canonical.encode([_FORMAT, label, algorithm, kid, place.size, place.root])


def _fields(payload: bytes) -> dict[str, Any]:
    try:
        fields = canonical.decode(payload)
    except canonical.NotCanonical as error:
        raise errors.MalformedStatement("the payload is not canonical CBOR") from error
    if not isinstance(fields, dict):
        raise errors.MalformedStatement("the payload is not a map")
    return fields
