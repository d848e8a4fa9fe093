"""The report: one screen of plain text, and the same as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.soak.run import Outcome

BROKEN_SHOWN = 12


def text(outcome: Outcome) -> str:
    """Return one screen: what was run, what was done to it, what held, what was measured."""
    f = outcome.figures
    kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(outcome.jobs.items(), key=lambda x: -x[1]))
    faults = ", ".join(f"{kind} {n}" for kind, n in sorted(outcome.faults.items()))
    lines = [
        f"soak of {outcome.minutes:g} min, seed {outcome.seed}, in {f['seconds']:.0f} s, on {f['disk']}",
        f"  jobs         {f['jobs']}: {kinds}",
        f"  events       {f['events']:,} in the lake",
        f"  faults       {faults or 'none'}",
        f"  no space     PostgreSQL said so {f['no_space_postgres']} times, our processes {f['no_space_ours']} times",
        f"  by a person  {f['resolved']} doubts resolved, {f['approved']} approvals, {f['signalled']} signals",
        f"  looked       {f['check_passes']} passes of all checks over the lake, {f['records_checked']} records",
        "  found",
        f"    crashes of ours       {f['crashes']}",
        f"    duplicated effects    {f['duplicates']}",
        f"    lost                  {f['lost']}",
        f"    stuck                 {f['stuck']}",
        "  measured",
        f"    P95 overhead          {_of(f['p95_overhead_ms'], 'ms')} over {f['overhead_jobs']} untouched jobs",
        f"    memory                {_of(f['rss_slope_mb_per_h'], 'MB/h')}{_memory(f)}",
        f"    connections           {_of(f['connections_slope_per_h'], 'per hour')}, most {f['connections_max']}",
        f"    PostgreSQL, a month   {_of(f['gb_per_month_pg'], 'GB')}",
        f"    lake, a month         {_of(f['gb_per_month_lake'], 'GB')}",
        *(f"  note: {note}" for note in outcome.notes),
    ]
    if outcome.broken:
        lines += [f"BROKEN ({len(outcome.broken)}), kept in {outcome.folder}"]
        lines += [f"  {each}" for each in outcome.broken[:BROKEN_SHOWN]]
    else:
        lines.append("every invariant held")
    return "\n".join(lines)


def document(outcome: Outcome) -> dict[str, Any]:
    """Return the report as JSON values."""
    return {**outcome.figures, "jobs_by_kind": outcome.jobs, "broken": outcome.broken, "notes": outcome.notes,
            "folder": outcome.folder}  # fmt: skip


def write(outcome: Outcome, path: Path) -> None:
    """Write the document."""
    path.write_text(json.dumps(document(outcome), indent=2) + "\n")


def _of(value: object, unit: str) -> str:
    return "not told by so short a run" if value is None else f"{value} {unit}"


def _memory(figures: dict[str, Any]) -> str:
    slopes, levels = figures["rss_slopes_mb_per_h"], figures["rss_mb"]
    each = (f"{name} {levels[name][0]} to {levels[name][1]} MB, {line} MB/h" for name, line in slopes.items())
    return f" ({'; '.join(each)})" if slopes else ""
