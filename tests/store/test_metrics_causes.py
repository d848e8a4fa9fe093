"""Metrics of what seldom happens, each moved by a real cause and by nothing else."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aetheris as ae
from aetheris.runtime import metrics
from aetheris.runtime.replay import replay
from aetheris.store.database import Database
from tests.store.job_support import FAST, at_rest, crash, ended, run, tamper, types
from tests.store.test_doubt import Bank, agent_of, begun_and_lost


def value(series: str, /, **labels: str) -> float:
    """What a scrape would show now; 0 where there is no such series yet."""
    return metrics.REGISTRY.get_sample_value(f"aetheris_{series}", labels) or 0.0


@ae.tool(effect="none")
async def look(n: int) -> int:
    """Fails for what is negative."""
    if n < 0:
        raise ValueError("negative")
    return n


GRAPH = """
nodes:
  first: {tool: look, with: {n: 1}}
  many: {map: look, over: "${input}", with: {n: "${item}"}, needs: first}
  rest: {wait: 1200ms, needs: many}
  high: {condition: {if: "${first}", above: 5}, needs: rest}
  skipped: {tool: look, with: {n: 2}, needs: high}
  last: {tool: look, with: {n: "${input[0]}"}, needs: not high}
"""


def test_each_node_of_a_graph_counts_once_however_often_it_is_replayed(database: Database, tmp_path: Path) -> None:
    """The job rests in the middle, so its second holder goes through the first nodes again."""
    (tmp_path / "g.yaml").write_text(GRAPH)
    graph = ae.graph(tmp_path / "g.yaml", tools=[look])
    kinds = [(k, s) for k in ("tool", "map", "wait", "condition") for s in ("ok", "skipped", "failed")]

    def counts() -> dict[tuple[str, str], float]:
        found = {
            k: value("node_execution_total", tenant="default", node_type=k[0], status=k[1]) - before.get(k, 0)
            for k in kinds
        }
        return {k: n for k, n in found.items() if n}

    before: dict[tuple[str, str], float] = {}
    before = counts()

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            await system.start_worker([graph], FAST)
            record = await ended(system, await system.submit(graph, [3, 4]))
            assert types(record).count("timer_fired") == 1
            assert [e.type for e in record.events].count("job_leased") == 2
            assert counts() == {
                ("tool", "ok"): 2,
                ("map", "ok"): 1,
                ("wait", "ok"): 1,
                ("condition", "ok"): 1,
                ("tool", "skipped"): 1,
            }
            await ended(system, await system.submit(graph, [-1]))
            assert counts()["map", "failed"] == 1
            now = counts()
            assert (await replay(graph, record)).same
            assert counts() == now

    run(work)


def test_a_confirm_that_can_not_tell_counts_each_time_it_is_asked(database: Database) -> None:
    """The alert is about calls that stay in doubt."""

    async def work() -> None:
        bank = Bank()
        bank.answers = False
        agent = agent_of(bank)
        before = value("confirmation_replay_fail_total", tenant="default", tool="pay")
        async with ae.AsyncSystem(database=database) as system:
            job = await begun_and_lost(system, agent, bank)
            await system.start_worker([agent], FAST)
            await at_rest(system, job, "doubt 1 pay")
        assert value("confirmation_replay_fail_total", tenant="default", tool="pay") == before + 1

    run(work)


def test_a_result_that_is_not_confirmed_counts_and_so_does_letting_it_pass(database: Database) -> None:
    """Stopped once; went on once, on a person's word."""

    async def work() -> None:
        bank = Bank()
        bank.hold.set()
        agent = agent_of(bank, replay=True)
        labels = {"tenant": "default", "tool": "pay"}
        before = [value(f"confirmation_replay_{what}_total", **labels) for what in ("fail", "warn")]
        parked = value("job_parked_duration_seconds_count", agent_id="payer")
        async with ae.AsyncSystem(database=database) as system:
            await system.start_worker([agent], FAST)
            job = await system.submit(agent)
            await at_rest(system, job, "signal next")
            bank.effects.clear()
            await system.operator.signal(job, "next")
            await at_rest(system, job, "confirmation 1 pay")
            after = [value(f"confirmation_replay_{what}_total", **labels) for what in ("fail", "warn")]
            assert after == [before[0] + 1, before[1]]
            await system.operator.resume(job, "known to the bank under another name")
            await ended(system, job)
            after = [value(f"confirmation_replay_{what}_total", **labels) for what in ("fail", "warn")]
            assert after == [before[0] + 1, before[1] + 1]
            assert value("job_parked_duration_seconds_count", agent_id="payer") == parked + 1

    run(work)


def test_code_that_does_something_else_than_its_record_counts_once(database: Database) -> None:
    """It is parked, and one series says that replays differ."""

    async def work() -> None:
        def code(n: int) -> ae.Agent:
            @ae.agent(name="changing")
            async def changing(ctx: ae.Context) -> None:
                await ctx.call(look, n=n)
                await ctx.wait_signal("go")

            return changing

        before = value("replay_verify_fail_total", tenant="default")
        async with ae.AsyncSystem(database=database) as system:
            worker = await system.start_worker([code(1)], FAST)
            job = await system.submit(code(1))
            await at_rest(system, job, "signal go")
            await crash(system, worker)
            await system.operator.signal(job, "go")
            await system.start_worker([code(2)], FAST)
            await at_rest(system, job, "other code")
        assert value("replay_verify_fail_total", tenant="default") == before + 1

    run(work)


def test_a_record_that_contradicts_itself_counts_as_an_anomaly(database: Database) -> None:
    """Nothing is appended to it, and somebody hears of it."""

    async def work() -> None:
        labels = {"anomaly_type": "inconsistent", "severity": "critical"}
        before = value("anomaly_detected_total", **labels)

        @ae.agent
        async def nothing(ctx: ae.Context) -> None:
            """Ends at once."""

        async with ae.AsyncSystem(database=database) as system:
            job = await system.submit(nothing)
            assert tamper(database, "nothing") == 1
            worker = await system.start_worker([nothing], FAST)
            while not worker.counts.ended:
                await asyncio.sleep(0.02)
            assert worker.counts.ended == {"corrupt": 1}
            assert len((await system.find(job)).head_leaf) == 32
        assert value("anomaly_detected_total", **labels) == before + 1

    run(work)
