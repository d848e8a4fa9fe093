"""Records for panels: an empty one, and one in which every text of a stranger is hostile."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pyarrow as pa

from aetheris.demo.fixtures_jobs import FIRST_DAY_US, Pen
from aetheris.demo.fixtures_scripts import Rows, audit, lay
from aetheris.forensics.session import Session
from aetheris.lake.schema import TABLES
from aetheris.workbench import Desk

PAYLOAD_BYTES = 10_000_000
HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(2)>\u202egpj.exe\x1b[2J"
    "$\\href{javascript:alert(3)}{x}$ '; touch pwned #\"><a href='javascript:alert(4)'>"
)

#: A cell's name is ASCII, or its line is not canonical.
CELL = "args/<img src=x onerror=alert(5)>"


def desk_of(rows: Rows) -> Desk:
    """A desk over these rows."""
    tables = {
        name: pa.Table.from_batches([TABLES[name].batch([[row[c] for row in found] for c in TABLES[name].source])])
        for name, found in rows.tables.items()
    }
    return Desk(Session.over_tables(tables, "0" * 64, "made"))


def empty() -> Desk:
    """A desk with nothing on it."""
    return Desk(Session.over_tables({}, "0" * 64, "made"))


def hostile() -> Desk:
    """Two jobs in doubt and one asking: names, reasons, arguments and ten megabytes of payload, all by an enemy."""
    rows = lay([_doubtful("one"), _doubtful("two"), _asking()])
    for n in range(3):
        rows.table("limit_waits").append(
            {
                "tenant_id": HOSTILE, "job_id": HOSTILE, "step": n + 1, "attempt": 1, "kind": "tool", "name": HOSTILE,
                "asked_at": FIRST_DAY_US, "slot_at": FIRST_DAY_US + n * 100_000,
                "started_at": FIRST_DAY_US + n * 100_000, "outcome": "started", "xid": 1, "recorded_at": FIRST_DAY_US,
            }
        )  # fmt: skip
    told = {"resource_type": "job", "resource_id": HOSTILE, "client_ip": HOSTILE, "request_id": HOSTILE}
    entries = [
        (FIRST_DAY_US, HOSTILE, "audit_opened", {"tenant": HOSTILE}),
        (FIRST_DAY_US, HOSTILE, HOSTILE, {**told, "success": False, "status": 403}),
    ]
    audit(rows, HOSTILE, entries)
    return desk_of(rows)


def _doubtful(name: str) -> Any:
    pen = Pen(HOSTILE, name, HOSTILE, HOSTILE, FIRST_DAY_US, {"payload": HOSTILE * (PAYLOAD_BYTES // len(HOSTILE))})
    pen.leased(HOSTILE, 5000)
    pen.read(HOSTILE, {HOSTILE: HOSTILE * (PAYLOAD_BYTES // len(HOSTILE))}, HOSTILE, 1000)
    step = pen.start(HOSTILE, {"args": HOSTILE * (PAYLOAD_BYTES // len(HOSTILE))}, (CELL, HOSTILE))
    pen.doubt(HOSTILE, step, HOSTILE)
    return pen.script()


def _asking() -> Any:
    pen = Pen(HOSTILE, "three", HOSTILE, "1", FIRST_DAY_US, HOSTILE)
    pen.leased(HOSTILE, 5000)
    step = pen.step()
    pen._add("approval_requested", 10, {"correlation_key": HOSTILE, "role": HOSTILE}, [("title", HOSTILE)], step=step)
    return pen.script()


class Markup(HTMLParser):
    """What a browser would make of a piece: its tags, and each attribute with its value."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[tuple[str, str]] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note it."""
        self.tags.add(tag)
        self.attributes |= {(name, value or "") for name, value in attrs}
