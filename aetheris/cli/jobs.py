"""`jobs`: what there is."""

from __future__ import annotations

from collections.abc import Sequence

import click

from aetheris.cli.connect import with_system
from aetheris.cli.main import json_option
from aetheris.cli.screen import Screen, ago
from aetheris.domain.jobs import JobStatus
from aetheris.store.jobs import JobRow

WORDS = [status.word for status in JobStatus]
STYLES = {"completed": "green", "failed": "red", "parked": "yellow", "running": "cyan"}


@click.command()
@click.argument("agent", required=False)
@click.option(
    "--status", "words", multiple=True, type=click.Choice(WORDS), help="Only jobs in this status; may be given often."
)
@click.option("--parked", is_flag=True, help="Only jobs that wait for a person, with the reason.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=30, show_default=True)
@json_option
def jobs(agent: str | None, words: tuple[str, ...], parked: bool, limit: int, screen: Screen) -> None:
    """List jobs, newest first.

    \b
    Example:  aetheris jobs airline --status failed
    """
    statuses = [JobStatus[w.upper()] for w in words] + ([JobStatus.PARKED] if parked else [])
    found = with_system(lambda system: system.listing(agent=agent, statuses=statuses, limit=limit))
    screen.json([_row(r) for r in found])
    if not found:
        screen.line("no jobs" + (" like that" if agent or statuses else " yet: `aetheris demo` runs some"))
        return
    short = short_ids([r.job for r in found])
    screen.table(
        ["JOB", "AGENT", "STATUS", "EVENTS", "AGE", "KEY"],
        [[short[r.job], r.agent, r.status.word, str(r.head_seq), ago(r.created_at), r.key or ""] for r in found],
        right=(3, 4),
    )


def short_ids(ids: Sequence[str], least: int = 6) -> dict[str, str]:
    """Return each id's shortest prefix (of at least `least`) that is unique among `ids`."""
    length = least
    while len({i[:length] for i in ids}) < len(set(ids)):
        length += 1
    return {i: i[:length] for i in ids}


def _row(r: JobRow) -> dict[str, object]:
    return {
        "job": r.job,
        "agent": r.agent,
        "agent_version": r.agent_version,
        "status": r.status.word,
        "events": r.head_seq,
        "epoch": r.epoch,
        "key": r.key,
        "created_at": r.created_at,
        "updated_at": r.updated_at,
    }
