"""The Merkle tree against RFC 9162's own definitions, exhaustively for small trees."""

from hashlib import sha256

import pytest

from medportal.audit import merkle
from medportal.audit.errors import BadProof

MAX = 70
LEAVES = [merkle.leaf_hash(bytes([number])) for number in range(MAX)]


def mth(leaves: list[bytes]) -> bytes:
    """MTH of RFC 9162 section 2.1.1, by its recursive definition, over leaf hashes."""
    if not leaves:
        return sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha256(b"\x01" + mth(leaves[:k]) + mth(leaves[k:])).digest()


class Stored:
    """A tree with its complete nodes, grown a leaf at a time."""

    def __init__(self, size: int) -> None:
        self.nodes: dict[tuple[int, int], bytes] = {}
        self.lookups = 0
        self.frontiers = [merkle.Frontier()]
        for leaf in LEAVES[:size]:
            frontier, nodes = self.frontiers[-1].append(leaf)
            self.frontiers.append(frontier)
            for node in nodes:
                assert (node.level, node.index) not in self.nodes
                self.nodes[node.level, node.index] = node.hash

    def __call__(self, level: int, index: int) -> bytes:
        self.lookups += 1
        return self.nodes[level, index]


TREE = Stored(MAX)
ROOTS = [mth(LEAVES[:size]) for size in range(MAX + 1)]


def test_published_vectors() -> None:
    """Reference tree of Certificate Transparency (RFC 6962, whose hashing RFC 9162 keeps)."""
    data = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ]
    roots = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ]
    frontier = merkle.Frontier()
    found = [frontier.root().hex()]
    for item in data:
        frontier, _ = frontier.append(merkle.leaf_hash(bytes.fromhex(item)))
        found.append(frontier.root().hex())
    assert found == roots


@pytest.mark.parametrize("size", range(MAX + 1))
def test_roots(size: int) -> None:
    assert TREE.frontiers[size].root() == ROOTS[size]
    assert merkle.root_of(size, TREE) == ROOTS[size]
    assert merkle.frontier_of(size, TREE) == TREE.frontiers[size]


@pytest.mark.parametrize("size", range(1, MAX + 1))
def test_every_leaf_of_every_tree_is_proved(size: int) -> None:
    for index in range(size):
        proof = merkle.inclusion_proof(index, size, TREE)
        merkle.verify_inclusion(LEAVES[index], index, size, proof, ROOTS[size])


@pytest.mark.parametrize("size", range(1, 34))
def test_an_inclusion_proof_proves_nothing_else(size: int) -> None:
    for index in range(size):
        proof = merkle.inclusion_proof(index, size, TREE)
        forged: list[tuple[bytes, int, int, list[bytes], bytes]] = [
            (LEAVES[-1], index, size, proof, ROOTS[size]),
            (LEAVES[index], index, size, proof, ROOTS[size - 1]),
            (LEAVES[index], index, size, [*proof, LEAVES[0]], ROOTS[size]),
            (LEAVES[index], size, size, proof, ROOTS[size]),
            (LEAVES[index], -1, size, proof, ROOTS[size]),
            *((LEAVES[index], other, size, proof, ROOTS[size]) for other in _others(index, size)),
            *((LEAVES[index], index, size, p, ROOTS[size]) for p in _damaged(proof)),
        ]
        for arguments in forged:
            with pytest.raises(BadProof):
                merkle.verify_inclusion(*arguments)


@pytest.mark.parametrize("new", range(MAX + 1))
def test_every_growth_is_proved(new: int) -> None:
    for old in range(new + 1):
        proof = merkle.consistency_proof(old, new, TREE)
        merkle.verify_consistency(old, new, ROOTS[old], ROOTS[new], proof)


@pytest.mark.parametrize("new", range(1, 34))
def test_a_consistency_proof_proves_nothing_else(new: int) -> None:
    for old in range(1, new + 1):
        proof = merkle.consistency_proof(old, new, TREE)
        other = merkle.leaf_hash(b"another log")
        forged: list[tuple[int, int, bytes, bytes, list[bytes]]] = [
            (old, new, other, ROOTS[new], proof),
            (old, new, ROOTS[old], other, proof),
            (old, new, ROOTS[old], ROOTS[new], [*proof, other]),
            *((old, new, ROOTS[old], ROOTS[new], p) for p in _damaged(proof)),
        ]
        for arguments in forged:
            with pytest.raises(BadProof):
                merkle.verify_consistency(*arguments)


def test_consistency_of_odd_sizes() -> None:
    merkle.verify_consistency(0, 5, merkle.EMPTY_ROOT, ROOTS[5], [])
    for arguments in [
        (0, 5, ROOTS[1], ROOTS[5], []),
        (0, 5, merkle.EMPTY_ROOT, ROOTS[5], [LEAVES[0]]),
        (6, 5, ROOTS[6], ROOTS[5], [LEAVES[0]]),
        (-1, 5, ROOTS[1], ROOTS[5], [LEAVES[0]]),
        (-1, -1, ROOTS[1], ROOTS[1], []),
        (3, 5, ROOTS[3], ROOTS[5], []),
    ]:
        with pytest.raises(BadProof):
            merkle.verify_consistency(*arguments)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (5, 5), (-1, 5)])
def test_a_leaf_that_is_not_there_has_no_proof(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="no such leaf"):
        merkle.inclusion_proof(index, size, TREE)


@pytest.mark.parametrize(("old", "new"), [(5, 4), (-1, 4)])
def test_a_log_does_not_shrink(old: int, new: int) -> None:
    with pytest.raises(ValueError, match="shrink"):
        merkle.consistency_proof(old, new, TREE)


def test_proofs_look_up_few_nodes() -> None:
    tree = Stored(MAX)
    for size in range(1, MAX + 1):
        for index in range(size):
            tree.lookups = 0
            merkle.inclusion_proof(index, size, tree)
            merkle.consistency_proof(index, size, tree)
            assert tree.lookups <= 4 * size.bit_length()


def _others(index: int, size: int) -> list[int]:
    return [other for other in range(size) if other != index]


def _damaged(proof: list[bytes]) -> list[list[bytes]]:
    """Return the proof with each step changed, left out, and with neighbours exchanged."""
    damaged = []
    for place, step in enumerate(proof):
        flipped = bytes([step[0] ^ 1]) + step[1:]
        damaged.append([*proof[:place], flipped, *proof[place + 1 :]])
        damaged.append([*proof[:place], *proof[place + 1 :]])
        if place:
            damaged.append(
                [*proof[: place - 1], proof[place], proof[place - 1], *proof[place + 1 :]]
            )
    return damaged
