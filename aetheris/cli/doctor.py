"""`doctor`: looks at what the system stands on, and says what to do."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click

from aetheris.cli.connect import open_database
from aetheris.cli.main import json_option
from aetheris.cli.screen import Screen, plural, size
from aetheris.domain.errors import AetherisError
from aetheris.lake import open_lake
from aetheris.runtime.config import Model
from aetheris.runtime.config_file import load
from aetheris.runtime.llm.model import Models
from aetheris.store import health, snapshots
from aetheris.store.database import Database, Role, default_home

OK, WARN, BAD = "ok", "look", "bad"
STYLES = {OK: "green", WARN: "yellow", BAD: "bold red"}
DISK_LOW_BYTES = 1_000_000_000
CLOCK_OFF_SECONDS = 1.0
SNAPSHOTS_LOOKED_AT = 200
ROLES: tuple[Role, ...] = ("app", "worker", "mirror", "keeper")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at."""

    what: str
    state: str
    text: str


@click.command()
@json_option
def doctor(screen: Screen) -> int:
    """Look at database, walls, clock, disk, workers and lake, and say what to do. Exit 1 if anything is bad.

    \b
    Example:  aetheris doctor
    """
    findings = asyncio.run(_look())
    for f in findings:
        screen.fact(f"{f.what:<10}", f"{f.state:<5} {f.text}", style=STYLES[f.state])
    screen.json([asdict(f) for f in findings])
    return 1 if any(f.state == BAD for f in findings) else 0


async def _look() -> list[Finding]:
    findings = []
    try:
        models = load().config.models
    except AetherisError as error:
        # It may name the database: no other is looked at in its place.
        return [Finding("config", BAD, f"{error}; not looked at: the database"), _disk(), _lake()]
    try:
        database = await asyncio.to_thread(open_database)
    except AetherisError as error:
        return [Finding("database", BAD, str(error)), *_models(models), _disk(), _lake()]
    try:
        looks: list[tuple[str, Callable[[Database], Awaitable[Finding]]]] = [
            ("database", _database),
            ("settings", _settings),
            ("walls", _walls),
            ("clock", _clock),
            ("work", _work),
            ("retention", _retention),
            ("snapshots", _snapshots),
        ]
        failed: dict[str, list[str]] = {}
        for what, look in looks:
            try:
                findings.append(await look(database))
            except AetherisError as error:
                if (why := str(error)) not in failed:
                    findings.append(Finding(what, BAD, why))
                failed.setdefault(why, []).append(what)
    finally:
        database.close()
    return [*(_with_others(f, failed.get(f.text, [])[1:]) for f in findings), *_models(models), _disk(), _lake()]


def _with_others(finding: Finding, others: list[str]) -> Finding:
    """Say with a reason what else can't be looked at for it, rather than say it again for each."""
    return replace(finding, text=f"{finding.text}; not looked at: {', '.join(others)}") if others else finding


async def _database(database: Database) -> Finding:
    async with await database.connect("app") as connection:
        version, schema = await health.versions(connection)
    note = "; whoever reaches its socket is superuser: one person's machine" if database.embedded else ""
    return Finding("database", OK, f"PostgreSQL {version} at {database.where}, schema {schema}{note}")


async def _settings(database: Database) -> Finding:
    async with await database.connect("app") as connection:
        weak = await health.unsafe_settings(connection)
    if weak:
        return Finding(
            "settings", BAD, f"{', '.join(weak)}: a crash of the server could lose what was promised; turn it on"
        )
    return Finding("settings", OK, "fsync, synchronous_commit, full_page_writes are on")


async def _walls(database: Database) -> Finding:
    for role in ROLES:
        async with await database.connect(role):
            pass
    return Finding(
        "walls",
        OK,
        f"row-level security is forced, every key begins with the tenant; {', '.join(ROLES)} can't see past it",
    )


async def _clock(database: Database) -> Finding:
    from aetheris.store.workers import clock_offset_us

    async with await database.connect("app") as connection:
        off = await clock_offset_us(connection) / 1e6
    state = OK if abs(off) < CLOCK_OFF_SECONDS else WARN
    advice = "" if state == OK else "; leases don't mind, but synchronise this machine's clock"
    return Finding("clock", state, f"{off:+.3f} s from the database's{advice}")


async def _work(database: Database) -> Finding:
    async with await database.connect("worker") as connection:
        counts = await health.work(connection)
    states = (f"{counts[name]} {name}" for name in ("pending", "running", "parked"))
    text = ", ".join([plural(counts["workers"], "worker"), *states])
    if counts["overdue"]:
        return Finding("work", WARN, f"{text}; {counts['overdue']} leases ran out and nobody took over: start a worker")
    if counts["doubt"]:
        return Finding("work", WARN, f"{text}; {counts['doubt']} jobs have a call in doubt: `aetheris jobs --parked`")
    return Finding("work", OK, text)


async def _retention(database: Database) -> Finding:
    async with await database.connect("keeper") as connection:
        counts = await health.retention(connection)
    text = ", ".join(f"{counts[name]} {name}" for name in ("unsealed", "held", "collected"))
    if counts["broken"]:
        broken = f"{counts['broken']} finished jobs contradict themselves: `aetheris seal` names them"
        return Finding("retention", BAD, f"{text}; {broken}")
    if counts["erasing"]:
        erasing = f"{counts['erasing']} erased cells may lie in the lake: `aetheris mirror --follow` takes them"
        return Finding("retention", WARN, f"{text}; {erasing}")
    return Finding("retention", OK, text)


async def _snapshots(database: Database) -> Finding:
    async with await database.connect("worker") as connection:
        count, unsound = await snapshots.look(connection, SNAPSHOTS_LOOKED_AT)
    newest = f"the newest {count} match" if count == SNAPSHOTS_LOOKED_AT else f"{count}, all sound"
    if not unsound:
        return Finding("snapshots", OK, newest)
    (_, job), seq, why = unsound[0]
    return Finding(
        "snapshots",
        BAD,
        f"{len(unsound)} of {count} can't be used, first that of job {job[:8]} at event {seq}: {why}; replay does"
        " without them, but find out who writes to the database besides Aetheris",
    )


def _models(keys: Mapping[str, Model]) -> list[Finding]:
    models = Models(keys)
    names = [offer.removeprefix("llm:") for offer in models.offers]
    lacking = {name: models.get(name).lacking() for name in names}
    return [
        Finding(f"llm {name}", WARN if text else OK, f"{text}: jobs that ask it are parked" if text else "has its key")
        for name, text in lacking.items()
    ]


def _disk() -> Finding:
    place = default_home()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    state = OK if free > DISK_LOW_BYTES else WARN
    return Finding("disk", state, f"{size(free)} free at {place}{'' if state == OK else '; free some'}")


def _lake() -> Finding:
    folder: Path = default_home() / "lake"
    if not (folder / "lake.json").exists():
        return Finding("lake", OK, f"none yet at {folder}; `aetheris mirror` makes it")
    try:
        lake = open_lake(folder, verify=True)
    except AetherisError as error:
        return Finding("lake", BAD, str(error))
    return Finding("lake", OK, f"round {lake.round}, {len(lake.files)} files at {folder}; every file's SHA-256 matches")
