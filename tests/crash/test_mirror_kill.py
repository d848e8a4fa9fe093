"""A mirror killed at each of its commits: what it leaves is a whole round, and the next one goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from aetheris.lake import open_lake
from aetheris.store.database import Database
from tests.store.mirror_support import World

MIRROR = """
import asyncio, os, signal, sys
from pathlib import Path
from aetheris.lake import Lake
from aetheris.runtime.mirror import mirror_once
from aetheris.store.database import Database
from aetheris.store.mirror_rows import MirrorSource

dsn, folder, *points = sys.argv[1:]
source = MirrorSource(Database(dsn))
lake = Lake(Path(folder), source.catalog_uri)

for point in points:
    pid = os.fork()
    if pid == 0:
        lake.catalog.engine.dispose(close=False)
        passed = lambda name: os.kill(os.getpid(), signal.SIGKILL) if name == point else None
        asyncio.run(mirror_once(source, lake, passed=passed))
        os._exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
    sys.stdin.readline()
"""
TABLES = ["events", "cells", "ledger"]
POINTS = ["cut", *(f"{act} {table}" for table in TABLES for act in ("written", "committed")), "committed", "published"]


@pytest.mark.parametrize("begun", [True, False], ids=["in a lake", "in its first round"])
def test_a_mirror_killed_at_each_commit_leaves_a_whole_lake(database: Database, tmp_path: Path, begun: bool) -> None:
    """Machines die between any two commits: readers see the last whole round, and no row is lost or doubled."""
    world = World(database, tmp_path / "lake")
    if begun:
        world.write("job-a", 3)
        world.mirror()
    argv = [sys.executable, "-c", MIRROR, world.database.admin_dsn, str(world.folder), *POINTS]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as mirror:
        assert mirror.stdin is not None
        assert mirror.stdout is not None
        published = begun
        for point in POINTS:
            world.write("job-a", 2)
            world.write(f"job-{len(point)}", 1, tenant="acme")
            before = world.mirrored() if published else []
            mirror.stdin.write("\n") if point != POINTS[0] else None
            mirror.stdin.flush()
            assert mirror.stdout.readline().strip() == str(-signal.SIGKILL), point
            if point == "published":
                world.assert_equal()
            elif published:
                assert world.mirrored() == before, point
        mirror.stdin.close()
    assert open_lake(world.folder, verify=True).round == (2 if begun else 1)
    world.write("job-a", 1)
    world.mirror()
    world.assert_equal()
    world.close()
