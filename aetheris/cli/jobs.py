"""`jobs`: what there is."""

from __future__ import annotations

import dataclasses

import click

from aetheris.cli.connect import with_system
from aetheris.cli.main import json_option
from aetheris.cli.remote import remote, show_jobs
from aetheris.cli.rows import MORE, short_ids
from aetheris.cli.screen import Screen, ago
from aetheris.domain.jobs import JobStatus
from aetheris.runtime.system import AsyncSystem
from aetheris.store.database import default_home
from aetheris.store.jobs import JobRow

WORDS = [status.word for status in JobStatus]
STYLES = {"completed": "green", "failed": "red", "parked": "yellow", "running": "cyan"}


@click.command()
@click.argument("agent", required=False)
@click.option(
    "--status", "words", multiple=True, type=click.Choice(WORDS), help="Only jobs in this status; may be given often."
)
@click.option("--parked", is_flag=True, help="Only what waits for a person, with the reason.")
@click.option("--collected", is_flag=True, help="Jobs that left PostgreSQL: still traced and exported, from the lake.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=30, show_default=True, help="Show this many.")
@json_option
def jobs(agent: str | None, words: tuple[str, ...], parked: bool, collected: bool, limit: int, screen: Screen) -> None:
    """List jobs, newest first.

    \b
    Example:  aetheris jobs airline --status failed
    """
    if (api := remote()) is not None:
        show_jobs(api, screen, agent, ["parked", "waiting"] if parked else list(words), limit)
        return
    if parked:
        _parked(agent, limit, screen)
        return
    if collected:
        _collected(limit, screen)
        return
    statuses = [JobStatus[w.upper()] for w in words]

    async def work(system: AsyncSystem) -> tuple[list[JobRow], str]:
        rows = await system.listing(agent=agent, statuses=statuses, limit=limit + 1)
        return rows, _place(system)

    rows, place = with_system(work)
    found = rows[:limit]
    screen.json([{"job": r.job, **r.told()} for r in found])
    if not found:
        screen.line(
            "no jobs like that"
            if agent is not None or statuses
            else f"no jobs yet in {place}: `aetheris demo` runs some"
        )
        return
    short = short_ids([r.job for r in found])
    screen.table(
        ["JOB", "AGENT", "STATUS", "EVENTS", "AGE", "KEY", "WAITS FOR"],
        [
            [short[r.job], r.agent, r.status.word, str(r.head_seq), ago(r.created_at), r.key or "", r.waits_for]
            for r in found
        ],
        right=(3, 4),
    )
    if len(rows) > limit:
        screen.line(f"the newest {limit:,}; {MORE}", style="dim")


def _parked(agent: str | None, limit: int, screen: Screen) -> None:
    """List what waits for a person: doubts, approvals, pauses, code that differs."""

    async def work(system: AsyncSystem) -> tuple[list[tuple[JobRow, str]], bool]:
        rows = await system.listing(agent=agent, statuses=[JobStatus.PARKED, JobStatus.WAITING], limit=limit + 1)
        found = [(r, await system.why_parked(r)) for r in rows[:limit] if needs_a_person(r.waits_for)]
        return found, len(rows) > limit

    found, more = with_system(work)
    among = f"among the newest {limit:,} that wait; {MORE}"
    screen.json([{"job": r.job, **r.told(), "because": why} for r, why in found])
    if not found:
        screen.line("no job waits for a person" + (f" {among}" if more else ""))
        return
    short = short_ids([r.job for r, _ in found])
    screen.table(
        ["JOB", "AGENT", "SINCE", "WAITS FOR", "BECAUSE"],
        [[short[r.job], r.agent, ago(r.updated_at), r.waits_for, why] for r, why in found],
        right=(2,),
    )
    if more:
        screen.line(among, style="dim")


def _collected(limit: int, screen: Screen) -> None:
    """List the jobs that left the store on record, latest first."""
    stones = with_system(lambda system: system.collected(limit + 1))
    found = stones[:limit]
    screen.json([{**dataclasses.asdict(t), "head_leaf": t.head_leaf.hex()} for t in found])
    if not found:
        screen.line("no job was collected")
        return
    short = short_ids([t.job for t in found])
    rows = [
        [short[t.job], t.agent, str(t.event_count), f"{t.ended_at:%Y-%m-%d}", f"{t.collected_at:%Y-%m-%d}", t.key or ""]
        for t in found
    ]
    screen.table(["JOB", "AGENT", "EVENTS", "ENDED", "COLLECTED", "KEY"], rows, right=(2,))
    if len(stones) > limit:
        screen.line(f"the newest {limit:,}; {MORE}", style="dim")
    screen.line(f"{len(found)} collected; `aetheris trace` and `aetheris export` read them from the lake", style="dim")


def _place(system: AsyncSystem) -> str:
    """Return where was looked: whoever stands in the wrong folder sees it there."""
    return str(default_home()) if system.database.embedded is not None else system.database.where


def needs_a_person(waits_for: str) -> bool:
    """Return whether something in this list of waits ends only by a person's word."""
    return any(not w.startswith(("time", "signal ", "child ")) for w in waits_for.split(", ") if w)
