"""`crash`: the same kills against Aetheris and against DBOS; who makes an effect twice?

One embedded PostgreSQL, a database each. Every round submits some jobs of some
effects and kills the process that runs them by plan: every other kill inside
an effect (it has happened, nobody was told), every other at a random moment
after the round's first effect.
Then another process goes on. For Aetheris that is a second worker, started
before and asleep until the kill, so that a takeover is measured without a
process's start; half of the jobs have a tool that can confirm and must
complete, the others must park. For DBOS it is the same executor started again, which is how
it recovers. CRASH_KILLS and CRASH_SEED change the plan.
"""

from __future__ import annotations

import os
import signal
import statistics
import sys
import uuid
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import psycopg

from aetheris.domain.errors import Corrupt, Refused
from aetheris.store.embedded import ADMIN, Embedded, Running
from benchmarks.place import folder
from tests.crash.app import asker, spender
from tests.crash.driver import LEASE_SECONDS, Crash, Kill, Process, Verdict, plan

KILLS = 30
JOBS_PER_KILL = 4
STEPS = 5
#: Kills by time fall within so long after the first effect of a round: about what its jobs take undisturbed.
WITHIN_SECONDS = 0.15
AGENTS = ("tests.crash.app:spender", "tests.crash.app:asker")


def run() -> dict[str, object]:
    """Return the figures by name. Errors: Refused without DBOS; Corrupt where a record is unsound."""
    if find_spec("dbos") is None:
        raise Refused("the crash benchmark needs DBOS beside it: pip install -c constraints.txt -e '.[bench]'")
    seed, count = int(os.environ.get("CRASH_SEED", "1")), int(os.environ.get("CRASH_KILLS", KILLS))
    kills = plan(seed, count, JOBS_PER_KILL * STEPS, WITHIN_SECONDS)
    with folder() as place, Embedded(place / "home").start() as server:
        return _ours(server, place, kills) | _theirs(server, place, kills)


def _ours(server: Running, folder: Path, kills: Sequence[Kill]) -> dict[str, object]:
    place = folder / "ours"
    place.mkdir()
    with Crash(_database(server, "ours"), place) as crash:
        jobs = []
        second = crash.worker(*AGENTS)
        for kill in kills:
            second.send(signal.SIGSTOP)
            before = sum(crash.world.keys().values())
            victim = crash.worker(*AGENTS, failpoint=kill.failpoint)
            jobs += [crash.system.submit((spender, asker)[n % 2], STEPS) for n in range(JOBS_PER_KILL)]
            _strike(crash, victim, kill, before)
            second.send(signal.SIGCONT)
            crash.wait(jobs)
        verdict = crash.judge(jobs)
    if verdict.unsound:
        raise Corrupt(verdict.unsound[0])
    return _figures(verdict, len(kills), len(jobs))


def _figures(verdict: Verdict, kills: int, jobs: int) -> dict[str, object]:
    times = verdict.takeovers
    p95 = statistics.quantiles(times, n=20)[-1] if len(times) > 1 else max(times, default=0.0)
    return {
        "kills": kills,
        "jobs": jobs,
        "effects_per_job": STEPS,
        "duplicates": verdict.duplicates,
        "lost": len(verdict.lost),
        "stuck": len(verdict.stuck),
        "in_doubt": verdict.parked,
        "completed": verdict.completed,
        "takeovers": len(times),
        "takeover_s_p95": round(p95, 2),
        "lease_s": LEASE_SECONDS,
    }


def _theirs(server: Running, folder: Path, kills: Sequence[Kill]) -> dict[str, object]:
    place = folder / "theirs"
    place.mkdir()
    url = database_of(server, "theirs")
    with Crash(_database(server, "theirs_driver"), place) as crash:
        completed = 0
        for number, kill in enumerate(kills):
            ids = [str(uuid.uuid5(uuid.NAMESPACE_OID, f"{number}.{job}")) for job in range(JOBS_PER_KILL)]
            argv = [sys.executable, "-m", "benchmarks.crash_dbos", url, str(STEPS), *ids]
            before = sum(crash.world.keys().values())
            victim = crash.start(argv, {"AETHERIS_FAILPOINT": kill.failpoint} if kill.failpoint else {})
            _strike(crash, victim, kill, before)
            again = crash.start(argv, {})
            again.wait_dead()
            if again.code:
                raise Corrupt(f"DBOS ended with {again.code}: {again.tail()[-300:]}")
            completed += len(ids)
        return {
            "dbos_kills": len(kills),
            "dbos_jobs": completed,
            "dbos_duplicates": crash.world.duplicates,
        }


def database_of(server: Running, name: str) -> str:
    """Make a database for the peer and return its address as the peer spells it."""
    host = psycopg.conninfo.conninfo_to_dict(_database(server, name))["host"]
    return f"postgresql://{ADMIN}@/{name}?host={host}"


def _strike(crash: Crash, victim: Process, kill: Kill, before: int) -> None:
    if not kill.nth:
        crash.wait_effects(before + 1, victim)  # before its first effect there is nothing to be doubled
    crash.dies(victim, kill)


def _database(server: Running, name: str) -> str:
    with psycopg.connect(server.dsn(ADMIN), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return psycopg.conninfo.make_conninfo(server.dsn(ADMIN), dbname=name)
