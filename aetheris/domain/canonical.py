"""Canonical JSON for event lines: RFC 8785, restricted so that one value has one spelling.

Restrictions on top of RFC 8785: keys are ASCII, numbers are integers within
+-(2**53 - 1), there are no floats (use integers with a unit in the name, or
decimal strings), nesting ends at `DEPTH_LIMIT`. So sorting by code point
equals RFC 8785's sorting by UTF-16 unit, and every parser reads one value.

This file needs the standard library alone: the verifier stands on it. The hot
path encodes with `encode.line_bytes`, and tests hold the two to the same bytes.

Source: RFC 8785 (JCS), RFC 7493 (I-JSON).
"""

from __future__ import annotations

import json
from typing import Any

from aetheris.domain.errors import Corrupt

MAX_INTEGER = 2**53 - 1
DEPTH_LIMIT = 32
LINE_BYTES_LIMIT = 256 * 1024


def dumps(value: Any) -> bytes:
    """Return the canonical bytes of `value`, without a line feed.

    Errors: Corrupt when the value is outside the restricted form.
    """
    _check(value, 0)
    return _spell(value)


def _spell(value: Any) -> bytes:
    try:
        return _ENCODER.encode(value).encode()
    except UnicodeEncodeError:
        raise Corrupt("a string holds half of a surrogate pair, which UTF-8 can't carry") from None


def loads(line: bytes, *, limit: int = LINE_BYTES_LIMIT) -> dict[str, Any]:
    """Return the object that `line` spells, only if `line` is its canonical spelling.

    `line` excludes its line feed. Hash it before you call this. `limit` is in bytes.

    Errors: Corrupt, saying what is not canonical.
    """
    value = parse(line, limit=limit)
    if _spell(value) != line:  # parse has checked the value
        raise Corrupt("not in canonical form (order of keys, spaces, escapes, or a number's spelling)")
    return value


def parse(line: bytes, *, limit: int = LINE_BYTES_LIMIT) -> dict[str, Any]:
    """Return the object in `line`, refusing what the restricted form can't hold.

    The spelling may differ from the canonical one; `loads` closes that too.
    Errors: Corrupt.
    """
    if len(line) > limit:
        raise Corrupt(f"longer than {limit} bytes")
    value = strict_json(line)
    if type(value) is not dict:
        raise Corrupt("not a JSON object")
    _check(value, 0)
    return value


def strict_json(data: bytes, *, floats: bool = False) -> Any:
    """Parse UTF-8 JSON, refusing doubled keys, NaN, lone surrogates and runaway work.

    `floats` admits fractions and exponents, as cells' bodies may hold them.
    Errors: Corrupt.
    """
    try:
        text = data.decode("utf-8", "strict")
    except UnicodeDecodeError as error:
        raise Corrupt(f"not UTF-8 at byte {error.start}") from None
    if text.startswith("\ufeff"):
        raise Corrupt("starts with a byte order mark")
    try:
        value = (_BODY_DECODER if floats else _LINE_DECODER).decode(text)
        if "\\u" in text:  # UTF-8 can't carry a surrogate; only an escape can
            _no_surrogates(value)
    except RecursionError:
        raise Corrupt("nested too deeply") from None
    except json.JSONDecodeError as error:
        raise Corrupt(f"not JSON at character {error.pos}: {error.msg}") from None
    except ValueError as error:
        # int() refuses thousands of digits: bounded work, CVE-2020-10735.
        raise Corrupt(f"not JSON: {error}") from None
    return value


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise Corrupt("an object has one key twice")
    return value


def _no_float(text: str) -> Any:
    raise Corrupt(f"a fraction or exponent: {text[:24]}")


def _bounded_int(text: str) -> int:
    # Length first: int() on thousands of digits is unbounded work.
    if len(text) > 17 or abs(int(text)) > MAX_INTEGER:
        raise Corrupt(f"an integer beyond 2^53-1: {text[:24]}")
    if text.startswith("-0"):
        raise Corrupt("minus zero")
    return int(text)


def _no_constant(text: str) -> Any:
    raise Corrupt(f"{text} is not JSON")


def _no_surrogates(value: Any) -> None:
    # A lone surrogate escape decodes to a str that UTF-8 can't encode. Encoding finds it as fast as it can be
    # found: a loop over ten megabytes of text took the verifier four seconds.
    if type(value) is str:
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Corrupt("half of a surrogate pair") from None
    elif type(value) is list:
        for item in value:
            _no_surrogates(item)
    elif type(value) is dict:
        for key, item in value.items():
            _no_surrogates(key)
            _no_surrogates(item)


def _check(value: Any, depth: int) -> None:
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return
    if kind is int:
        if abs(value) > MAX_INTEGER:
            raise Corrupt("an integer beyond 2^53-1")
        return
    if depth >= DEPTH_LIMIT:
        raise Corrupt(f"nested deeper than {DEPTH_LIMIT}")
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str or not key.isascii():
                raise Corrupt("a key that is not ASCII")
            _check(item, depth + 1)
    elif kind is list:
        for item in value:
            _check(item, depth + 1)
    else:
        raise Corrupt(f"a {kind.__name__} has no place in an event line")


# Made once: building an encoder or decoder costs more than a line does.
_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))
_LINE_DECODER = json.JSONDecoder(
    object_pairs_hook=_pairs, parse_float=_no_float, parse_int=_bounded_int, parse_constant=_no_constant
)
_BODY_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_no_constant)
