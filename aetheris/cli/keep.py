"""`seal`, `hold`, `gc`, `erase`, `compact`: what happens to jobs once they have ended. Each is on the audit chain."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import click

from aetheris.cli.connect import with_system
from aetheris.cli.lake import lake_folder, lake_option
from aetheris.cli.main import json_option
from aetheris.cli.screen import Screen, plural, size
from aetheris.domain.errors import Refused
from aetheris.lake import Lake
from aetheris.runtime import erasure, keeping
from aetheris.runtime.archive import compact as compacted
from aetheris.runtime.archive import erase_in_lake
from aetheris.runtime.sealing import KEY_MISSING
from aetheris.runtime.submit import whoami
from aetheris.runtime.system import AsyncSystem
from aetheris.store import retention
from aetheris.store.mirror_rows import MirrorSource

T = TypeVar("T")
why_option = click.option("--why", required=True, help="The reason. Stays on the audit chain.")


async def _with_lake(system: AsyncSystem, folder: Path, work: Callable[[MirrorSource, Lake], Awaitable[T]]) -> T:
    source = MirrorSource(system.database)
    lake = Lake(folder, source.catalog_uri)
    try:
        return await work(source, lake)
    finally:
        lake.close()


@click.command()
@json_option
def seal(screen: Screen) -> int:
    """Seal every finished job that has no seal yet. `aetheris mirror --follow` does it by itself.

    \b
    Example:  aetheris seal
    """
    done = with_system(keeping.seal)
    screen.fact("sealed", plural(done.count, "job"))
    for (_, job), why in done.broken:
        screen.line(f"{job[:8]} is not sealed: {why}", style="red")
    screen.json({"sealed": done.count, "broken": [{"job": job, "why": why} for (_, job), why in done.broken]})
    return 1 if done.broken else 0


@click.command()
@click.argument("job", required=False)
@click.option("--release", "ending", is_flag=True, help="End the hold.")
@click.option("--why", default="", help="The reason. Stays on the audit chain.")
@json_option
def hold(job: str | None, ending: bool, why: str, screen: Screen) -> None:
    """Keep a job from collection and erasure (legal hold) until it is released; without JOB, list what is held.

    \b
    Example:  aetheris hold 7kq2 --why "case 4711"
              aetheris hold 7kq2 --release --why "case closed"
    """
    if job is None:
        _holds(screen)
        return
    if not why.strip():
        raise Refused('say why with --why "...": it stays on the audit chain')

    async def work(system: AsyncSystem) -> tuple[str, bool]:
        found = await _find(system, job)
        act = erasure.release if ending else erasure.hold
        return found, await act(system.database, system.tenant, found, by=whoami(), reason=why)

    found, changed = with_system(work)
    word = ("is free again" if changed else "was not held") if ending else ("is held" if changed else "was held before")
    screen.line(f"{found[:8]} {word}")
    screen.json({"job": found, "action": "release" if ending else "hold", "changed": changed})


def _holds(screen: Screen) -> None:
    async def work(system: AsyncSystem) -> list[retention.Hold]:
        async with await system.database.connect("keeper") as connection:
            return await retention.holds(connection, system.tenant)

    found = with_system(work)
    screen.json([asdict(h) for h in found])
    if not found:
        screen.line("no job is held")
        return
    rows = [[h.job[:8], f"{h.placed_at:%Y-%m-%d}", h.placed_by, h.reason] for h in found]
    screen.table(["JOB", "SINCE", "BY", "WHY"], rows)


async def _find(system: AsyncSystem, prefix: str) -> str:
    """Return the one job that starts so, in the store or collected."""
    return (await system.record(prefix)).row.job


@click.command()
@lake_option
@click.option("--older-than", "days", type=int, help="Days since a job ended.  [default: runtime.gc.ttl_days, 90]")
@click.option("--dry-run", is_flag=True, help="Only say what would go, and what stays and why.")
@json_option
def gc(place: Path | None, days: int | None, dry_run: bool, screen: Screen) -> None:
    """Take old finished jobs out of PostgreSQL: sealed ones, under no hold, that the lake is shown to hold whole.

    They are still traced, checked and exported, from the lake. Counts go on the audit chain.

    \b
    Example:  aetheris gc --dry-run
    """
    folder = lake_folder(place)

    done = with_system(lambda system: keeping.collect(system, days=days, dry_run=dry_run, lake=folder))
    if dry_run:
        screen.fact("would go", f"{plural(done.jobs, 'job')} that ended more than {done.days} days ago")
    else:
        screen.fact("collected", f"{plural(done.jobs, 'job')}, {plural(done.rows.total(), 'row')}")
    kept = {reason: count for reason, count in sorted(done.kept.items()) if count}
    for reason, count in kept.items():
        screen.fact("stays", f"{plural(count, 'job')}: {reason}")
    if done.signatures_unchecked:
        screen.fact("signatures", f"not looked at: {KEY_MISSING}", style="yellow")
    told = {"dry_run": dry_run, "days": done.days, "jobs": done.jobs, "rows": dict(done.rows), "kept": kept}
    screen.json({**told, "signatures_unchecked": done.signatures_unchecked})


@click.command()
@click.argument("job")
@click.argument("cells", nargs=-1, metavar="[EVENT/NAME]...")
@click.option("--all", "everything", is_flag=True, help="Every cell of the job.")
@why_option
@click.option("--dry-run", is_flag=True, help="Only say which cells would be erased.")
@lake_option
@json_option
def erase(
    job: str, cells: tuple[str, ...], everything: bool, why: str, dry_run: bool, place: Path | None, screen: Screen
) -> None:
    """Erase what was said in a finished job, in PostgreSQL and in every file of the lake. The chain still verifies.

    A cell goes with its parts. WAL archives and backups are yours to expire. `aetheris query trace/cells` lists cells.

    \b
    Example:  aetheris erase 7kq2 4/args/passenger/email --why "their request"
    """
    if everything == bool(cells):
        raise click.UsageError("name cells as EVENT/NAME, such as 4/args, or give --all")
    keys = None if everything else [erasure.cell_key(c) for c in cells]
    folder = lake_folder(place)

    async def work(system: AsyncSystem) -> tuple[erasure.Erased, int]:
        found = await _find(system, job)
        done = await erasure.erase(
            system.database, folder, system.tenant, found, keys, by=whoami(), reason=why, dry_run=dry_run
        )
        if dry_run or not (folder / "lake.json").exists():
            return done, 0
        in_lake = await _with_lake(system, folder, lambda s, lake: erase_in_lake(system.database, s, lake))
        return done, in_lake.files

    done, files = with_system(work)
    names = ", ".join(f"{seq}/{name}" for seq, name in done.cells) or "nothing"
    screen.fact("would erase" if dry_run else "erased", names)
    if done.before:
        screen.fact("before", f"{plural(len(done.before), 'cell')} had been erased")
    if files:
        screen.fact("lake", f"{plural(files, 'file')} rewritten or deleted; no byte of it is left under {folder}")
    screen.json({**asdict(done), "files": files})


@click.command()
@lake_option
@json_option
def compact(place: Path | None, screen: Screen) -> None:
    """Merge the lake's small files by day, let old versions go, delete files that nothing names.

    The mirror may go on meanwhile; `aetheris mirror --follow` does it hourly.

    \b
    Example:  aetheris compact
    """
    folder = lake_folder(place)
    done = with_system(lambda system: _with_lake(system, folder, compacted))
    screen.fact("merged", f"{plural(done.files_before, 'file')} to {done.files_after}", done.seconds)
    if done.later:
        screen.fact("later", f"{done.later} days of tables: the mirror was faster, try again")
    gone = done.swept
    screen.fact("let go", f"{plural(done.versions, 'version')}, {plural(gone.files, 'file')}, {size(gone.bytes)}")
    screen.json(asdict(done))
