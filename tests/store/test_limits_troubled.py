"""A limiter beside a database that is slow, full or gone: nobody who waits is forgotten, no wait is lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import aetheris as ae
from aetheris.domain.errors import Denied
from aetheris.domain.limits import Limit
from aetheris.runtime import limiter as limiter_module
from aetheris.runtime.clock import Clock
from aetheris.runtime.limiter import Limiter, Unlimited
from aetheris.runtime.turns import Budget
from aetheris.store import limits as store
from aetheris.store.database import Connection, Database
from aetheris.store.errors import Full
from tests.store.job_support import run


@ae.agent
async def nobody_serves(ctx: ae.Context) -> None:
    """Its job is there, and that is all."""


class Tokens:
    """Ten tokens a second."""

    def find(self, kind: str, name: str) -> Limit | None:
        """As a configuration would."""
        return Limit(tokens_per_minute=600)


class Ten:
    """Ten a second."""

    def find(self, kind: str, name: str) -> Limit | None:
        """As a configuration would."""
        return Limit(qps=10)


async def entered(limiter: Limiter, job: str, tokens: int = 0) -> int:
    """Wait for a turn, and leave it."""
    async with limiter.turn("tool", "pay", "default", job, 1, 1, tokens) as waited_us:
        return waited_us


def failing_once(monkeypatch: pytest.MonkeyPatch, name: str) -> list[int]:
    """Let a statement of the limiter find the disk full, once; return when it did."""
    real, seen = getattr(store, name), []

    async def full(*given: Any, **named: Any) -> Any:
        seen.append(1)
        if len(seen) == 1:
            raise Full("PostgreSQL can't write: no space left. Free some disk space; nothing was lost.")
        return await real(*given, **named)

    monkeypatch.setattr(store, name, full)
    return seen


def test_a_waiter_that_leaves_before_the_connection_is_there_breaks_nothing(database: Database) -> None:
    """The soak: a division by zero in the server, as nobody was left to share with, in a task that nobody awaits."""

    async def work() -> None:
        asked, there = asyncio.Event(), asyncio.Event()

        async def connect() -> Connection:
            asked.set()
            await there.wait()
            return await database.connect("worker")

        limiter = Limiter(Ten(), "w1", Clock(0), connect)
        left = asyncio.create_task(entered(limiter, "a"))
        await asked.wait()
        (budget,) = limiter._budgets.values()
        serving = budget.task
        assert serving is not None
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        there.set()
        await asyncio.wait_for(serving, 10)  # raises what it ended with
        assert await asyncio.wait_for(entered(limiter, "b"), 10) >= 0
        await limiter.close()

    run(work)


def test_a_waiter_waits_on_while_the_disk_is_full(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody asks anew for it: it would have hung until the next call of the same tool."""
    seen = failing_once(monkeypatch, "reserve")

    async def work() -> None:
        limiter = Limiter(Ten(), "w1", Clock(0), lambda: database.connect("worker"))
        await asyncio.wait_for(entered(limiter, "a"), 10)
        assert len(seen) > 1
        await limiter.close()

    run(work)


def test_what_is_refused_for_good_is_asked_for_ever_less_often(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A role without its grant: the log said so five times a second. Whoever waits starts when that is mended."""
    real, mended = store.reserve, asyncio.Event()

    async def refused(*given: Any, **named: Any) -> Any:
        if not mended.is_set():
            raise Denied("PostgreSQL refused: permission denied for table limit_budgets")
        return await real(*given, **named)

    monkeypatch.setattr(store, "reserve", refused)
    monkeypatch.setattr(limiter_module, "RECONNECT_SECONDS", 0.01)

    async def work() -> None:
        limiter = Limiter(Ten(), "w1", Clock(0), lambda: database.connect("worker"))
        waits = asyncio.create_task(entered(limiter, "a"))
        await asyncio.sleep(0.5)
        assert caplog.text.count("permission denied") <= 7  # 0.01 s doubled six times is over half a second
        mended.set()
        await asyncio.wait_for(waits, 10)
        await limiter.close()

    run(work)


def test_waits_are_put_down_when_there_is_room_again(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the limiter, whose end would be the worker's, goes on."""
    seen = failing_once(monkeypatch, "write_waits")

    async def work() -> None:
        limiter = Limiter(Ten(), "w1", Clock(0), lambda: database.connect("worker"))
        duty = asyncio.create_task(limiter.run())
        async with ae.AsyncSystem(database=database) as system:
            job = await system.submit(nobody_serves)
            await entered(limiter, job)
            async with asyncio.timeout(10), await database.connect("mirror") as connection:
                while (await (await connection.execute("SELECT job_id FROM aetheris.limit_waits")).fetchall()) == []:
                    await asyncio.sleep(0.05)
        assert len(seen) == 2
        assert not duty.done()
        duty.cancel()
        await limiter.close()

    run(work)


@pytest.mark.parametrize("after", [Unlimited(), Ten()], ids=["no limit", "starts alone"])
def test_who_waits_for_tokens_goes_on_when_they_are_limited_no_more(
    database: Database, monkeypatch: pytest.MonkeyPatch, after: Unlimited | Ten
) -> None:
    """A saved file that no longer has tokens_per_minute: the task of the budget spun, and with it the whole worker."""
    real, rounds = Limiter._round, []

    async def counted(limiter: Limiter, budget: Budget) -> float:
        rounds.append(1)
        assert len(rounds) < 1000, "it spins"
        return await real(limiter, budget)

    monkeypatch.setattr(Limiter, "_round", counted)

    async def work() -> None:
        limiter = Limiter(Tokens(), "w1", Clock(0), lambda: database.connect("worker"))
        await entered(limiter, "a", 600)  # a minute's tokens
        waiting = asyncio.create_task(entered(limiter, "b", 10))
        (budget,) = limiter._budgets.values()
        async with asyncio.timeout(10):
            while budget.head is None:
                await asyncio.sleep(0.01)
        limiter.replace(after)
        await asyncio.wait_for(waiting, 5)
        await limiter.close()

    run(work)


def test_an_absurd_count_of_tokens_holds_nobody_up(database: Database) -> None:
    """An endpoint says what it likes: the sum that PostgreSQL refused was tried again for ever, before all else."""

    async def work() -> None:
        limiter = Limiter(Tokens(), "w1", Clock(0), lambda: database.connect("worker"))
        await entered(limiter, "a", 1)
        (budget,) = limiter._budgets.values()
        limiter.correct(budget, 10**15)
        await asyncio.wait_for(entered(limiter, "b", 1), 5)
        assert not limiter._amends
        await limiter.close()

    run(work)
