"""Runs a notebook's cells in this process, statement by statement, so that a test can break something under them.

What a kernel would show is shown (to nobody), so code that only runs when an
object is looked at runs too. A subprocess that the cells start is broken by
`in_subprocesses`.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aetheris.runtime.facade import System

ROOT = Path(__file__).parents[2]
NOTEBOOKS = ROOT / "notebooks"
FIXTURES = ROOT / "data" / "fixtures"

Names = dict[str, Any]


@dataclass(frozen=True)
class Stopped:
    """A cell that stopped: the statement that did not pass, and what it said."""

    statement: str
    error: Exception

    @property
    def said(self) -> str:
        """The error as a reader of the notebook sees it."""
        return f"{type(self.error).__name__}: {self.error}"


def run(
    name: str,
    *,
    until: str | None = None,
    without: Sequence[str] = (),
    before: Mapping[str, Callable[[Names], object]] | None = None,
) -> list[Stopped]:
    """Run the cells in order and return those that stopped; the ones after them are run all the same.

    Ends with the cell that contains `until`, leaves out cells that contain a
    text of `without`, and calls what `before` names before the cell that
    contains its text, with the notebook's names. Every text must be in a cell.
    """
    cells = _cells(NOTEBOOKS / f"{name}.ipynb")
    for text in [*without, *(before or {}), *([] if until is None else [until])]:
        assert any(text in source for source in cells), f"{name} has no cell with {text!r}"
    names: Names = {"__name__": "__main__"}
    try:
        return _run_cells(cells, names, until, without, before or {})
    finally:
        if isinstance(system := names.get("system"), System):  # a kernel that ends lets go of it, too
            system.close()


def in_subprocesses(monkeypatch: pytest.MonkeyPatch, folder: Path, code: str) -> None:
    """Let every Python that this one starts run `code` first; `words` there is its command line."""
    folder.mkdir(parents=True)
    (folder / "sitecustomize.py").write_text(f"import sys\nwords = sys.orig_argv\n{code}")
    monkeypatch.setenv("PYTHONPATH", str(folder))


def flip(path: Path, place: int = -9) -> None:
    """Change one byte of a file."""
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(bytes(data))


def _cells(path: Path) -> list[str]:
    return ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def _run_cells(
    cells: Sequence[str],
    names: Names,
    until: str | None,
    without: Sequence[str],
    before: Mapping[str, Callable[[Names], object]],
) -> list[Stopped]:
    stopped = []
    for source in cells:
        if any(text in source for text in without):
            continue
        for text, act in before.items():
            if text in source:
                act(names)
        if (found := _run_cell(source, names)) is not None:
            stopped.append(found)
        if until is not None and until in source:
            break
    return stopped


def _run_cell(source: str, names: Names) -> Stopped | None:
    tree = ast.parse(source)
    for number, statement in enumerate(tree.body, 1):
        try:
            if isinstance(statement, ast.Expr):
                value = eval(compile(ast.Expression(statement.value), "<cell>", "eval"), names)  # noqa: S307
                if number == len(tree.body):
                    _show(value)
            else:
                exec(compile(ast.Module([statement], []), "<cell>", "exec"), names)
        except Exception as error:  # noqa: BLE001  whatever stops it is what the test looks at
            return Stopped(ast.get_source_segment(source, statement) or "", error)
    return None


def _show(value: object) -> None:
    repr(value)
    if (as_html := getattr(value, "_repr_html_", None)) is not None:
        as_html()
