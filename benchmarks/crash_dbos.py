"""The peer's side of `crash`: the same effects as a DBOS workflow, in a process that is killed as ours is.

    python -m benchmarks.crash_dbos URL STEPS ID...

Starts the workflows that it doesn't know yet, lets DBOS recover those that it
does, and ends when all have.
"""

from __future__ import annotations

import sys

from dbos import DBOS, SetWorkflowID

from aetheris.runtime.failpoints import reach
from tests.crash.world import World


@DBOS.step()
def effect(key: str) -> str:
    """One effect in the world, as tests/crash/app.py makes it."""
    world = World.of_environment()
    receipt = world.effect(key)
    reach("effect.inside")
    world.answer()
    return receipt


@DBOS.workflow()
def spender(job: str, steps: int) -> list[str]:
    """Make `steps` effects one after the other."""
    return [effect(f"{job}-{number}") for number in range(steps)]


def main() -> None:
    """Start or recover, and wait."""
    url, steps, *ids = sys.argv[1:]
    DBOS(
        config={
            "name": "crash",
            "system_database_url": url,
            "application_version": "1",
            "log_level": "WARNING",
            "notification_listener_polling_interval_sec": 0.1,
        }
    )
    DBOS.launch()
    for job in ids:
        if DBOS.get_workflow_status(job) is None:
            with SetWorkflowID(job):
                DBOS.start_workflow(spender, job, int(steps))
    for job in ids:
        receipts = DBOS.retrieve_workflow(job).get_result()
        print(job, len(receipts), flush=True)
    DBOS.destroy()


if __name__ == "__main__":
    main()
