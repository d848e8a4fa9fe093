"""Statements live in `sql/`, one per file, named for what they do."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def statement(name: str) -> bytes:
    """Return the text of `sql/NAME.sql`, as psycopg takes it."""
    return (files("aetheris.store") / "sql" / f"{name}.sql").read_bytes()
