"""Statements live in `sql/`, one per file, named for what they do."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files


@cache
def statement(name: str) -> bytes:
    """Return the text of `sql/NAME.sql`, as psycopg takes it."""
    return (files("aetheris.store") / "sql" / f"{name}.sql").read_bytes()


@cache
def named(file: str, name: str) -> str:
    """Return the statement that follows `-- name: NAME` in `sql/FILE.sql`."""
    text = statement(file).decode()
    found = re.search(rf"^-- name: {name}$(.*?)(?=^-- name: |\Z)", text, re.DOTALL | re.MULTILINE)
    assert found is not None, (file, name)
    return found[1].strip()
