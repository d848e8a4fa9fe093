"""The Merkle tree of RFC 6962: published vectors, and its laws on any tree."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aetheris.domain import merkle
from aetheris.domain.errors import Corrupt

#: The inputs and roots of the reference implementation's tests (certificate-transparency).
VECTORS = [
    ("", "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
    ("00", "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
    ("10", "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"),
    ("2021", "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"),
    ("3031", "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4"),
    ("40414243", "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef"),
    ("5051525354555657", "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c"),
    ("606162636465666768696a6b6c6d6e6f", "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"),
]
LEAVES = st.integers(1, 70).map(lambda n: [hashlib.sha256(bytes([i])).digest() for i in range(n)])


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_are_those_that_the_reference_publishes(size: int) -> None:
    """A stranger's RFC 6962 tool must get the same root."""
    leaves = [merkle.leaf_hash(bytes.fromhex(text)) for text, _ in VECTORS[:size]]
    assert merkle.root(leaves).hex() == VECTORS[size - 1][1]


def test_the_empty_tree_has_the_root_of_the_standard() -> None:
    """RFC 6962 section 2.1: the hash of nothing."""
    assert merkle.root([]).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@given(LEAVES, st.data())
def test_inclusion_holds_for_every_leaf_and_for_no_other(leaves: list[bytes], data: st.DataObject) -> None:
    """A single disclosure binds to the seal through its path alone."""
    index = data.draw(st.integers(0, len(leaves) - 1))
    path = merkle.inclusion_path(leaves, index)
    root = merkle.root(leaves)
    assert merkle.inclusion_root(leaves[index], index, len(leaves), path) == root
    assert merkle.inclusion_root(b"\xff" * 32, index, len(leaves), path) != root
    for wrong in (path[:-1], [*path, b"\x00" * 32]):
        if wrong != path:
            with pytest.raises(Corrupt):
                merkle.inclusion_root(leaves[index], index, len(leaves), wrong)


@given(LEAVES, st.data())
def test_consistency_holds_for_every_prefix_and_for_no_other_tree(leaves: list[bytes], data: st.DataObject) -> None:
    """An old checkpoint that is no prefix of the new one is a rewritten log."""
    old = data.draw(st.integers(1, len(leaves)))
    path = merkle.consistency_path(leaves, old)
    old_root, new_root = merkle.root(leaves[:old]), merkle.root(leaves)
    merkle.check_consistency(old, len(leaves), old_root, new_root, path)
    for forged in ((b"\x01" * 32, new_root), (old_root, b"\x01" * 32)):
        with pytest.raises(Corrupt):
            merkle.check_consistency(old, len(leaves), *forged, path)


@given(LEAVES)
def test_a_leaf_doubled_at_the_end_changes_the_root(leaves: list[bytes]) -> None:
    """Bitcoin's trees had equal roots here: CVE-2012-2459."""
    assert merkle.root([*leaves, leaves[-1]]) != merkle.root(leaves)
