"""Decision quality as a running system shows it: once for each answer, over every holder of its job."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import aetheris as ae
import aetheris.workbench as wb
from aetheris.demo.model_server import ModelServer, Said, text
from aetheris.lake import Lake
from aetheris.runtime import metrics
from aetheris.runtime.config_file import load
from aetheris.runtime.mirror import mirror_once
from aetheris.store.database import Database
from aetheris.store.mirror_rows import MirrorSource
from aetheris.workbench.desk import Job
from tests.store.job_support import FAST, at_rest, ended, run


@ae.tool(effect="none")
async def looked_up(fail: bool) -> int:
    """What an answer stands on."""
    if fail:
        raise ae.ToolFailed("not found")
    return 1


@ae.tool
async def paid(amount: int) -> int:
    """What is done upon it."""
    return amount


@ae.agent
async def careful(ctx: ae.Context) -> None:
    """Looks, asks, lets a person approve, pays; then asks once more."""
    await ctx.call(looked_up, fail=False)
    await ctx.llm("desk", "How much?", extra={"logprobs": True})
    await ctx.approval("Pay?")
    await ctx.call(paid, amount=1)
    await ctx.llm("desk", "Done?")


@ae.agent
async def careless(ctx: ae.Context) -> None:
    """Stands on nothing, and pays."""
    try:
        await ctx.call(looked_up, fail=True)
    except ae.ToolFailed:
        await ctx.llm("desk", "How much?")
    await ctx.call(paid, amount=1)


def scored() -> tuple[float, float]:
    """(answers, their points) so far."""
    found = [
        metrics.REGISTRY.get_sample_value(f"aetheris_decision_quality_score_{x}", {"tenant": "default"})
        for x in ("count", "sum")
    ]
    return found[0] or 0.0, found[1] or 0.0


def decided(
    database: Database, folder: Path, agent: ae.Agent, answers: Sequence[Said], *, approve: bool = False
) -> tuple[tuple[float, float], Job]:
    """Run a job; return what the metric moved by (answers, points), and the job as the lake has it."""
    before = scored()
    seen: list[Job] = []
    with ModelServer(answers) as server:
        path = folder / "aetheris.yaml"
        path.write_text(f"models:\n  desk: {{provider: local, base_url: '{server.url}', model: m}}\n")

        async def work() -> None:
            async with ae.AsyncSystem(database=database, config=load(path, {})) as system:
                first = await system.start_worker([agent], FAST)
                job = await system.submit(agent)
                if approve:
                    await at_rest(system, job, "approval 3")
                    first.stop()
                    await system._workers.pop(first)
                    await system.operator.approve(job, 3, approved=True)
                    await system.start_worker([agent], FAST)
                await ended(system, job)
            source = MirrorSource(database)
            lake = Lake(folder / "lake", source.catalog_uri)
            await mirror_once(source, lake)
            lake.close()
            seen.append(wb.open(folder / "lake").jobs[job])

        run(work)
    after = scored()
    return (after[0] - before[0], after[1] - before[1]), seen[0]


def test_a_decision_is_scored_once_over_two_holders(database: Database, tmp_path: Path) -> None:
    """The job is let go between the answer and what was done upon it: the approval counts all the same."""
    sure = text("One.", logprobs=[math.log(0.8)] * 3)
    moved, job = decided(database, tmp_path, careful, [sure, text("Yes.")], approve=True)
    rows = job.decisions
    assert [(r["step"], r["model"], r["grounds"], r["acts"]) for r in rows] == [
        (2, "test-model-2026", 1, 1), (5, "test-model-2026", 1, 0),
    ]  # fmt: skip
    assert [round(r["score"], 6) for r in rows] == [95.0, 100.0]
    assert (moved[0], round(moved[1], 6)) == (2, 195.0)


def test_what_an_answer_lacks_is_missing_from_its_score(database: Database, tmp_path: Path) -> None:
    """Its ground failed, it was cut off, and nobody approved what was done upon it."""
    moved, job = decided(database, tmp_path, careless, [text("Sev", finish="length")])
    shares = [(r["completeness"], r["quality"], r["confidence"], r["oversight"]) for r in job.decisions]
    assert shares == [(1.0, 0.0, 0.0, 0.0)]
    assert (moved[0], round(moved[1], 6)) == (1, 30.0)


def test_an_endpoint_s_own_words_stay_out_of_the_line(database: Database, tmp_path: Path) -> None:
    """Why an answer ended is a word of ours; anything else is other, and no whole answer."""
    _, job = decided(database, tmp_path, careless, [text("One.", finish="ssn 123-45-6789")])
    assert [row["confidence"] for row in job.decisions] == [0.0]
    assert any(b"llm:desk" in line for line in job.lines)
    assert not any(b"123-45" in line for line in job.lines)
