"""A process that compacts a lake over and over until it is killed: `python -m tests.store.compact_once DSN FOLDER`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from aetheris.lake import Lake
from aetheris.runtime.archive import compact
from aetheris.store.database import Database
from aetheris.store.mirror_rows import MirrorSource


async def main(dsn: str, folder: str) -> None:
    """Say when it begins."""
    source = MirrorSource(Database(dsn))
    lake = Lake(Path(folder), source.catalog_uri)
    lake.heads(lake.published())
    print("begins", flush=True)
    while True:
        await compact(source, lake, now=4e9, grace_seconds=0)


asyncio.run(main(*sys.argv[1:]))
