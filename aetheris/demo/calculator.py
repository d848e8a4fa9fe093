"""Arithmetic as the desk's calculator does it: numbers, + - * / // ** and parentheses; nothing is ever executed.

The expression is parsed by Python's own grammar and walked over a list of
allowed nodes, so a mistake is described in Python's words. Powers whose result
would not fit a screen are refused before they are computed.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

LENGTH_LIMIT = 2_000
POWER_BITS_LIMIT = 20_000
_ALLOWED = frozenset("0123456789+-*/(). ")

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: lambda base, power: _power(base, power),
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}


def calculate(expression: str) -> str:
    """Return the value to two decimals ("228.0"), or a line that starts with "Error:". Never raises."""
    if not _ALLOWED.issuperset(expression):
        return "Error: invalid characters in expression"
    if len(expression) > LENGTH_LIMIT:
        return f"Error: expression longer than {LENGTH_LIMIT} characters"
    try:
        tree = ast.parse(expression.strip(" "), "<string>", "eval")
        return str(round(float(_value(tree.body)), 2))
    except (ArithmeticError, SyntaxError, TypeError, ValueError) as error:
        return f"Error: {error}"
    except (RecursionError, MemoryError):
        return "Error: too many nested parentheses"


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _BINARY[type(op)](_value(left), _value(right))
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            return _UNARY[type(op)](_value(operand))
    raise TypeError("not an arithmetic expression")


def _power(base: Any, power: Any) -> Any:
    if isinstance(base, int) and isinstance(power, int) and base.bit_length() * power > POWER_BITS_LIMIT:
        raise OverflowError("int too large to convert to float")
    return base**power
