"""A table that shows itself: plain text in a terminal, escaped HTML in a notebook."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from aetheris.domain.plain import printable
from aetheris.domain.trace import TraceLine

ROWS_SHOWN = 100
CELL_CHARACTERS = 200


class Rows:
    """Rows under headings. Whatever they hold is shown as text and never as markup."""

    def __init__(self, headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        self.headings, self.rows = list(headings), [list(row) for row in rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (dict(zip(self.headings, row, strict=True)) for row in self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return dict(zip(self.headings, self.rows[index], strict=True))

    def __repr__(self) -> str:
        if not self.rows:
            return "no rows"
        table = [self.headings, *([text(v) for v in row] for row in self.rows[:ROWS_SHOWN])]
        widths = [max(len(row[i]) for row in table) for i in range(len(self.headings))]
        lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in table]
        return "\n".join(lines + self._more())

    def _repr_html_(self) -> str:
        head = "".join(f"<th style='text-align:left'>{html.escape(h)}</th>" for h in self.headings)
        body = "".join(
            "<tr>" + "".join(f"<td style='text-align:left'>{html.escape(text(v))}</td>" for v in row) + "</tr>"
            for row in self.rows[:ROWS_SHOWN]
        )
        more = "".join(f"<p>{html.escape(line)}</p>" for line in self._more())
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"

    def _more(self) -> list[str]:
        left = len(self.rows) - ROWS_SHOWN
        return [f"and {left:,} more rows"] if left > 0 else []


def trace_rows(lines: Iterable[TraceLine]) -> Rows:
    """Return a job's trace as a table."""
    headings = ["ms", "what", "name", "effect", "states", "note"]
    rows = [
        [
            f"{x.since_start_us / 1e3:.1f}",
            f"{x.what} {x.step}" if x.what == "call" else x.what,
            x.name,
            x.effect,
            ", ".join(x.states),
            x.note,
        ]
        for x in lines
    ]
    return Rows(headings, rows)


def text(value: Any) -> str:
    """Return a value as one line that is safe to show."""
    if value is None:
        return ""
    shown = value.hex() if isinstance(value, bytes) else str(value)
    return printable(shown, CELL_CHARACTERS)
