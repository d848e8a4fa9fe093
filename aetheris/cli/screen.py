"""What commands print: rich on a terminal, plain when piped, one JSON document with --json.

Whatever comes from a log may hold anything; nothing is printed before its
control characters and direction marks are escaped.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text


def printable(text: str) -> str:
    """Return `text` with control characters and direction marks written as escapes."""
    return "".join(c if unicodedata.category(c) not in _UNPRINTABLE else _escape(c) for c in text)


_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def _escape(c: str) -> str:
    return c.encode("unicode_escape").decode("ascii")


def _pad(text: str, width: int, right: bool) -> str:
    space = " " * (width - cell_len(text))
    return space + text if right else text + space


class Screen:
    """One command's output."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self._console = Console(highlight=False, soft_wrap=not sys.stdout.isatty(), emoji=False, markup=False)

    @property
    def is_terminal(self) -> bool:
        """True when a person looks at it."""
        return self._console.is_terminal and not self.as_json

    def line(self, text: str = "", style: str = "") -> None:
        """Print one line."""
        if not self.as_json:
            self._console.print(Text(printable(text), style=style))

    def fact(self, name: str, text: str, seconds: float | None = None, style: str = "") -> None:
        """Print a named fact, its time at the end: the form of `aetheris demo`."""
        if self.as_json:
            return
        line = Text(f"{name:<10} ", style="bold")
        line.append(printable(text), style=style)
        if seconds is not None:
            line.append(f"  {duration(seconds)}", style="dim")
        self._console.print(line)

    def table(
        self, headings: Sequence[str], rows: Iterable[Sequence[str | Text]], *, right: Sequence[int] = ()
    ) -> None:
        """Print rows under headings; plain text in columns when piped."""
        if self.as_json:
            return
        cells = [[Text(printable(c)) if isinstance(c, str) else c for c in row] for row in rows]
        if not self._console.is_terminal:
            self._plain(headings, [[c.plain for c in row] for row in cells], right)
            return
        grid = Table(box=None, pad_edge=False, header_style="bold dim", show_header=any(headings), padding=(0, 2, 0, 0))
        for index, heading in enumerate(headings):
            last = index == len(headings) - 1
            grid.add_column(heading, justify="right" if index in right else "left", no_wrap=not last, overflow="fold")
        for row in cells:
            grid.add_row(*row)
        self._console.print(grid)

    def _plain(self, headings: Sequence[str], rows: list[list[str]], right: Sequence[int]) -> None:
        # Never cropped: what is piped is read by programs and by search.
        table = [list(headings), *rows] if any(headings) else rows
        widths = [max(cell_len(row[i]) for row in table) for i in range(len(headings))] if table else []
        for row in table:
            padded = [_pad(c, w, i in right) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
            sys.stdout.write("  ".join(padded).rstrip() + "\n")

    def json(self, value: Any) -> None:
        """Print the document, if JSON was asked for."""
        if self.as_json:
            sys.stdout.write(_document(value) + "\n")

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Any]:
        """Show a bar on a terminal; yields a function that takes how many are done."""
        if not self.is_terminal:
            yield lambda done: None
            return
        # Here, for few commands draw a bar, and all would load it.
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn(f"{what:<9}"), BarColumn(30), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console, transient=True) as bar:
            task = bar.add_task(what, total=total)
            yield lambda done: bar.update(task, completed=done)


def _document(value: Any) -> str:
    try:
        return orjson.dumps(value, default=str, option=orjson.OPT_INDENT_2).decode()
    except TypeError:  # an integer beyond 64 bits, which a job may return
        return json.dumps(value, default=str, ensure_ascii=False, indent=2)


def duration(seconds: float) -> str:
    """Return a duration as people read it."""
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 0.1:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} days"


def size(count: int) -> str:
    """Return a number of bytes as people read it."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}" if count < 10 * scale else f"{count / scale:.0f} {unit}"
    return f"{count} B"


def ago(when: datetime) -> str:
    """Return how long ago, as people read it."""
    return duration(max((datetime.now(UTC) - when).total_seconds(), 0.0))


def short_path(path: Path) -> str:
    """Return `path` as one would type it from here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def plural(count: int, noun: str) -> str:
    """Return "1 job", "2 jobs", "4,310 events"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
