"""Jobs from submit to end: order, replay, doubt, rest, refusals; over a real PostgreSQL."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

import aetheris as ae
from aetheris.domain.jobs import JobStatus
from aetheris.runtime.ending import ending_of
from aetheris.store.database import Database
from tests.store.job_support import crash, run
from tests.store.pay_support import (
    EFFECTS,
    HELD,
    done,
    look,
    nothing_paid,  # noqa: F401  for every test of this module
    pay,
)


@ae.agent
async def mixed(ctx: ae.Context, n: int) -> dict[str, Any]:
    """Concurrency, an effect, chance and time in one job."""
    chance = ctx.random()
    before = ctx.now()

    async def branch(k: int) -> Any:
        seen = await ctx.call(look, n=k)
        return await ctx.call(pay, what=f"branch {seen['n']}")

    both = await ctx.gather(branch(1), ctx.call(look, n=n), branch(2))
    await ctx.sleep(0.02)
    last = await ctx.call(pay, what="last")
    return {"both": both, "last": last, "chance": chance, "before": before.isoformat(), "after": ctx.now().isoformat()}


def test_a_job_runs_to_its_result_and_leaves_a_sound_record(database: Database) -> None:
    """The main road: every call once, every event linked, every row of the ledger told by an event."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            await system.start_worker([mixed])
            record = await done(system, mixed, 7)
            assert record.row.status is JobStatus.COMPLETED
            result = record.result()
            assert result["both"] == ["paid branch 1", {"n": 7, "half": 3.5}, "paid branch 2"]
            assert sorted(EFFECTS) == ["branch 1", "branch 2", "last"]
            assert 0 <= result["chance"] < 1
            assert result["before"] < result["after"]
            assert len([t for t in record.ledger if t.status == "started"]) == 3

    run(work)


def test_another_worker_goes_on_where_one_was_lost(database: Database) -> None:
    """What is on record is not done again; what was in flight is in doubt and parks the job."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            HELD["last"] = asyncio.Event()
            first = await system.start_worker([mixed], ae.Settings(lease_seconds=1))
            job = await system.submit(mixed, 7)
            while "last" not in EFFECTS:
                await asyncio.sleep(0.01)
            await crash(system, first)
            await system.start_worker([mixed], ae.Settings(lease_seconds=5, poll_seconds=0.2))
            await system.wait([job], seconds=20)
            record = await system.record(job)
            assert record.row.status is JobStatus.PARKED
            assert record.row.open_calls == 1
            assert EFFECTS.count("last") == 1
            assert [e.type for e in record.events][-2:] == ["tool_invocation_unknown", "job_parked"]

    run(work)


def test_a_replay_sees_the_same_values_in_the_same_order(database: Database) -> None:
    """Chance, time and the order of results come from the record, or the code would take another way."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            seen: list[list[Any]] = []

            @ae.agent
            async def watched(ctx: ae.Context) -> list[Any]:
                trail: list[Any] = [ctx.random(), ctx.now()]
                seen.append(trail)

                async def part(k: int) -> None:
                    for i in range(3):
                        trail.append((await ctx.call(look, n=10 * k + i))["n"])
                        trail.append((ctx.random(), ctx.now()))

                await ctx.gather(part(1), part(2), part(3))
                await ctx.sleep(1.5)  # gives the worker back: what follows runs in a replay
                trail.append(ctx.now())
                return [ctx.random()]

            await system.start_worker([watched], ae.Settings(poll_seconds=0.1))
            record = await done(system, watched)
            assert record.row.status is JobStatus.COMPLETED, record.events[-1]
            assert record.row.epoch == 2
            live, replayed = seen
            assert len(live) == 2 + 9 * 2
            assert replayed[: len(live)] == live

    run(work)


def test_a_checkpoint_is_where_the_code_starts_anew(database: Database) -> None:
    """Nothing before it runs again, and step numbers go on."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            starts: list[int] = []

            @ae.agent
            async def counting(ctx: ae.Context, n: int) -> int:
                starts.append(n)
                while n < 4:
                    if n == 2:
                        await ctx.sleep(1.2)
                    await ctx.call(pay, what=f"n={n}")
                    n += 1
                    await ctx.checkpoint(n)
                return n

            await system.start_worker([counting], ae.Settings(poll_seconds=0.1))
            record = await done(system, counting, 0)
            assert record.result() == 4
            assert starts == [0, 2]
            assert EFFECTS == ["n=0", "n=1", "n=2", "n=3"]
            steps = [e.step for e in record.events if e.type == "tool_invocation_started"]
            assert steps == sorted(set(steps))

    run(work)


def test_a_plain_function_is_an_agent_too(database: Database) -> None:
    """It runs in a thread and gets recorded results there."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:

            @ae.agent
            def plain(ctx: ae.SyncContext, n: int) -> list[Any]:
                chance = ctx.random()
                both = ctx.gather(ctx.start(look, n=1), ctx.start(pay, what="x"))
                ctx.sleep(1.2)
                return [chance, *both, ctx.call(pay, what="y")]

            await system.start_worker([plain], ae.Settings(poll_seconds=0.1))
            record = await done(system, plain, 1)
            assert record.result()[1:] == [{"n": 1, "half": 0.5}, "paid x", "paid y"]
            assert EFFECTS == ["x", "y"]
            assert record.row.epoch == 2

    run(work)


class Card(BaseModel):
    """Something with a secret in it."""

    holder: str
    number: Annotated[str, ae.Sensitive]


def test_what_is_sensitive_is_a_cell_of_its_own_and_never_in_a_line(database: Database) -> None:
    """Redaction and erasure drop whole cells; a line can't be changed."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:

            @ae.tool
            async def charge(card: Card, note: Annotated[str, ae.Sensitive]) -> Card:
                assert card.number == "4111-secret"
                return card

            @ae.agent
            async def buying(ctx: ae.Context, card: Card) -> str:
                back = await ctx.call(charge, card=card, note="note-secret")
                assert back == card
                return back.holder

            await system.start_worker([buying])
            record = await done(system, buying, Card(holder="holder-open", number="4111-secret"))
            assert record.row.status is JobStatus.COMPLETED, record.value(record.events[-1], "error")
            lines = b"".join(record.stored.lines)
            assert not any(word in lines for word in (b"4111-secret", b"note-secret", b"holder-open"))
            bodies = {name: cell.body for (_, name), cell in record.stored.cells.items()}
            assert {"args/card/number", "args/note", "result/number", "input/number"} <= bodies.keys()
            for name, body in bodies.items():
                assert body is not None
                assert (b"secret" in body) == (name.endswith(("number", "note"))), name

    run(work)


def test_the_same_key_is_the_same_job_and_bad_input_is_no_job(database: Database) -> None:
    """A retried submit must not double the work; a refused one leaves nothing behind."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            one, two = await asyncio.gather(*(system.submit(mixed, 1, key="k") for _ in range(2)))
            assert one == two
            with pytest.raises(ae.Refused, match="valid integer"):
                await system.submit(mixed, "not a number")
            assert len(await system.listing()) == 1

    run(work)


def test_a_failing_tool_fails_in_the_job_and_may_be_caught_there(database: Database) -> None:
    """What a tool raises is a result like any other: recorded, and the same in a replay."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            tries: list[int] = []

            @ae.tool(effect="none", retries=2)
            async def flaky() -> int:
                tries.append(1)
                if len(tries) < 3:
                    raise OSError("not yet")
                return 5

            @ae.tool
            async def broken() -> None:
                raise ValueError("no funds")

            @ae.agent
            async def trying(ctx: ae.Context) -> list[Any]:
                got = await ctx.call(flaky)
                try:
                    await ctx.call(broken)
                except ae.ToolFailed as error:
                    return [got, error.kind, error.message]
                return []

            await system.start_worker([trying])
            record = await done(system, trying)
            assert record.result() == [5, "ValueError", "no funds"]
            attempts = [(t.attempt, t.status) for t in record.ledger if t.tool_name == "flaky"]
            assert attempts == [(1, "failed"), (2, "failed"), (3, "committed")]

    run(work)


class Mute(Exception):
    """Has no text that could be had."""

    def __str__(self) -> str:
        raise LookupError


@ae.tool
def leaves(mute: bool) -> None:
    """Raise what a worker, or the record of it, could break at."""
    raise Mute if mute else SystemExit(2)


@ae.agent
async def leaving(ctx: ae.Context) -> None:
    """End by what tools ended by."""
    kinds = []
    for mute in (True, False):
        try:
            await ctx.call(leaves, mute=mute)
        except ae.ToolFailed as error:
            kinds.append(error.kind)
    raise SystemExit(" ".join(kinds))


@ae.agent
def leaving_mute(ctx: ae.SyncContext, mute: bool) -> None:
    """End so in a thread."""
    leaves.fn(mute)


def test_what_would_end_the_worker_ends_the_job_alone(database: Database) -> None:
    """A library's sys.exit, and an error without a text: else the job goes round, and ends each that takes it over."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            await system.start_worker([leaving, leaving_mute])
            ends = [await done(system, leaving)]
            ends += [await done(system, leaving_mute, mute) for mute in (True, False)]
            assert [(error["kind"], error["message"]) for end in ends if (error := ending_of(end).error)] == [
                ("SystemExit", "Mute SystemExit"),
                ("Mute", "its text can't be had: __str__ raised LookupError"),
                ("SystemExit", "2"),
            ]

    run(work)


def test_a_once_tool_that_does_not_answer_in_time_is_in_doubt(database: Database) -> None:
    """A timeout is not a failure: the effect may have happened."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            from datetime import timedelta

            @ae.tool(timeout=timedelta(milliseconds=50))
            async def slow() -> None:
                EFFECTS.append("slow")
                await asyncio.sleep(5)

            @ae.agent
            async def waiting(ctx: ae.Context) -> None:
                await ctx.call(slow)

            await system.start_worker([waiting])
            record = await done(system, waiting)
            assert record.row.status is JobStatus.PARKED
            assert record.ledger[-1].status == "unknown"
            assert EFFECTS == ["slow"]

    run(work)


def test_a_draining_worker_hands_over_between_calls(database: Database) -> None:
    """A rolling restart must neither repeat a call nor lose one."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            HELD["slow"] = asyncio.Event()

            @ae.agent
            async def two(ctx: ae.Context) -> list[str]:
                return [await ctx.call(pay, what="slow"), await ctx.call(pay, what="next")]

            first = await system.start_worker([two])
            job = await system.submit(two)
            while not EFFECTS:
                await asyncio.sleep(0.01)
            first.stop()
            await asyncio.sleep(0.1)
            HELD["slow"].set()
            await system._workers[first]
            record = await system.record(job)
            assert [e.type for e in record.events][-1] == "tool_invocation_finished"
            assert record.row.lease_owner is None
            await system.start_worker([two])
            await system.wait([job], seconds=20)
            assert (await system.record(job)).result() == ["paid slow", "paid next"]
            assert EFFECTS == ["slow", "next"]

    run(work)


def test_a_lost_connection_loses_and_repeats_nothing(database: Database) -> None:
    """After a connection lost in COMMIT each job compares its head before anything goes on."""

    async def work() -> None:
        import psycopg

        async with ae.AsyncSystem(database=database) as system:

            @ae.agent
            async def long(ctx: ae.Context, n: int) -> int:
                for i in range(60):
                    await ctx.call(pay, what=f"{n}.{i}")
                return n

            await system.start_worker([long], ae.Settings(lease_seconds=5, poll_seconds=0.2))
            ids = [await system.submit(long, n) for n in range(5)]
            async with await psycopg.AsyncConnection.connect(database.admin_dsn, autocommit=True) as admin:
                for _ in range(10):
                    await asyncio.sleep(0.05)
                    await admin.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE datname = current_database() AND query LIKE '%append: the one fenced append%'"
                        " AND pid <> pg_backend_pid()"
                    )
            found = await system.wait(ids, seconds=40)
            assert set(found.values()) == {JobStatus.COMPLETED}
            assert len(EFFECTS) == len(set(EFFECTS)) == 300

    run(work)


def test_another_tenant_sees_nothing_of_a_job(database: Database) -> None:
    """Nothing crosses tenants: not in lists, not by id."""

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as ours, ae.AsyncSystem(database=database, tenant="b") as theirs:
            job = await ours.submit(mixed, 1)
            assert await theirs.listing() == []
            with pytest.raises(ae.Refused, match="no job starts with"):
                await theirs.record(job)

    run(work)


def test_a_loop_outlives_its_worker(database: Database) -> None:
    """A script that stops its worker and goes on must still be able to use threads."""

    async def body() -> None:
        async with ae.AsyncSystem(database=database) as system:
            worker = await system.start_worker([mixed])
            worker.stop()
            await system._workers.pop(worker)
            assert await asyncio.to_thread(lambda: 7) == 7

    run(body)
