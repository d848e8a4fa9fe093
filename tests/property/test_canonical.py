"""Canonical lines: one value, one spelling, the same in every encoder."""

from __future__ import annotations

import json

import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from aetheris.domain import canonical
from aetheris.domain.encode import body_bytes, body_value, line_bytes
from aetheris.domain.errors import Corrupt, Refused

KEYS = st.text(st.characters(max_codepoint=127), max_size=8)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
INTEGERS = st.integers(-canonical.MAX_INTEGER, canonical.MAX_INTEGER)
VALUES = st.recursive(
    st.none() | st.booleans() | INTEGERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=5)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


@given(OBJECTS)
@example({"\x7f": '\x7f\x1f\u2028"\\/', "a": -0})
def test_all_three_encoders_spell_a_line_alike(value: dict[str, object]) -> None:
    """The hot path (orjson), the verifier (stdlib) and the reference (rfc8785) must agree, or nobody can check us."""
    assert line_bytes(value) == canonical.dumps(value) == rfc8785.dumps(value)


@given(OBJECTS)
def test_a_canonical_line_reads_back_as_itself(value: dict[str, object]) -> None:
    """Reading loses nothing and changes nothing."""
    assert canonical.loads(canonical.dumps(value)) == value


@given(OBJECTS, st.sampled_from([" ", "\n", "\t"]))
def test_any_other_spelling_is_refused(value: dict[str, object], space: str) -> None:
    """A second spelling would be a second hash for the same story."""
    for other in (
        json.dumps(value, ensure_ascii=False, separators=(",", ": "), sort_keys=True),
        space + canonical.dumps(value).decode(),
        json.dumps(value, ensure_ascii=True, separators=(",", ":"), sort_keys=True),
    ):
        if other.encode() != canonical.dumps(value):
            with pytest.raises(Corrupt):
                canonical.loads(other.encode())


@given(JSON)
def test_a_cells_body_keeps_any_json_value(value: object) -> None:
    """Models and tools return floats and large integers: what was said is what is kept."""
    body = body_bytes(value)
    assert body_value(body) == value
    assert body_bytes(body_value(body)) == body


@pytest.mark.parametrize(
    "value", [float("nan"), [1.0, float("inf")], {"a": {1, 2}}, "\ud800", [2**70, "\ud800"], {"k": object()}]
)
def test_what_json_can_not_hold_is_refused(value: object) -> None:
    """A NaN quietly turned into null would be another result than the tool gave."""
    with pytest.raises(Refused):
        body_bytes(value)


def test_depth_is_bounded_and_ends_in_a_finding() -> None:
    """Brackets by the hundred thousand must not crash the verifier."""
    with pytest.raises(Corrupt):
        canonical.loads(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
