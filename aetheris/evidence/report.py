"""report.html: the package as a person reads it. Nothing trusts it, the page itself says so.

One file without script, link or image: it makes no request, and its policy
forbids any. Everything that came from a job is escaped text.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from importlib import resources
from typing import Any

from aetheris.domain import events, jobs, merkle
from aetheris.domain.errors import Corrupt
from aetheris.domain.plain import printable
from aetheris.evidence import format, report_slot
from aetheris.evidence.disclosures import Disclosure

#: Beyond these a page stops being read; the package has everything.
EVENTS_SHOWN = 2000
BODY_CHARACTERS = 2000
DATA_CHARACTERS = 400
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TONES = {
    "committed": "good", "confirmed": "good", "completed": "good", "failed": "bad", "cancelled": "bad",
    "unknown": "doubt", "resolved": "doubt", "started": "doubt", "erased": "doubt", "redacted": "doubt",
    "missing": "bad",
}  # fmt: skip


def render(
    tenant: str, job: str, lines: Sequence[bytes], rows: Sequence[bytes], cells: Sequence[Disclosure], *, sealed: bool
) -> bytes:
    """Return the page for a job's lines, ledger rows and cells."""
    css = resources.files("aetheris.evidence").joinpath("report.css").read_text("utf-8")
    policy = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    told = [_read(line) for line in lines]
    by_event: dict[int, list[Disclosure]] = {}
    for cell in cells:
        by_event.setdefault(cell.seq, []).append(cell)
    body = (
        _head(tenant, job, told, lines, rows, cells, sealed=sealed),
        _check_it(),
        _calls([json.loads(row) for row in rows], by_event),
        _timeline(told, by_event),
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        f"style-src 'sha256-{policy}'; base-uri 'none'; form-action 'none'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Evidence of job {_text(job)}</title>\n<style>{css}</style></head>\n"
        f"<body>\n{''.join(body)}</body></html>\n"
    ).encode()


def _head(
    tenant: str,
    job: str,
    told: list[events.Event | None],
    lines: Sequence[bytes],
    rows: Sequence[bytes],
    cells: Sequence[Disclosure],
    *,
    sealed: bool,
) -> str:
    first, last = (told[0], told[-1]) if told else (None, None)
    data = first.data if first and first.type == "job_created" else {}
    states = [cell.state for cell in cells]
    facts = [
        ("tenant", _text(tenant)),
        ("agent", _text(f"{data.get('agent', 'unknown')}, version {data.get('agent_version', 'unknown')}")),
        ("status", _status(last)),
        ("began", _moment(first.at) if first else "unknown"),
        ("last event", _moment(last.at) if last else "unknown"),
        ("events", f"{len(lines):,}"),
        ("tool calls", f"{len(rows):,}"),
        ("cells", ", ".join(f"{states.count(s):,} {s}" for s in dict.fromkeys(states)) or "none"),
        ("seal", "in this package" if sealed else "none: the job had not ended, or its record is damaged"),
        ("head", f"<code>{merkle.leaf_hash(lines[-1]).hex() if lines else 'none'}</code>"),
        ("configuration", f"<code>{_text(str(data.get('config_sha256', 'unknown')))}</code>"),
    ]
    rows_html = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts)
    return (
        f"<h1>Job {_text(job)}</h1>\n<p class=soft>What an agent did, as its record tells it.</p>\n"
        "<div class=notice><p><strong>This page is for reading. It is not evidence.</strong> Whoever handed you the "
        "package could have written anything here; a verifier does not trust it. Check the package.</p></div>\n"
        f"<dl>{rows_html}</dl>\n"
    )


def _check_it() -> str:
    return (
        "<h2>Check it yourself</h2>\n<pre>python -m aetheris.evidence FILE.zip --trust KEYS</pre>\n"
        "<p>KEYS is a file with the public half of the key that signed, given to you by another way than this package; "
        "if you have none, leave <code>--trust KEYS</code> out. It answers layer by layer and needs neither network "
        "nor account: exit 0 is verified by a key you gave, 3 is consistent in itself but by nobody you know, 1 is "
        "failed, 2 can't be read. Without it: "
        "<code>leaves.bin</code> holds SHA-256 of a zero byte and each line of <code>events.jsonl</code>, and "
        "<code>prev</code> in each line is the leaf of the line before.</p>\n"
        "<p class=soft>No package alone can show a job that was withheld, a second seal by the same key, a tool that "
        "reported something false, or a key that was stolen.</p>\n"
    )


def _calls(rows: list[dict[str, Any]], by_event: dict[int, list[Disclosure]]) -> str:
    if not rows:
        return "<h2>Tool calls</h2>\n<p>None.</p>\n"
    cut = rows[:EVENTS_SHOWN]
    body = "".join(_call(row, by_event) for row in cut)
    return _table(
        "Tool calls", ("step", "attempt", "tool", "effect", "status", "events", "cells"), body, len(rows) - len(cut)
    )


def _call(row: dict[str, Any], by_event: dict[int, list[Disclosure]]) -> str:
    seqs = [move["seq"] for move in row["transitions"]]
    shown = "".join(_cell(cell) for seq in seqs for cell in by_event.get(seq, ()))
    status = f"{row['status']}, {row['outcome']}" if row["outcome"] else row["status"]
    return (
        f"<tr><td class=n>{row['step']}</td><td class=n>{row['attempt']}</td><td>{_text(row['tool_name'])}</td>"
        f"<td>{_text(row['effect'])}</td><td>{_tag(status, row['status'])}</td>"
        f"<td class=n>{', '.join(map(str, seqs))}</td><td class=wide>{shown}</td></tr>\n"
    )


def _timeline(told: list[events.Event | None], by_event: dict[int, list[Disclosure]]) -> str:
    start = next((event.at for event in told if event), 0)
    body = []
    for number, event in enumerate(told[:EVENTS_SHOWN], 1):
        if event is None:
            body.append(f"<tr><td class=n>{number}</td><td colspan=6 class=bad>a line that is no event</td></tr>\n")
            continue
        # A call's cells stand with the call; repeating them would double the page.
        beside = by_event.get(event.seq, ()) if not event.type.startswith("tool_invocation_") else ()
        body.append(
            f"<tr><td class=n>{event.seq}</td><td class=n>{(event.at - start) / 1e6:,.3f} s</td>"
            f"<td>{_text(event.type)}</td><td>{_text(event.by)}</td><td class=n>{event.step or ''}</td>"
            f"<td class=n>{event.epoch}</td><td class=wide><code>{_data(event.data)}</code> "
            f"{''.join(_cell(cell) for cell in beside)}</td></tr>\n"
        )
    heads = ("event", "after", "type", "by", "step", "epoch", "data and cells")
    return _table("Timeline", heads, "".join(body), len(told) - len(body))


def _table(title: str, heads: Iterable[str], body: str, more: int) -> str:
    head = "".join(f"<th>{name}</th>" for name in heads)
    note = f"<p class=soft>{more:,} more are in the package.</p>\n" if more > 0 else ""
    return f"<h2>{title}</h2>\n<div class=scroll><table><tr>{head}</tr>\n{body}</table></div>\n{note}"


def _cell(cell: Disclosure) -> str:
    name = _text(cell.name)
    if cell.body is None:
        return f"{_tag(f'{cell.name} {cell.state}', cell.state)} "
    if format.is_artifact(cell.name):
        return f"<span class=tag>{name}: {len(cell.body):,} bytes in artifacts/</span> "
    text = _text(cell.body[: 4 * BODY_CHARACTERS].decode("utf-8", "backslashreplace"), BODY_CHARACTERS)
    mark = report_slot.value(cell.seq, cell.name)
    return f'<details><summary>{name}</summary><pre data-cell="{mark}">{text}</pre></details>'


def _read(line: bytes) -> events.Event | None:
    try:
        return events.read(line)
    except Corrupt:
        return None


def _status(last: events.Event | None) -> str:
    status = jobs.STATUS_AFTER.get(last.type) if last else None
    word = status.word if status else "running"
    return _tag(word, word)


def _moment(at: int) -> str:
    return f"{_EPOCH + timedelta(microseconds=at):%Y-%m-%d %H:%M:%S} UTC"


def _data(data: dict[str, Any]) -> str:
    return _text(", ".join(f"{name}: {_value(name, value)}" for name, value in data.items()), DATA_CHARACTERS)


def _value(name: str, value: Any) -> Any:
    # No type holds the field to a number: in a stranger's record anything may stand there.
    return _moment(value) if name == "expires_at" and type(value) is int else value


def _tag(text: str, word: str) -> str:
    return f'<span class="tag {_TONES.get(word, "soft")}">{_text(text)}</span>'


def _text(text: str, limit: int = 200) -> str:
    return html.escape(printable(text, limit), quote=True)
