"""The fixtures: one sound lake and one lake per named defect, from a seed alone.

    python -m aetheris.demo.fixtures data/fixtures

No clock and no chance: the same code and pyarrow give the same bytes. Each
defect is a function of its own over the sound rows, so that a reader sees what
was done; `EXPECTED` says which check must find it, and what else follows.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from aetheris.demo.fixture_jobs import Rows, book, in_doubt, lines_of, rows_of, taken_over
from aetheris.lake import write_lake

SEED = 881
MADE_AT = 1_795_000_000_000_000
Lake = dict[str, Rows]
VICTIM = 1  # the job that defects befall, among the sound ones


def sound() -> Lake:
    """Return the rows of the sound lake: jobs of two tenants, one taken over, one in doubt."""
    chance = random.Random(SEED)
    lake: Lake = {"events": [], "cells": [], "ledger": []}
    for number in range(8):
        tenant = "acme" if number % 2 else "default"
        make = {5: taken_over, 7: in_doubt}.get(number, book)
        for name, rows in rows_of(tenant, make, number, chance, MADE_AT + number * 1_000_000).items():
            lake[name] += rows
    return lake


def _victim(lake: Lake) -> Rows:
    jobs = list(dict.fromkeys(row["job_id"] for row in lake["events"]))
    return [row for row in lake["events"] if row["job_id"] == jobs[VICTIM]]


def edited_line(lake: Lake) -> None:
    """A word of one line was changed; its leaf was left."""
    row = _victim(lake)[2]
    row["line"] = row["line"].replace('"duration_us":7', '"duration_us":9')


def dropped_event(lake: Lake) -> None:
    """An event in the middle is gone, with its cells and its ledger row."""
    gone = _victim(lake)[3]
    for rows in lake.values():
        rows[:] = [r for r in rows if (r["job_id"], r["seq"]) != (gone["job_id"], gone["seq"])]


def swapped_order(lake: Lake) -> None:
    """Two neighbours changed places: line and leaf of each stand under the other's number."""
    one, two = _victim(lake)[2:4]
    for name in ("line", "leaf"):
        one[name], two[name] = two[name], one[name]


def forged_result(lake: Lake) -> None:
    """What a tool returned was rewritten beside its line."""
    job = _victim(lake)[0]["job_id"]
    cell = next(c for c in lake["cells"] if c["job_id"] == job and c["name"] == "result")
    cell["body"] = cell["body"].replace("HAT", "XXX")


def two_starts(lake: Lake) -> None:
    """The ledger says that one call was started twice."""
    job = _victim(lake)[0]["job_id"]
    end = next(r for r in lake["ledger"] if r["job_id"] == job and r["status"] == "committed" and r["effect"] == "once")
    end["status"] = "started"


def missing_ledger_row(lake: Lake) -> None:
    """The end of a call was taken out of the ledger."""
    job = _victim(lake)[0]["job_id"]
    gone = next(r for r in lake["ledger"] if r["job_id"] == job and r["effect"] == "none")
    lake["ledger"].remove(gone)


def wrong_genesis(lake: Lake) -> None:
    """A whole true job was put under another tenant's name."""
    job = _victim(lake)[0]["job_id"]
    for rows in lake.values():
        for row in rows:
            if row["job_id"] == job:
                row["tenant_id"] = "mallory"


def stale_epoch(lake: Lake) -> None:
    """A worker that had lost its lease wrote on; everything after was hashed to fit."""
    _rewrite(lake, 4, lambda line: line | {"epoch": 0})


def event_after_end(lake: Lake) -> None:
    """A job's end was moved one event forward; everything after was hashed to fit."""
    last = len(_victim(lake)) - 2
    _rewrite(lake, last, lambda line: line | {"type": "job_cancelled", "data": {"reason": "x"}, "cells": {}, "step": 0})


#: Each defect by its name.
DEFECTS: dict[str, Callable[[Lake], None]] = {
    f.__name__: f
    for f in (
        edited_line, dropped_event, swapped_order, forged_result, two_starts, missing_ledger_row, wrong_genesis,
        stale_epoch, event_after_end,
    )
}  # fmt: skip


def _rewrite(lake: Lake, index: int, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change one line of the victim and hash the rest of its chain anew, as an attacker would."""
    events = _victim(lake)
    values = [json.loads(row["line"]) for row in events]
    values[index] = change(values[index])
    for row, (line, leaf) in zip(events, lines_of(values), strict=True):
        row["line"], row["leaf"] = line, leaf


def write(folder: Path) -> None:
    """Write every fixture below `folder`, what each shows, and the digest of every file."""
    expected = {}
    for name, defect in {"clean": lambda lake: None, **DEFECTS}.items():
        lake = sound()
        defect(lake)
        place = folder / name
        place.mkdir(parents=True)
        write_lake(place, {table: pa.Table.from_pylist(rows) for table, rows in lake.items()}, at=MADE_AT)
        expected[name] = " ".join((defect.__doc__ or "Nothing is wrong.").split())
    text = "# Fixtures\n\nMade by `make fixtures` from a seed. One defect each, in `aetheris/demo/fixtures.py`.\n\n"
    text += "".join(f"- `{name}`: {what}\n" for name, what in expected.items())
    (folder / "README.md").write_text(text)
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "SHA256SUMS")
    sums = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(folder).as_posix()}\n" for p in files]
    (folder / "SHA256SUMS").write_text("".join(sums))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
