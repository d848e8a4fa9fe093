"""Durations as people write them: "30s", "1.5m", "250ms", "1h", "7d", or a number of seconds."""

from __future__ import annotations

import re

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_WRITTEN = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")


def seconds_of(written: str | float) -> float:
    """Return the seconds that `written` says. Errors: ValueError, saying what was expected."""
    if isinstance(written, bool):
        raise ValueError("expected a duration such as 30s, 5m or 250ms")
    if isinstance(written, int | float):
        try:
            return float(written)
        except OverflowError:
            raise ValueError("expected a duration such as 30s, 5m or 250ms") from None
    found = _WRITTEN.fullmatch(written.strip()) if isinstance(written, str) else None
    if found is None:
        raise ValueError("expected a duration such as 30s, 5m or 250ms")
    return float(found[1]) * _UNITS[found[2]]
