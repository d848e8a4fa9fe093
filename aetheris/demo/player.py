"""Plays recorded runs against the airline and tells which recorded results came out the same, byte for byte.

One job per run, each in a world of its own. What is compared is what the log
says the tools returned, not what this process saw.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from aetheris.demo import desk
from aetheris.demo.airline import Script, Turn, airline, respond
from aetheris.demo.compare import cause
from aetheris.domain.jobs import JobStatus
from aetheris.runtime.held import Settings
from aetheris.runtime.record import JobRecord
from aetheris.runtime.system import AsyncSystem
from aetheris.store.airline_data import DataSet, load

_LOOK_SECONDS = 0.1


class RecordedRun(Protocol):
    """A run as `ingest.tau_bench.read_runs` gives it."""

    @property
    def task_id(self) -> int: ...
    @property
    def trial(self) -> int: ...
    @property
    def messages(self) -> list[dict[str, Any]]: ...


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A tool result that differs from its recording, and why."""

    job: str
    task_id: int
    trial: int
    call: int  # from 1, within the run
    tool: str
    cause: str
    recorded: str
    returned: str | None


@dataclass(slots=True)
class Played:
    """How the runs went."""

    jobs: list[str] = field(default_factory=list)
    calls: int = 0
    reproduced: int = 0
    mismatches: list[Mismatch] = field(default_factory=list)

    @property
    def causes(self) -> dict[str, int]:
        """Return each cause of mismatches with its count, most frequent first."""
        counts: dict[str, int] = {}
        for mismatch in self.mismatches:
            counts[mismatch.cause] = counts.get(mismatch.cause, 0) + 1
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


async def play(
    system: AsyncSystem,
    runs: Sequence[RecordedRun],
    world: DataSet,
    *,
    concurrency: int = 100,
    on_ended: Callable[[int], object] | None = None,
) -> Played:
    """Submit one job per run, run a worker here, wait for all, and compare.

    Every run begins from `world` as it is, also when it was played before.
    `on_ended` hears how many jobs are through. Errors: the store's and the
    runtime's.
    """
    name = await load(system.database, world)
    session = secrets.token_hex(4)
    async with desk.at(system.database):
        ids = [
            await system.submit(airline, _script(run, f"{name}/{session}-{number}"), goal=goal(run))
            for number, run in enumerate(runs, 1)
        ]
        await system.start_worker([airline], Settings(concurrency=concurrency))
        await _all_ended(system, ids, on_ended)
        played = Played(ids)
        for job, run in zip(ids, runs, strict=True):
            _compare(played, run, await system.record(job))
    return played


def goal(run: RecordedRun) -> str:
    """Return what stands beside the job in lists."""
    return f"task {run.task_id} trial {run.trial}"


async def _all_ended(system: AsyncSystem, ids: Sequence[str], on_ended: Callable[[int], object] | None) -> None:
    ended = 0
    while ended < len(ids):
        found = await system.wait(ids, seconds=_LOOK_SECONDS)
        ended = sum(status.terminal or status is JobStatus.PARKED for status in found.values())
        if on_ended is not None:
            on_ended(ended)


def _script(run: RecordedRun, world: str) -> Script:
    opening, turns = "", list[Turn]()
    for message in run.messages:
        content = message.get("content") or ""
        if message["role"] == "assistant":
            calls = [call["function"] for call in message.get("tool_calls") or []]
            if content or not calls:
                turns.append(Turn(said=content))
            turns += [Turn(tool=call["name"], arguments=call["arguments"]) for call in calls]
        elif message["role"] == "user" and turns:
            turns[-1].heard = content
        elif message["role"] == "user":
            opening = content
    return Script(world=world, task_id=run.task_id, trial=run.trial, opening=opening, turns=turns)


def _compare(played: Played, run: RecordedRun, record: JobRecord) -> None:
    returned = _returned(record)
    refused = {}
    if record.row.status is JobStatus.COMPLETED:
        refused = {int(call): why for call, why in record.result()["refused"].items()}
    recorded = [message for message in run.messages if message["role"] == "tool"]
    for call, message in enumerate(recorded, 1):
        played.calls += 1
        made = call not in refused and bool(returned)
        result = returned.pop(0) if made else None
        if result == message["content"]:
            played.reproduced += 1
            continue
        why = refused.get(call) or cause(message["content"], result, record.row.status.word)
        job, name, wanted = record.row.job, message["name"], message["content"]
        played.mismatches.append(Mismatch(job, run.task_id, run.trial, call, name, why, wanted, result))


def _returned(record: JobRecord) -> list[str | None]:
    """Return what each call returned, in order of the calls; None for one without a result."""
    finished = [
        event
        for event in record.events
        if event.type == "tool_invocation_finished" and event.data["tool_name"] != respond.name
    ]
    return [record.value(event, "result") for event in sorted(finished, key=lambda event: event.step)]
