"""RFC 6962 Merkle tree over a job's leaves: root, inclusion and consistency proofs.

A leaf is SHA-256(0x00 || line), a node SHA-256(0x01 || left || right), so a
node can never pass for a leaf. Trees that are not full are split at the
largest power of two below their size; nothing is duplicated.

Source: RFC 6962 section 2.1, RFC 9162 section 2.1.3 and 2.1.4.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from aetheris.domain.errors import Corrupt

EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(line: bytes) -> bytes:
    """Return the 32-byte leaf of an event line (without its line feed)."""
    return hashlib.sha256(b"\x00" + line).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the 32-byte hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """Return the tree's root over 32-byte `leaves`, in one pass and O(log n) memory."""
    peaks: list[tuple[int, bytes]] = []
    for leaf in leaves:
        height, digest = 0, leaf
        while peaks and peaks[-1][0] == height:
            digest = node_hash(peaks.pop()[1], digest)
            height += 1
        peaks.append((height, digest))
    if not peaks:
        return EMPTY_ROOT
    digest = peaks.pop()[1]
    while peaks:
        digest = node_hash(peaks.pop()[1], digest)
    return digest


def inclusion_path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Return the sibling hashes from leaf `index` (from 0) upward to the root."""
    if not 0 <= index < len(leaves):
        raise IndexError(index)
    if len(leaves) == 1:
        return []
    split = _split(len(leaves))
    if index < split:
        return [*inclusion_path(leaves[:split], index), root(leaves[split:])]
    return [*inclusion_path(leaves[split:], index - split), root(leaves[:split])]


def inclusion_root(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """Return the root that `path` implies; the caller compares it.

    `leaf` is 32 bytes, `index` counts from 0, `path` runs upward.
    Errors: Corrupt when the path's length or a hash's length is wrong for `size`.
    Source: RFC 9162 section 2.1.3.2.
    """
    if not 0 <= index < size:
        raise Corrupt(f"index {index} is not below tree size {size}")
    if len(leaf) != 32 or any(len(step) != 32 for step in path):
        raise Corrupt("a hash in the path is not 32 bytes")
    fn, sn, digest = index, size - 1, leaf
    for step in path:
        if sn == 0:
            raise Corrupt("the path is longer than the tree is high")
        if fn & 1 or fn == sn:
            digest = node_hash(step, digest)
            while not fn & 1 and fn:
                fn >>= 1
                sn >>= 1
        else:
            digest = node_hash(digest, step)
        fn >>= 1
        sn >>= 1
    if sn != 0:
        raise Corrupt("the path is shorter than the tree is high")
    return digest


def consistency_path(leaves: Sequence[bytes], old_size: int) -> list[bytes]:
    """Return the proof that the tree over the first `old_size` leaves is a prefix of this one.

    `old_size` is 1 to len(leaves). Source: RFC 6962 section 2.1.2.
    """
    if not 1 <= old_size <= len(leaves):
        raise IndexError(old_size)
    return _subproof(leaves, old_size, whole=True)


def check_consistency(old_size: int, new_size: int, old_root: bytes, new_root: bytes, path: Sequence[bytes]) -> None:
    """Return only if the tree of `old_root` is a prefix of the tree of `new_root`.

    Errors: Corrupt. Source: RFC 9162 section 2.1.4.2.
    """
    if not 1 <= old_size <= new_size:
        raise Corrupt(f"tree size {old_size} is not between 1 and {new_size}")
    if old_size == new_size:
        if path or old_root != new_root:
            raise Corrupt("two roots for one tree size")
        return
    steps = list(path)
    if old_size & (old_size - 1) == 0:
        steps.insert(0, old_root)
    if not steps:
        raise Corrupt("the consistency proof is empty")
    fn, sn = old_size - 1, new_size - 1
    while fn & 1:
        fn >>= 1
        sn >>= 1
    first = second = steps[0]
    for step in steps[1:]:
        if sn == 0:
            raise Corrupt("the consistency proof is too long")
        if fn & 1 or fn == sn:
            first, second = node_hash(step, first), node_hash(step, second)
            while not fn & 1 and fn:
                fn >>= 1
                sn >>= 1
        else:
            second = node_hash(second, step)
        fn >>= 1
        sn >>= 1
    if sn != 0 or first != old_root or second != new_root:
        raise Corrupt("the old tree is not a prefix of the new one")


def _split(size: int) -> int:
    return 1 << ((size - 1).bit_length() - 1)


def _subproof(leaves: Sequence[bytes], old_size: int, *, whole: bool) -> list[bytes]:
    if old_size == len(leaves):
        return [] if whole else [root(leaves)]
    split = _split(len(leaves))
    if old_size <= split:
        return [*_subproof(leaves[:split], old_size, whole=whole), root(leaves[split:])]
    return [*_subproof(leaves[split:], old_size - split, whole=False), root(leaves[:split])]
