"""`mirror`, `check`, `query`: the open lake, and what DuckDB finds in it."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import time
from pathlib import Path
from typing import Any

import click

from aetheris.cli.connect import with_system
from aetheris.cli.main import json_option
from aetheris.cli.screen import Screen, plural, short_path
from aetheris.domain import ids
from aetheris.domain.errors import Refused
from aetheris.forensics import library
from aetheris.forensics.checks import CheckResult, run_checks
from aetheris.forensics.library import Query
from aetheris.forensics.session import Session
from aetheris.forensics.source import open_source
from aetheris.lake import Lake
from aetheris.runtime import logs
from aetheris.runtime.housekeeping import duties, keep
from aetheris.runtime.mirror import Round, follow, mirror_once
from aetheris.runtime.mirror_batch import Discrepancy
from aetheris.runtime.resource import resource
from aetheris.runtime.sealing import signer_of
from aetheris.runtime.submit import whoami
from aetheris.runtime.system import AsyncSystem
from aetheris.store.database import default_home
from aetheris.store.mirror_rows import MirrorSource

lake_option = click.option(
    "--lake", "place", type=click.Path(path_type=Path), help="The lake's folder.  [default: AETHERIS_HOME/lake]"
)
ROWS_SHOWN = 5
#: How a store that was set back differs from its lake.
_TOLD = {"lacking": "lacks {} that the lake has", "differs": "has {} otherwise than the lake"}


def lake_folder(place: Path | None) -> Path:
    """Return the folder that was named, or the one beside the embedded server."""
    return place if place is not None else default_home() / "lake"


@click.command()
@lake_option
@click.option("--follow", "following", is_flag=True, help="Go on until Ctrl-C.")
@json_option
def mirror(place: Path | None, following: bool, screen: Screen) -> None:
    """Bring the lake up to date with the database: gap-free, exactly once, one cut over all tables.

    With --follow it also seals finished jobs, erases, collects (runtime.gc) and compacts.

    \b
    Example:  aetheris mirror --follow
    """
    folder = lake_folder(place)
    rounds = with_system(lambda system: _mirror(system, folder, following, screen))
    for round_ in rounds[-1:]:
        for told in round_.discrepancies:
            screen.line(told_of(told), style="yellow")
    screen.json([_round(r, folder) for r in rounds])


async def _mirror(system: AsyncSystem, folder: Path, following: bool, screen: Screen) -> list[Round]:
    source = MirrorSource(system.database)
    signer = signer_of(system.config.security.evidence_signing)
    if following:
        who = resource(system.config.monitoring.tracing.service_name, f"mirror-{os.getpid()}")
        logs.configure(who, system.config.secrets(os.environ))
    lake = Lake(folder, source.catalog_uri)
    try:
        if not following:
            round_ = await mirror_once(source, lake)
            tell_round(round_, folder, screen)
            return [round_]
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        rounds: list[Round] = []

        def done(round_: Round) -> None:
            tell_round(round_, folder, screen)
            rounds[:] = [round_]

        def kept(name: str, words: str, seconds: float) -> None:
            screen.fact(name, words, seconds)

        every = duties(system.database, source, lake, system.config.runtime.gc, by=whoami(), stop=stop, signer=signer)
        await asyncio.gather(follow(source, lake, done, stop=stop), keep(every, kept, stop))
        return rounds
    finally:
        lake.close()


def told_of(found: Discrepancy) -> str:
    """Return one line on how a store that was set back differs from its lake."""
    how = _TOLD[found.kind].format(plural(found.count, "row"))
    return f"{found.table}: the store {how}, such as {', '.join(found.first[:3])}"


def tell_round(round_: Round, folder: Path, screen: Screen) -> None:
    """Print what one round brought."""
    events = plural(round_.rows.get("events", 0), "event")
    rows = plural(round_.total, "row")
    screen.fact("mirrored", f"{events}, {rows} in round {round_.number} to {short_path(folder)}", round_.seconds)


def _round(round_: Round, folder: Path) -> dict[str, Any]:
    return {
        "lake": str(folder),
        "round": round_.number,
        "rows": round_.rows,
        "seconds": round(round_.seconds, 3),
        "discrepancies": [dataclasses.asdict(d) for d in round_.discrepancies],
    }


@click.command()
@click.argument("source", required=False, type=click.Path(path_type=Path))
@click.option("--check", "names", multiple=True, help="Only this check; may be given often.")
@click.option(
    "--rows", type=click.IntRange(0, 1000), default=ROWS_SHOWN, show_default=True, help="Violations to show per check."
)
@json_option
def check(source: Path | None, names: tuple[str, ...], rows: int, screen: Screen) -> int:
    """Check a lake or an evidence zip with DuckDB: each check, its violations, its time. Exit 1 if any.

    \b
    Example:  aetheris check .aetheris/lake
    """
    results = []
    with open_source(lake_folder(source)) as session:
        for result in run_checks(session, names):
            results.append(result)
            style = "green" if result.passed else "bold red"
            screen.fact(f"{result.name:<24}", plural(result.violations, "violation"), result.seconds, style)
            for row in result.answer.rows[:rows]:
                screen.line(f"    job {row['job_id'][:8]} event {row['seq']}: {row['rule']}")
        screen.json(
            {"source": session.name, "source_sha256": session.source_sha256, "checks": [_check(r) for r in results]}
        )
    return 0 if all(r.passed for r in results) else 1


def _check(result: CheckResult) -> dict[str, Any]:
    return {
        "check": result.name,
        "holds": result.query.title,
        "violations": result.violations,
        "seconds": round(result.seconds, 4),
        "query_sha256": result.answer.receipt.query_sha256,
        "rows": result.answer.rows[:1000],
    }


@click.command()
@click.argument("name", required=False)
@click.option(
    "--source", type=click.Path(path_type=Path), help="A lake or an evidence zip.  [default: AETHERIS_HOME/lake]"
)
@click.option(
    "-p", "--parameter", multiple=True, metavar="NAME=VALUE", help="A parameter of the query; may be given often."
)
@click.option("--sql", help="A SELECT of your own instead of a named query.")
@click.option("--receipt", is_flag=True, help="Also print where the answer comes from.")
@json_option
def query(
    name: str | None, source: Path | None, parameter: tuple[str, ...], sql: str | None, receipt: bool, screen: Screen
) -> None:
    """Ask a lake or an evidence zip a named question; without a name, list them.

    \b
    Example:  aetheris query trace/steps -p job_id=7kq2…
              aetheris query --sql "select agent, count(*) from …"
    """
    if name is None and sql is None:
        known = library.library()
        screen.table(
            ["QUERY", "HOLDS OR ASKS", "PARAMETERS"], [[q.name, q.title, ", ".join(q.binds)] for q in known.values()]
        )
        screen.json(
            [{"query": q.name, "title": q.title, "parameters": q.binds, "columns": q.columns} for q in known.values()]
        )
        return
    if name is not None and sql is not None:
        raise Refused("give a query's name or --sql, not both")
    parameters = dict(_pair(p) for p in parameter)
    began = time.perf_counter()
    with open_source(lake_folder(source)) as session:
        if name is not None:
            _complete(session, library.get(name), parameters)
        answer = session.query(name, **parameters) if name is not None else session.sql(sql or "", **parameters)
    rows = answer.rows
    screen.table([c.upper() for c in answer.table.column_names], [[_shown(v) for v in row.values()] for row in rows])
    screen.line(f"{plural(len(rows), 'row')} in {time.perf_counter() - began:.2f} s", style="dim")
    if receipt:
        screen.line(str(answer.receipt), style="dim")
    screen.json({"rows": rows, "receipt": dataclasses.asdict(answer.receipt)})


def _complete(session: Session, query: Query, given: dict[str, str]) -> None:
    """Put the whole id for a job's that starts so. Errors: Refused, also when a needed parameter is missing."""
    if given.keys() - set(query.binds):
        return  # the session names it
    if missing := [bind for bind in query.required if bind not in given]:
        raise Refused(f"query {query.name} needs {' and '.join(missing)}: give -p {missing[0]}=VALUE")
    start = given.get("job_id")
    if start is None or len(start) == ids.LENGTH:
        return
    known = {str(row["job_id"]) for row in session.query("trace/jobs").rows}
    found = [start] if start in known else sorted(job for job in known if start and job.startswith(start.lower()))
    if not found:
        raise Refused(f"no job in {session.name} starts with {start!r}: `aetheris query trace/jobs` lists them")
    if len(found) > 1:
        first = ", ".join(job[:12] for job in found[:3])
        raise Refused(f"{len(found)} jobs start with {start!r} ({first}): type more of it")
    given["job_id"] = found[0]


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise Refused(f"parameter {text!r} is not NAME=VALUE")
    return name, value


def _shown(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex()
    return "" if value is None else str(value)
