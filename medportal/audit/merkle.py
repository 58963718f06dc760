"""The Merkle tree of RFC 9162, section 2 (PURE).

``MTH`` of no leaves is SHA-256 of nothing; a leaf is hashed with a leading 0x00, an inner
node with a leading 0x01. Node ``(level, index)`` covers the leaves from ``index * 2**level``
up to the next multiple; only such complete nodes are stored, so storage is append-only and
a node is written once.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest

from medportal.audit.errors import BadProof

HASH_LENGTH = 32
EMPTY_ROOT = sha256().digest()

Lookup = Callable[[int, int], bytes]
"""``lookup(level, index)`` returns the stored hash of a complete node."""


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node."""
    return sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Node:
    """A complete node."""

    level: int
    index: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Frontier:
    """What is needed to append: the roots of the complete subtrees, largest first.

    There is one for every one bit of ``size``.
    """

    size: int = 0
    peaks: tuple[bytes, ...] = ()

    def append(self, leaf: bytes) -> tuple["Frontier", list[Node]]:
        """Return the frontier with one leaf hash more, and the nodes this completes."""
        nodes = [Node(0, self.size, leaf)]
        peaks = list(self.peaks)
        rest = self.size
        while rest & 1:
            last = nodes[-1]
            joined = node_hash(peaks.pop(), last.hash)
            nodes.append(Node(last.level + 1, last.index >> 1, joined))
            rest >>= 1
        return Frontier(self.size + 1, (*peaks, nodes[-1].hash)), nodes

    def root(self) -> bytes:
        """Return the root over all leaves so far."""
        if not self.peaks:
            return EMPTY_ROOT
        root = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            root = node_hash(peak, root)
        return root


def peak_places(size: int) -> list[tuple[int, int]]:
    """Return level and index of each peak of a tree of ``size`` leaves, largest first."""
    places = []
    start = 0
    for level in reversed(range(size.bit_length())):
        if size >> level & 1:
            places.append((level, start >> level))
            start += 1 << level
    return places


def frontier_of(size: int, lookup: Lookup) -> Frontier:
    """Return the frontier of the first ``size`` leaves of a stored tree."""
    return Frontier(size, tuple(lookup(level, index) for level, index in peak_places(size)))


def root_of(size: int, lookup: Lookup) -> bytes:
    """Return the root of the first ``size`` leaves of a stored tree."""
    return frontier_of(size, lookup).root()


def inclusion_proof(index: int, size: int, lookup: Lookup) -> list[bytes]:
    """Return ``PATH(index, D[size])``, RFC 9162 2.1.3.1.

    Raises ``ValueError`` unless ``0 <= index < size``.
    """
    if not 0 <= index < size:
        raise ValueError("no such leaf in a tree of this size")
    proof = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            proof.append(_range_root(middle, end, lookup))
            end = middle
        else:
            proof.append(_range_root(start, middle, lookup))
            start = middle
    return proof[::-1]


def consistency_proof(old: int, new: int, lookup: Lookup) -> list[bytes]:
    """Return ``PROOF(old, D[new])``, RFC 9162 2.1.4.1; empty for ``old`` 0 or ``old == new``.

    Raises ``ValueError`` unless ``0 <= old <= new``.
    """
    if not 0 <= old <= new:
        raise ValueError("a log does not shrink")
    if old in (0, new):
        return []
    proof = []
    start, end, whole = 0, new, True
    while old != end:
        middle = start + _split(end - start)
        if old <= middle:
            proof.append(_range_root(middle, end, lookup))
            end = middle
        else:
            proof.append(_range_root(start, middle, lookup))
            start, whole = middle, False
    if not whole:
        proof.append(_range_root(start, end, lookup))
    return proof[::-1]


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> None:
    """Check that the leaf hash is number ``index`` of the tree, RFC 9162 2.1.3.2.

    Raises ``BadProof``.
    """
    if not 0 <= index < size:
        raise BadProof("no such leaf in a tree of this size")
    fn, sn, computed = index, size - 1, leaf
    for step in proof:
        if sn == 0:
            raise BadProof("the inclusion proof is too long")
        if fn & 1 or fn == sn:
            computed = node_hash(step, computed)
            shift = _trailing_zeros(fn)
            fn, sn = fn >> shift, sn >> shift
        else:
            computed = node_hash(computed, step)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0 or not compare_digest(computed, root):
        raise BadProof("the inclusion proof does not lead to the root")


def verify_consistency(
    old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Check that the new tree only appends to the old one, RFC 9162 2.1.4.2.

    Raises ``BadProof``.
    """
    if old == new or old == 0:
        expected = new_root if old == new else EMPTY_ROOT
        if proof or old < 0 or new < 0 or not compare_digest(old_root, expected):
            raise BadProof("the roots are not consistent")
        return
    if not 0 < old < new or not proof:
        raise BadProof("a consistency proof of the wrong shape")
    path = iter(proof)
    first = old_root if old & (old - 1) == 0 else next(path)
    computed_old, computed_new = _climb(old, new, first, path)
    if not (compare_digest(computed_old, old_root) and compare_digest(computed_new, new_root)):
        raise BadProof("the roots are not consistent")


def _climb(old: int, new: int, first: bytes, path: Iterator[bytes]) -> tuple[bytes, bytes]:
    """Compute both roots from a consistency proof, steps 3 to 6 of RFC 9162 2.1.4.2."""
    shift = _trailing_ones(old - 1)
    fn, sn = (old - 1) >> shift, (new - 1) >> shift
    old_root = new_root = first
    for step in path:
        if sn == 0:
            raise BadProof("the consistency proof is too long")
        if fn & 1 or fn == sn:
            old_root, new_root = node_hash(step, old_root), node_hash(step, new_root)
            shift = _trailing_zeros(fn)
            fn, sn = fn >> shift, sn >> shift
        else:
            new_root = node_hash(new_root, step)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0:
        raise BadProof("the consistency proof is too short")
    return old_root, new_root


def _split(count: int) -> int:
    """Return the largest power of two smaller than ``count``."""
    return 1 << (count - 1).bit_length() - 1


def _range_root(start: int, end: int, lookup: Lookup) -> bytes:
    """Return the root over leaves ``start`` to ``end``, where ``start`` is a subtree's edge."""
    count = end - start
    if count & (count - 1) == 0:
        level = count.bit_length() - 1
        return lookup(level, start >> level)
    middle = start + _split(count)
    return node_hash(_range_root(start, middle, lookup), _range_root(middle, end, lookup))


def _trailing_zeros(number: int) -> int:
    """Count the zero bits below the lowest one bit of a positive number."""
    return (number & -number).bit_length() - 1


def _trailing_ones(number: int) -> int:
    return _trailing_zeros(number + 1)
