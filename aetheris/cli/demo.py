"""`demo`: the main job end to end, on recorded or generated runs."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click

from aetheris.cli.connect import own_server, with_system
from aetheris.cli.evidence import show_verdict
from aetheris.cli.lake import lake_folder, tell_round
from aetheris.cli.main import json_option
from aetheris.cli.screen import Screen, plural, short_path, size
from aetheris.demo import generate
from aetheris.demo.player import Played, play
from aetheris.domain.errors import Refused
from aetheris.evidence import verify, write
from aetheris.forensics.checks import CheckResult, run_checks
from aetheris.forensics.source import open_source
from aetheris.lake import Lake
from aetheris.runtime.config_file import load
from aetheris.runtime.export import evidence_source
from aetheris.runtime.mirror import mirror_once
from aetheris.runtime.system import AsyncSystem
from aetheris.store import health
from aetheris.store.airline_data import DataSet
from aetheris.store.database import default_home
from aetheris.store.embedded import Embedded
from aetheris.store.mirror_rows import MirrorSource
from ingest.tau_bench import Run, names_in_force, read_runs, read_world

EVIDENCE = Path("demo-evidence.zip")
MISMATCHES_SHOWN = 5
CLONED = Path(".venv/bin/aetheris")


@dataclass(slots=True)
class _Report:
    """What `--json` prints."""

    calls: int = 0
    reproduced: int = 0
    mismatches: list[dict[str, Any]] = field(default_factory=list)
    read_as: dict[str, str] = field(default_factory=dict)
    jobs: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    mirrored: dict[str, int] = field(default_factory=dict)
    violations: dict[str, int] = field(default_factory=dict)
    evidence: dict[str, Any] = field(default_factory=dict)


@click.command()
@click.option("--runs", "runs_file", type=click.Path(path_type=Path), help="Recorded runs, .jsonl or .jsonl.gz.")
@click.option("--world", type=click.Path(path_type=Path), help="Folder with users, flights and reservations.")
@click.option("--as-is", is_flag=True, help="Read the world's files under their own field names, not the recordings'.")
@json_option
def demo(runs_file: Path | None, world: Path | None, as_is: bool, screen: Screen) -> int:
    """Run 100 airline agents, mirror them, check the chain, export and verify evidence.

    Without --runs and --world, both are generated (seeded) under AETHERIS_HOME. With them, the
    recorded assistant turns are played, the tools truly execute, and each result is compared.

    \b
    Example:  aetheris demo --runs runs.jsonl.gz --world tau_airline/
    """
    if (runs_file is None) != (world is None):
        raise Refused("--runs and --world go together: recorded runs, and the database they began from")
    report = _Report()
    began = time.perf_counter()
    runs, data = _material(runs_file, world, as_is, report)
    if not screen.as_json:
        _tell_making()
    code = with_system(lambda system: _demo(system, runs, data, screen, report, began), anywhere=True)
    screen.json(asdict(report))
    return code


def _material(runs_file: Path | None, world: Path | None, as_is: bool, report: _Report) -> tuple[list[Run], DataSet]:
    if runs_file is None or world is None:
        world = default_home() / "demo"
        runs_file = world / "runs.jsonl.gz"
        if not runs_file.exists():
            world.mkdir(parents=True, exist_ok=True)
            generate.write(world)
    runs = read_runs(runs_file)
    report.read_as = {} if as_is else names_in_force(runs)
    return runs, read_world(world, renamed=report.read_as or None)


def _tell_making() -> None:
    """Say on stderr, whose lines are no result, that the embedded server is made first, where it is."""
    home = default_home()
    if own_server(load()) is None and Embedded(home).status().state == "absent":
        click.echo(f"making an embedded PostgreSQL in {short_path(home)} (some seconds, once)", err=True)


async def _demo(
    system: AsyncSystem, runs: list[Run], data: DataSet, screen: Screen, report: _Report, began: float
) -> int:
    await _tell_database(system, screen, time.perf_counter() - began)
    at = time.perf_counter()
    with screen.progress(f"{len(runs)} jobs", len(runs)) as done:
        played = await play(system, runs, data, on_ended=done)
    report.seconds["play"] = round(time.perf_counter() - at, 3)
    _tell_played(played, screen, report)

    folder = lake_folder(None)
    source = MirrorSource(system.database)
    lake = Lake(folder, source.catalog_uri)
    try:
        round_ = await mirror_once(source, lake)
    finally:
        lake.close()
    report.mirrored, report.seconds["mirror"] = round_.rows, round(round_.seconds, 3)
    tell_round(round_, folder, screen)

    results = await asyncio.to_thread(_check, folder, screen, report)
    await _export(system, played.jobs[-1], screen, report)
    screen.line()
    screen.line(_next(played.jobs[-1][:6]))
    return 0 if all(r.passed for r in results) and played.reproduced == played.calls else 1


async def _tell_database(system: AsyncSystem, screen: Screen, seconds: float) -> None:
    async with await system.database.connect("app") as connection:
        version, _ = await health.versions(connection)
    place = "embedded in " + short_path(default_home()) if system.database.embedded else f"at {system.database.where}"
    screen.fact(f"PostgreSQL {version},", place, seconds)


def _tell_played(played: Played, screen: Screen, report: _Report) -> None:
    report.jobs, report.calls, report.reproduced = len(played.jobs), played.calls, played.reproduced
    report.mismatches = [asdict(m) for m in played.mismatches]
    screen.fact(f"{report.jobs} jobs", plural(played.calls, "call"), report.seconds["play"])
    screen.fact("recorded", f"results reproduced: {played.reproduced} of {played.calls}")
    for was, name in report.read_as.items():
        screen.line(
            f"           (the files' {was!r} is read as {name!r}, as the recordings call it; --as-is leaves it)"
        )
    for why, count in played.causes.items():
        screen.line(f"           {count} differ: {why}", style="yellow")
    for m in played.mismatches[:MISMATCHES_SHOWN]:
        screen.line(f"           task {m.task_id} trial {m.trial} call {m.call} {m.tool}: {m.cause}", style="dim")


def _check(folder: Path, screen: Screen, report: _Report) -> list[CheckResult]:
    at = time.perf_counter()
    with open_source(folder) as session:
        results = list(run_checks(session))
    report.violations = {r.name: r.violations for r in results}
    report.seconds["checks"] = round(time.perf_counter() - at, 3)
    names = ", ".join(r.name.rpartition("/")[2] for r in results)
    total = sum(r.violations for r in results)
    screen.fact(
        "checks", f"{names}: {plural(total, 'violation')}", report.seconds["checks"], "" if total == 0 else "red"
    )
    for r in results:
        if not r.passed:
            screen.line(
                f"           {r.name}: {plural(r.violations, 'violation')}; `aetheris check` shows them", style="red"
            )
    return results


async def _export(system: AsyncSystem, job: str, screen: Screen, report: _Report) -> None:
    summary = write(evidence_source(await system.record(job)), EVIDENCE)
    verdict = verify(EVIDENCE)
    report.evidence = {"file": str(EVIDENCE), "bytes": summary.size, "exit": verdict.exit_code, "verdict": verdict.word}
    screen.fact("evidence", f"{EVIDENCE}, {size(summary.size)}: {verdict.word} (unsigned)")
    if verdict.failed:
        show_verdict(verdict, screen)


def _next(job: str) -> str:
    """Return what to type now: in a clone, whose .venv is on nobody's path, otherwise than where it was installed."""
    clone = CLONED.exists() and Path("Makefile").exists()
    name = str(CLONED) if clone else "aetheris"
    return f"Next:  {name} jobs      {name} trace {job}" + ("      make lab" if clone else "")
