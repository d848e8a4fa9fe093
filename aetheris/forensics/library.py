"""The query library: one rule or question per `.sql` file, with a contract in its first lines.

    -- family/name: what it holds, in one sentence
    --
    -- binds     $name TYPE, ...
    -- columns   name TYPE, ...

A query that is a check has the line `-- violation ...`: its rows are its
violations, none is a pass. Values are bound, never pasted.

What several queries share stands once, as a part: a list of `name as (...)`
in `parts/`, put in the place of the line `-- include parts/NAME`. A part is no
query and can't be asked for.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from aetheris.domain.errors import Refused

_BIND = re.compile(r"\$([a-z_]+)")
_INCLUDE = re.compile(r"^-- include (parts/[a-z_]+)$", re.MULTILINE)
_PARTS = "parts"
_LABELS = ("violation", "binds", "reads", "columns", "blind to")


@dataclass(frozen=True, slots=True)
class Query:
    """One named query as it ships."""

    name: str
    title: str
    sql: str
    notes: dict[str, str]

    @property
    def sha256(self) -> str:
        """Digest of the SQL that runs, its parts put in: which query it was, to the letter."""
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def is_check(self) -> bool:
        """True when its rows are violations."""
        return "violation" in self.notes

    @property
    def binds(self) -> tuple[str, ...]:
        """The names of its parameters."""
        return tuple(dict.fromkeys(_BIND.findall(self.notes.get("binds", ""))))

    @property
    def required(self) -> tuple[str, ...]:
        """The parameters without which it has no rows: those for which its SQL gives null no meaning."""
        return tuple(b for b in self.binds if not re.search(rf"\${b} is null|coalesce\(\${b}\b", self.sql))

    @property
    def columns(self) -> tuple[tuple[str, str], ...]:
        """(name, DuckDB type) of what it returns, as its contract says."""
        parts = re.split(r",\s*(?![^(]*\))", self.notes.get("columns", ""))
        return tuple((name, kind) for name, _, kind in (p.strip().partition(" ") for p in parts if p.strip()))


def root() -> Path:
    """Return the folder of the library: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "queries"
    return inside if inside.is_dir() else package.parent / "queries"


@cache
def library() -> dict[str, Query]:
    """Return every query by name, in order of name."""
    folder = root()
    found = {}
    for path in sorted(folder.rglob("*.sql")):
        if path.parent.name == _PARTS:
            continue
        name = path.relative_to(folder).with_suffix("").as_posix()
        found[name] = read(name, _whole(folder, path.read_text(encoding="utf-8")))
    return found


def get(name: str) -> Query:
    """Return the query of that name. Errors: Refused, with what comes near."""
    queries = library()
    if name in queries:
        return queries[name]
    near = [n for n in queries if name.rpartition("/")[2] in n] or list(queries)
    raise Refused(f"no query is named {name!r}; there are {', '.join(near[:6])}{', …' * (len(near) > 6)}")


def checks() -> list[Query]:
    """Return the queries whose rows are violations: integrity first, then by name."""
    found = [q for q in library().values() if q.is_check]
    return sorted(found, key=lambda q: (not q.name.startswith("integrity/"), _ORDER.get(q.name, 99), q.name))


#: In the order in which an auditor asks.
_ORDER = {
    f"integrity/{n}": i
    for i, n in enumerate(("chain", "gaps", "genesis", "moves", "calls", "doubt", "ledger", "cells"))
}


def _whole(folder: Path, text: str) -> str:
    """Return the query's text with its parts in their places, so that one text is run, shown and digested."""
    return _INCLUDE.sub(lambda m: (folder / f"{m[1]}.sql").read_text(encoding="utf-8").rstrip(), text)


def read(name: str, text: str) -> Query:
    """Return a query from its text, its contract parsed."""
    lines = text.splitlines()
    title = lines[0].removeprefix("--").strip().partition(":")[2].strip() if lines else ""
    notes: dict[str, str] = {}
    label = ""
    for line in lines[1:]:
        if not line.startswith("--"):
            break
        body = line[2:].removeprefix(" ")
        started = next((known for known in _LABELS if body.startswith(known + " ")), None)
        if started is not None:
            label = started
            notes[label] = body[len(started) :].strip()
        elif label and body.strip():
            notes[label] += " " + body.strip()
    return Query(name, title, text, notes)
