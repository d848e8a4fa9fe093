"""Text of strangers, made safe to print: what could move a cursor or hide a word is spelled out.

Source: CWE-150, CVE-2021-42574 (bidirectional marks), OSC 8 and OSC 52.
"""

from __future__ import annotations

SHOWN_CHARACTERS = 200


def printable(text: str, limit: int = SHOWN_CHARACTERS) -> str:
    """Return `text` on one line, controls and bidi marks as escapes, cut to `limit` characters."""
    cut = text[:limit]
    if not (cut.isascii() and cut.isprintable()):
        cut = "".join(c if c.isprintable() else _escaped(c) for c in cut)
    return cut + (" [cut]" if len(text) > limit else "")


def _escaped(c: str) -> str:
    # str.isprintable is false for controls, format characters (bidi marks, zero width), surrogates,
    # private use, unassigned, and every space but the plain one.
    short = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(c)
    return short or (f"\\u{ord(c):04x}" if ord(c) < 0x10000 else f"\\U{ord(c):08x}")
