"""Receipts: where a table or figure comes from, so that another can make it again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import date, datetime
from importlib.metadata import version
from typing import Any

from aetheris.forensics.library import Query


@dataclass(frozen=True, slots=True)
class Receipt:
    """Which query, with which parameters, over which bytes.

    `source_sha256` is the digest over the sorted digests of the files read (of
    a lake), or of the zip. Versions stand beside and not in the repr: they
    don't change what was asked.
    """

    query: str
    query_sha256: str
    parameters: str
    source_sha256: str
    versions: dict[str, str] = field(repr=False, compare=False, default_factory=dict)


def receipt(query: Query, parameters: dict[str, Any], source_sha256: str) -> Receipt:
    """Return the receipt of one run of `query`."""
    shown = json.dumps(parameters, sort_keys=True, default=_plain)
    versions = {name: version(name) for name in ("aetheris", "duckdb", "pyarrow")}
    return Receipt(query.name, query.sha256, shown, source_sha256, versions)


def digest_of(digests: list[str]) -> str:
    """Return the digest over files' digests (hex), whatever their order."""
    return hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, date | datetime) else str(value)
