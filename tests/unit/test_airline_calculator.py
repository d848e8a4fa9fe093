"""The desk's calculator: the same text as the recordings, and nothing is ever executed."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aetheris.demo.calculator import calculate

_NUMBERS = st.integers(0, 10_000).map(str) | st.decimals(0, 999, places=2).map(str)
_EXPRESSIONS = st.recursive(
    _NUMBERS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", " - ", " // "]), inner).map("".join),
        inner.map(lambda text: f"({text})"),
        inner.map(lambda text: f"-({text})"),
    ),
    max_leaves=8,
)


@given(_EXPRESSIONS)
def test_it_says_what_python_says(expression: str) -> None:
    """The recorded results came from Python's own arithmetic."""
    try:
        wanted = str(round(float(eval(expression, {"__builtins__": {}}, {})), 2))  # noqa: S307  (the oracle)
    except (ArithmeticError, SyntaxError, TypeError) as error:
        wanted = f"Error: {error}"
    assert calculate(expression) == wanted


@pytest.mark.parametrize(
    ("expression", "answer"),
    [
        ("152 + 103", "255.0"),
        ("  (350 - 122) * 2 + (499 - 127) * 2 ", "1200.0"),
        ("1 / 3", "0.33"),
        ("2 ** 10", "1024.0"),
        ("(-8) ** 0.5", "Error: float() argument must be a string or a real number, not 'complex'"),
        ("1 / 0", "Error: division by zero"),
        ("(1 + 2", "Error: '(' was never closed (<string>, line 1)"),
        ("", "Error: invalid syntax (<string>, line 0)"),
        ("__import__('os')", "Error: invalid characters in expression"),
        ("1e9", "Error: invalid characters in expression"),
        ("1(2)", "Error: not an arithmetic expression"),
        ("()", "Error: not an arithmetic expression"),
        ("...", "Error: not an arithmetic expression"),
    ],
)
def test_known_answers(expression: str, answer: str) -> None:
    """Also what can't be computed is answered, in one line."""
    assert calculate(expression) == answer


@pytest.mark.parametrize(
    "expression",
    ["9**9**9**9", "(9**9)**(9**9)", "(" * 900 + "1" + ")" * 900, "-" * 1900 + "1", "1+" * 3000 + "1"],
    ids=["a tower", "a tower with parentheses", "deep parentheses", "many signs", "too long"],
)
def test_no_expression_takes_the_desk_down(expression: str) -> None:
    """A model may write anything; eval would compute for days."""
    began = time.monotonic()
    answer = calculate(expression)
    assert answer.startswith("Error: ") or answer.endswith("1.0")
    assert time.monotonic() - began < 1
