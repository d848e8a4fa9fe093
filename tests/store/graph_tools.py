"""Tools for graphs run by processes of their own; the world is a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import aetheris as ae


@ae.tool
def mark(what: str) -> dict[str, Any]:
    """An effect: a line in the file that WORLD names, on the disk before it is over."""
    with Path(os.environ["WORLD"]).open("a") as world:
        world.write(f"{what}\n")
        world.flush()
        os.fsync(world.fileno())
    return {"marked": what}


@ae.tool(effect="none")
async def length(text: str) -> int:
    """A reading."""
    return len(text)
