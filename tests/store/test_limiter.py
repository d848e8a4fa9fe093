"""Limits as calls meet them in workers: waits, turns, refusals, changes under way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import aetheris as ae
from aetheris.domain.jobs import JobStatus
from aetheris.domain.limits import Limit
from aetheris.runtime.clock import Clock
from aetheris.runtime.config_file import load
from aetheris.runtime.held import Settings
from aetheris.runtime.limiter import Limiter
from aetheris.runtime.turns import RateLimited
from aetheris.runtime.worker import Worker
from aetheris.store import workers
from aetheris.store.database import Database
from tests.store import job_support

STARTS: list[tuple[float, Any]] = []


class Written(dict[str, Limit]):
    """Limits by a tool's name."""

    def find(self, kind: str, name: str) -> Limit | None:
        """As a configuration would."""
        return self.get(name)


@ae.tool
async def pay(what: str) -> str:
    """Notes when it was started."""
    STARTS.append((time.monotonic(), what))
    return what


@ae.agent
async def payer(ctx: ae.Context, what: str) -> str:
    """One limited call."""
    return await ctx.call(pay, what=what)


def run(work: Callable[[], Awaitable[None]]) -> None:
    """Run an async test body with nothing left of the one before."""
    STARTS.clear()
    job_support.run(work)


async def serving(system: ae.AsyncSystem, limits: Written, **settings: Any) -> Worker:
    """A worker in this process under these limits."""
    worker = Worker(system.database, [payer], Settings(**settings), on_end=system._on_end, limits=limits)
    system._workers[worker] = asyncio.create_task(worker.run())
    await worker.ready.wait()
    return worker


async def rows(system: ae.AsyncSystem, sql: str) -> list[dict[str, Any]]:
    """Rows as the worker sees them."""
    async with await system.database.connect("worker") as connection:
        return await (await connection.execute(sql.encode())).fetchall()  # type: ignore[arg-type]


def test_a_token_budget_goes_round_and_lets_nobody_wait_behind_one_who_left(database: Database) -> None:
    """Two workers, permits for three, one waiter too big for his patience: the others start, in turn."""

    async def work() -> None:
        limit = Limit(tokens_per_minute=6_000_000, max_concurrent=3, max_wait_seconds=20)
        async with await database.connect("worker") as connection:
            clock = Clock(await workers.clock_offset_us(connection))
        written = Written({"local": limit})
        one, two = (Limiter(written, f"w{n}", clock, lambda: database.connect("worker")) for n in (1, 2))
        done: list[str] = []
        under_way = most = 0

        async def turn(limiter: Limiter, who: str, tokens: int) -> None:
            nonlocal under_way, most
            async with (turn := limiter.turn("llm", "local", who, who, 1, 1, tokens)):
                under_way += 1
                most = max(most, under_way)
                await asyncio.sleep(0.5)
                turn.used(tokens // 2)
                under_way -= 1
            done.append(who)

        duties = [asyncio.create_task(limiter.run()) for limiter in (one, two)]
        leaver = asyncio.create_task(turn(one, "leaver", 500_000))
        await asyncio.sleep(0.05)
        blocked = asyncio.create_task(turn(one, "late leaver", 500_000))  # five seconds behind
        await asyncio.sleep(0.1)
        blocked.cancel()
        await leaver
        await asyncio.gather(*(turn((one, two)[n % 2], f"t{n}", 20_000) for n in range(20)))
        assert sorted(done) == sorted(["leaver", *(f"t{n}" for n in range(20))])
        assert most == 3
        async with await database.connect("worker") as connection:
            while True:  # what was used has been put in order, and no permit is kept
                left = await (await connection.execute("SELECT count(*) AS n FROM aetheris.limit_permits")).fetchone()
                if left is not None and left["n"] == 0:
                    break
                await asyncio.sleep(0.05)
        for duty in duties:
            duty.cancel()
        await asyncio.gather(*duties, return_exceptions=True)
        for limiter in (one, two):
            await limiter.close()

    run(work)


def test_a_wait_comes_before_the_start_record_and_is_told_in_it(database: Database) -> None:
    """A worker lost while it waits leaves no doubt: nothing has started."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            ids = [await system.submit(payer, str(n)) for n in range(4)]
            await serving(system, Written(pay=Limit(qps=5)))  # all four ask at once
            await system.wait(ids, seconds=20)
            waits = []
            for job in ids:
                record = await system.record(job)
                start = next(e for e in record.events if e.type == "tool_invocation_started")
                leased = next(e for e in record.events if e.type == "job_leased")
                assert start.at - leased.at >= start.data["waited_us"] - 100_000
                waits.append(start.data["waited_us"])
            assert max(waits) - min(waits) > 400_000
            asked, put_down = "SELECT outcome, started_at >= slot_at AS after FROM aetheris.limit_waits", []
            while len(put_down) < 4:
                put_down = await rows(system, asked)
            assert put_down == [{"outcome": "started", "after": True}] * 4

    run(work)


def test_a_tool_without_a_limit_waits_for_nothing_and_says_so(database: Database) -> None:
    """A wait of zero is a wait too; it needs no row."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            await serving(system, Written(other=Limit(qps=0.001)))
            job = await system.submit(payer, "free")
            await system.wait([job], seconds=20)
            start = next(e for e in (await system.record(job)).events if e.type == "tool_invocation_started")
            assert start.data["waited_us"] == 0
            assert await rows(system, "SELECT * FROM aetheris.limit_waits") == []

    run(work)


def test_a_wait_beyond_max_wait_is_refused_before_anything_starts(database: Database) -> None:
    """The job learns when to try again; the ledger has no call; the slot is left for those who can wait."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            await serving(system, Written(pay=Limit(qps=0.1, max_wait_seconds=0.4)))
            first = await system.submit(payer, "first")
            await system.wait([first], seconds=20)
            second = await system.submit(payer, "second")
            await system.wait([second], seconds=20)
            record = await system.record(second)
            assert record.row.status is JobStatus.FAILED
            refused = next(e for e in record.events if e.type == "tool_call_refused")
            assert 5e6 < refused.data["try_again_us"] < 15e6
            error = record.value(record.events[-1], "error")
            assert error["kind"] == "ToolFailed"
            assert "RateLimited: pay: no slot within max_wait (0.4 s); try again in" in error["message"]
            assert record.ledger == []
            assert [w for _, w in STARTS] == ["first"]

    run(work)


def test_a_refusal_is_replayed_as_it_was(database: Database) -> None:
    """A job that goes on after a refusal must see the same refusal in every replay."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:

            @ae.agent
            async def stubborn(ctx: ae.Context) -> list[str]:
                said = [await ctx.call(pay, what="one")]
                try:
                    await ctx.call(pay, what="two")
                except ae.ToolFailed as error:
                    said.append(error.kind)
                await ctx.sleep(1.5)  # gives the worker back: what follows runs in a replay
                return said

            worker = Worker(
                database,
                [stubborn],
                Settings(poll_seconds=0.1),
                on_end=system._on_end,
                limits=Written(pay=Limit(qps=0.01, max_wait_seconds=0.2)),
            )
            system._workers[worker] = asyncio.create_task(worker.run())
            job = await system.submit(stubborn)
            await system.wait([job], seconds=30)
            record = await system.record(job)
            assert record.row.status is JobStatus.COMPLETED, record.events[-1]
            assert record.row.epoch == 2
            assert record.result() == ["one", "RateLimited"]

    run(work)


def limiter_of(database: Database, limits: Written, clock: Clock) -> Limiter:
    """A limiter as a worker makes it."""
    return Limiter(limits, "w", clock, lambda: database.connect("worker"))


async def clock_of(database: Database) -> Clock:
    """The database's clock as a worker knows it."""
    async with await database.connect("worker") as connection:
        return Clock(await workers.clock_offset_us(connection))


def test_ten_thousand_waiters_of_one_tenant_do_not_hold_up_another(database: Database) -> None:
    """A crowd pays for itself: the newcomer of another tenant is next but a few."""

    async def work() -> None:
        limiter = limiter_of(database, Written(pay=Limit(qps=10)), await clock_of(database))
        began = time.monotonic()

        async def turn(tenant: str, job: str) -> float:
            async with limiter.turn("tool", "pay", tenant, job, 1, 1):
                return time.monotonic()

        crowd = [asyncio.create_task(turn("crowd", f"job {n}")) for n in range(10_000)]
        await asyncio.sleep(1)
        before = sum(t.done() for t in crowd)
        await turn("newcomer", "one")
        done = sum(t.done() for t in crowd)
        assert done - before <= 20
        assert done <= 10 * (time.monotonic() - began) + 2
        limiter.drain()
        await asyncio.gather(*crowd, return_exceptions=True)
        await limiter.close()

    run(work)


def test_a_cancelled_waiter_leaves_at_once_and_uses_no_slot(database: Database) -> None:
    """Nobody waits behind those who have gone."""

    async def work() -> None:
        limiter = limiter_of(database, Written(pay=Limit(qps=2)), await clock_of(database))

        async def turn(job: str) -> float:
            async with limiter.turn("tool", "pay", "t", job, 1, 1):
                return time.monotonic()

        first = await turn("first")
        gone = [asyncio.create_task(turn(f"gone {n}")) for n in range(50)]
        await asyncio.sleep(0.1)
        for task in gone:
            task.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        last = await turn("last")
        # One slot may have been given to one who then left: it is wasted, and no more than that (all would be 25 s).
        assert last - first < 4.0
        await limiter.close()

    run(work)


def test_a_stalled_start_reserves_anew(database: Database) -> None:
    """Ten waiters whose loop stood still must not all start when it wakes."""

    async def work() -> None:
        limiter = limiter_of(database, Written(pay=Limit(qps=10)), await clock_of(database))
        started: list[float] = []

        async def turn(job: str) -> None:
            async with limiter.turn("tool", "pay", "t", job, 1, 1):
                started.append(time.monotonic())

        tasks = [asyncio.create_task(turn(str(n))) for n in range(8)]
        while not started:
            await asyncio.sleep(0.01)
        time.sleep(0.6)  # the whole loop stalls
        woke = time.monotonic()
        await asyncio.gather(*tasks)
        assert len([s for s in started if woke <= s < woke + 0.15]) <= 3
        assert len([w for w in limiter._waits if w.outcome == "late"]) >= 3
        assert len([w for w in limiter._waits if w.outcome == "started"]) == 8
        await limiter.close()

    run(work)


def test_limits_of_a_tenant_are_its_own(database: Database) -> None:
    """scope: tenant gives each tenant a budget; one that uses up its own takes nothing from another."""

    async def work() -> None:
        limits = Written(pay=Limit(qps=0.01, scope="tenant", max_wait_seconds=1))
        limiter = limiter_of(database, limits, await clock_of(database))

        async def turn(tenant: str) -> int:
            async with limiter.turn("tool", "pay", tenant, "job", 1, 1) as waited_us:
                return waited_us

        assert max(await turn("acme"), await turn("globex")) < 900_000
        with pytest.raises(RateLimited) as refused:
            await turn("acme")
        assert refused.value.retry_after_seconds is not None
        assert refused.value.retry_after_seconds > 50
        await limiter.close()

    run(work)


def test_changed_limits_hold_for_those_who_wait_already(database: Database) -> None:
    """No restart: what was slow goes on fast."""

    async def work() -> None:
        limiter = limiter_of(database, Written(pay=Limit(qps=0.2)), await clock_of(database))

        async def turn(job: str) -> None:
            async with limiter.turn("tool", "pay", "t", job, 1, 1):
                pass

        tasks = [asyncio.create_task(turn(str(n))) for n in range(20)]
        while not any(t.done() for t in tasks):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        assert sum(t.done() for t in tasks) == 1
        limiter.replace(Written(pay=Limit(qps=100)))
        # One of them sleeps towards a slot of the old limit; the others need no more than the new one.
        # By the old limit three more would start in the time that a busy machine is given.
        await asyncio.wait(tasks, timeout=15)
        assert sum(t.done() for t in tasks) >= 19
        limiter.replace(Written())
        limiter.drain()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await limiter.close()

    run(work)


def test_a_saved_file_changes_the_limits_of_a_running_worker(database: Database, tmp_path: Path) -> None:
    """Within a second of saving, without a restart; a broken file changes nothing."""

    async def work() -> None:
        path = tmp_path / "aetheris.yaml"
        path.write_text("rate_limits: {tools: {pay: {qps: 0.2}}}\n")
        loaded = load(path, {})
        async with ae.AsyncSystem(database=database, config=loaded) as system:
            await system.start_worker([payer])
            ids = [await system.submit(payer, str(n)) for n in range(10)]
            genesis = (await system.record(ids[0])).events[0]
            assert genesis.data["config_sha256"] == loaded.config.sha256
            while not STARTS:
                await asyncio.sleep(0.01)
            path.write_text("rate_limits: {tools: {pay: {qps: -200}}}\n")
            await asyncio.sleep(1.5)
            assert len(STARTS) == 1 + (STARTS[-1][0] - STARTS[0][0] > 4.5)  # five seconds lie between two
            path.write_text("rate_limits: {tools: {pay: {qps: 20}}}\n")
            await system.wait(ids, seconds=30)
            assert len(STARTS) == 10
            assert STARTS[-1][0] - STARTS[0][0] < 10  # at 0.2 a second it would be 45
            changes = await rows(system, "SELECT interval_ns FROM aetheris.limit_changes ORDER BY recorded_at")
            assert [c["interval_ns"] for c in changes] == [5_000_000_000, 50_000_000]

    run(work)


def test_no_more_run_at_once_than_may_over_two_limiters(database: Database) -> None:
    """max_concurrent counts over all workers."""

    async def work() -> None:
        clock = await clock_of(database)
        limits = Written(pay=Limit(max_concurrent=3))
        both = [
            Limiter(limits, f"w{n}", clock, lambda: database.connect("worker"), permit_seconds=30) for n in range(2)
        ]
        duties = [asyncio.create_task(limiter.run()) for limiter in both]
        inside = most = 0

        async def turn(n: int) -> None:
            nonlocal inside, most
            async with both[n % 2].turn("tool", "pay", "t", f"job {n}", 1, 1):
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0.02)
                inside -= 1

        await asyncio.gather(*(turn(n) for n in range(24)))
        assert most == 3
        for duty in duties:
            duty.cancel()
        await asyncio.gather(*duties, return_exceptions=True)
        for limiter in both:
            await limiter.close()

    run(work)
