"""Up to where a table holds the store's rows: a whole PostgreSQL snapshot, and of which store.

An xid horizon alone leaves holes: a transaction with a low xid may commit
after one with a high xid was mirrored. A pg_snapshot names the transactions
that were still under way, so "visible in the new one and not in the old" is
exactly what was committed between the two.

Xids mean nothing in another store. `store` and `lake` are random ids (the
store's own, made with it; the catalog's, made anew whenever this PostgreSQL is
found to be older than the lake), `system` and `timeline` PostgreSQL's own: a
dump restored elsewhere has another system, a recovery to a point in time
another timeline.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, replace
from typing import Any

from aetheris.domain.errors import Corrupt

#: The key in an Iceberg snapshot's summary. Whoever rewrites a table carries it forward.
PROPERTY = "aetheris.watermark"
_SNAPSHOT = re.compile(r"(\d{1,20}):(\d{1,20}):((?:\d{1,20},)*\d{1,20})?\Z")


@dataclass(frozen=True, slots=True)
class Watermark:
    """A pg_snapshot's text and the store that it was taken in.

    `foreign` says that rows were seen whose xid this snapshot can't have seen
    committed: they came with another cluster's xids (a restored dump), would
    turn up again later, and so are told by key until none is left.
    """

    snapshot: str
    store: str
    lake: str
    system: str
    timeline: int
    foreign: bool = False

    def same_store(self, other: Watermark) -> bool:
        """True when both count the same transactions."""
        mine = (self.store, self.lake, self.system, self.timeline)
        return mine == (other.store, other.lake, other.system, other.timeline)

    def covers(self, other: Watermark) -> bool:
        """True when every transaction that `other` saw committed, this saw too."""
        _, top, running = parse(self.snapshot)
        _, other_top, other_running = parse(other.snapshot)
        beyond = sum(1 for xid in other_running if xid >= top)
        return beyond >= other_top - top and all(xid >= other_top or xid in other_running for xid in running)

    def with_foreign(self, foreign: bool) -> Watermark:
        """Return the same watermark with its `foreign` mark set."""
        return replace(self, foreign=foreign)

    def text(self) -> str:
        """Return the one spelling that snapshots' summaries hold."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))


def from_text(text: str | None, where: str) -> Watermark:
    """Return the watermark of a snapshot's summary. Errors: Corrupt, naming `where`."""
    if text is None:
        raise Corrupt(f"{where}: its newest version names no watermark, so something else wrote it", where=where)
    try:
        return from_value(json.loads(text))
    except (ValueError, TypeError):
        raise Corrupt(f"{where}: its watermark can't be read", where=where, found=text[:80]) from None


def from_value(value: Any) -> Watermark:
    """Return the watermark that `value` spells. Errors: ValueError."""
    kinds = {"snapshot": str, "store": str, "lake": str, "system": str, "timeline": int, "foreign": bool}
    if type(value) is not dict or value.keys() != kinds.keys():
        raise ValueError("not a watermark")
    if any(type(value[name]) is not kind for name, kind in kinds.items()):
        raise ValueError("not a watermark")
    parse(value["snapshot"])
    return Watermark(**value)


def parse(snapshot: str) -> tuple[int, int, frozenset[int]]:
    """Return (xmin, xmax, transactions under way) of a pg_snapshot's text. Errors: ValueError."""
    found = _SNAPSHOT.match(snapshot)
    if not found:
        raise ValueError("not a pg_snapshot")
    running = frozenset(map(int, found[3].split(","))) if found[3] else frozenset()
    return int(found[1]), int(found[2]), running
