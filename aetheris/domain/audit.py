"""The audit chain: what an entry holds, and how a tenant's entries form a chain.

An entry is a line of the same form as an event's (`events.py`), so one hash
serves chain and Merkle tree here too, and one reader reads both:

    type   the action: view_trace, export_evidence, create_job, ... (vocabulary, section 6)
    by     who: "user/alice", "worker/w1", "system"
    data   resource_type, resource_id, success; and from where, where that is known:
           client_ip, user_agent, request_id, duration_ms, role; and what the action adds
    cells  empty, epoch and step 0: an entry holds nothing that could be erased

The first entry is `audit_opened` and binds the tenant. `at` is the database's
time when the entry was written, never before its predecessor's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aetheris.domain import canonical, events, merkle
from aetheris.domain.errors import Corrupt, Refused
from aetheris.domain.events import GENESIS_PREV, Event

FORMAT = "aetheris/audit/v1"
OPENED = "audit_opened"
TEXT_LIMIT = 1000
DATA_BYTES_LIMIT = 16_384
_ACTION = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")
#: What an entry says besides its action and what the action adds.
_FIXED = frozenset({"resource_type", "resource_id", "success"})


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that somebody did, or was refused.

    `data` may hold what canonical JSON holds: texts, integers, truth values,
    lists and objects of them under ASCII keys. Errors on making one: Refused.
    """

    action: str
    by: str
    success: bool
    resource_type: str = "unknown"
    resource_id: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _ACTION.match(self.action) or self.action == OPENED:
            raise Refused(f"{self.action[:64]!r} is no action of the audit log")
        if not self.by:
            raise Refused("an audit entry names who did it")
        if odd := sorted(_FIXED & self.data.keys()):
            raise Refused(f"an audit entry's data can't hold {odd[0]}: it has its own place")
        try:
            spelt = canonical.dumps(self.said())
        except Corrupt as error:
            raise Refused(f"the data of an audit entry can't be kept: {error}") from None
        if len(spelt) > DATA_BYTES_LIMIT:
            raise Refused(f"the data of an audit entry has {len(spelt):,} bytes, more than {DATA_BYTES_LIMIT:,}")

    def said(self) -> dict[str, Any]:
        """Return the line's `data`."""
        return {
            **self.data,
            "resource_id": self.resource_id,
            "resource_type": self.resource_type,
            "success": self.success,
        }


@dataclass(frozen=True, slots=True)
class Head:
    """The newest entry of a chain: its number, its leaf, its time. `seq` 0 is a chain not yet begun."""

    seq: int
    leaf: bytes
    at: int

    @property
    def prev(self) -> str:
        """What the next entry names as its predecessor."""
        return self.leaf.hex() if self.seq else GENESIS_PREV


@dataclass(frozen=True, slots=True)
class Line:
    """An entry as it is stored."""

    seq: int
    leaf: bytes
    line: bytes


def extend(tenant: str, head: Head, entries: Iterable[Entry], now_us: int) -> tuple[Head, list[Line]]:
    """Return the lines that put `entries` on `head`, the opening one first on an empty chain, and the new head.

    `now_us` is the database's time, microseconds UTC.
    """
    made: list[Line] = []
    at = max(now_us, head.at)
    wanted = [(e.action, e.by, e.said()) for e in entries]
    if head.seq == 0:
        wanted.insert(0, (OPENED, "system", {"format": FORMAT, "tenant": tenant}))
    for action, by, said in wanted:
        seq = head.seq + 1
        value = events.build(at=at, by=by, cells={}, data=said, epoch=0, prev=head.prev, seq=seq, step=0, type=action)
        line = canonical.dumps(value)
        head = Head(seq, merkle.leaf_hash(line), at)
        made.append(Line(seq, head.leaf, line))
    return head, made


@dataclass(slots=True)
class Chain:
    """Checks one tenant's entries as they come; holds O(1) memory.

    Feed `add(line, leaf)` in order; it raises Corrupt at the first break, naming
    the entry, with `expected` and `found`.
    """

    tenant: str
    head: Head = Head(0, b"", 0)

    def add(self, line: bytes, leaf: bytes | None = None) -> Event:
        """Accept the next line (and the leaf that is stored beside it) and return what it says. Errors: Corrupt."""
        where = f"audit entry {self.head.seq + 1}"
        found = merkle.leaf_hash(line)
        if leaf is not None and leaf != found:
            raise _broken(where, "its leaf is not its line's hash", found.hex(), leaf.hex())
        try:
            event = events.read(line)
        except Corrupt as error:
            raise Corrupt(f"{where}: {error}", where=where) from None
        if event.seq != self.head.seq + 1:
            raise _broken(where, f"seq is {event.seq}", str(self.head.seq + 1), str(event.seq))
        if event.prev != self.head.prev:
            raise _broken(where, "prev is not its predecessor's leaf", self.head.prev, event.prev)
        if (event.type == OPENED) != (event.seq == 1):
            raise _broken(where, "no opening first" if event.seq == 1 else "a second opening", OPENED, event.type)
        if event.seq == 1 and (event.data.get("format"), event.data.get("tenant")) != (FORMAT, self.tenant):
            raise _broken(where, "another tenant's chain", self.tenant, str(event.data.get("tenant"))[:80])
        if event.at < self.head.at:
            raise _broken(where, "earlier than its predecessor", f"{self.head.at} or later", str(event.at))
        if event.cells or event.epoch or event.step:
            raise _broken(where, "it holds what no entry holds (cells, an epoch, a step)", "", "")
        self.head = Head(event.seq, found, event.at)
        return event

    def close(self, head: Head) -> None:
        """Return only if the chain ends at `head`. Errors: Corrupt when entries are missing at its end."""
        if (self.head.seq, self.head.leaf) != (head.seq, head.leaf):
            raise _broken(
                f"audit entry {self.head.seq}",
                f"the chain ends here, its head is entry {head.seq}",
                f"{head.seq} {head.leaf.hex()[:16]}",
                f"{self.head.seq} {self.head.leaf.hex()[:16]}",
            )


def _broken(where: str, message: str, expected: str, found: str) -> Corrupt:
    return Corrupt(f"{where}: {message}", where=where, expected=expected, found=found)


def plain(text: str, limit: int = TEXT_LIMIT) -> str:
    """Return what came from outside (a header, an address) as an entry can hold it: bounded, and valid UTF-8."""
    return text[:limit].encode("utf-8", "replace").decode("utf-8")
