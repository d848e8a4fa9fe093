"""`snapshot`: take one now, so that the next takeover of a long job begins there."""

from __future__ import annotations

import click

from aetheris.cli.connect import with_system
from aetheris.cli.main import json_option
from aetheris.cli.screen import Screen, plural, size
from aetheris.runtime.snapshots import Taken, take_asked
from aetheris.runtime.system import AsyncSystem


@click.command()
@click.argument("job")
@json_option
def snapshot(job: str, screen: Screen) -> None:
    """Take a snapshot of a job as it stands, whoever holds it: the next takeover reads it and what came after.

    Workers do this by themselves (runtime.snapshot in aetheris.yaml). Nothing of the job changes.

    \b
    Example:  aetheris snapshot 7kq2
    """

    async def work(system: AsyncSystem) -> tuple[str, int, Taken | None]:
        row = await system.find(job)
        keys = system.config
        async with await system.database.connect("worker") as connection:
            key = (system.tenant, row.job)
            taken = await take_asked(connection, key, keys.runtime.snapshot, keys.jobstore.lease_duration)
        return row.job, row.head_seq, taken

    full, head, taken = with_system(work)
    screen.json({"job": full, "taken": taken is not None, "seq": taken.seq if taken else head})
    if taken is None:
        screen.line(f"{full[:8]} has a snapshot at its event {head} already; nothing changed")
        return
    screen.line(
        f"{full[:8]} snapshot at event {taken.seq}, {plural(taken.events, 'event')} since the last,"
        f" {size(taken.body_bytes + taken.packed_bytes)}"
    )
