"""Where report.html shows a cell: the mark that the writer sets and the verifier looks for."""

from __future__ import annotations

import html
import re

from aetheris.domain.plain import printable

#: Finds every mark in a report's bytes.
MARK = re.compile(rb'data-cell="([^"]*)"')


def value(seq: int, name: str) -> str:
    """Return the mark's value for a cell, escaped for an attribute."""
    return html.escape(f"{seq}/{printable(name, 400)}", quote=True)
