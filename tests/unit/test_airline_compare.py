"""Causes of mismatches: short, and the same for the same cause."""

from __future__ import annotations

import pytest

from aetheris.demo.compare import cause


@pytest.mark.parametrize(
    ("recorded", "returned", "said"),
    [
        ('{"a": {"b": 1}}', '{"a": {"c": 1}}', "a: field 'c' where 'b' is recorded"),
        ('{"a": 1}', '{"a": 1, "b": 2}', "field 'b' is not recorded"),
        ('{"a": 1, "b": 2}', '{"a": 1}', "no field 'b'"),
        ('{"a": 1, "b": 2}', '{"b": 2, "a": 1}', "the same fields in another order"),
        ('[{"p": 1}, {"p": 2}]', '[{"p": 1}, {"p": 3}]', "[].p: 3 where 2 is recorded"),
        ("[1, 2]", "[1]", "1 entries where 2 are recorded"),
        ('{"p": 1}', '{"p": 1.0}', "p: 1.0 where 1 is recorded"),
        ('{"p":1}', '{"p": 1}', "the same value in another spelling"),
        ("[]", "Error: no", "answered Error: no where [] is recorded"),
        ("[]", None, "the call has no result (its job is failed)"),
    ],
)
def test_the_first_difference_is_named(recorded: str, returned: str | None, said: str) -> None:
    """A person must see at once whether it is one cause or fifty."""
    assert cause(recorded, returned, "failed") == said
