"""Doubt and what ends it: confirm, a person, fences; and code that changed under a job."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import aetheris as ae
from aetheris.domain.jobs import JobStatus
from aetheris.runtime.replay import replay
from aetheris.store.database import Database
from tests.store.job_support import FAST, at_rest, crash, ended, run, types

SHORT = ae.Settings(lease_seconds=1, poll_seconds=0.1)


class Bank:
    """A world that counts effects by key, and can fence one."""

    def __init__(self) -> None:
        self.effects: list[str] = []
        self.blocked: set[str] = set()
        self.asked: list[tuple[int, dict[str, Any]]] = []
        self.hold = asyncio.Event()
        self.answers = True  # False: it can't tell
        self.before_effect = False

    async def pay(self, call: ae.Call, what: str) -> str:
        """The effect, refused for a fenced attempt; waits before or after it."""
        if self.before_effect:
            await self.hold.wait()
        if f"{call.key}/{call.attempt}" in self.blocked:
            raise RuntimeError("this attempt is blocked")
        self.effects.append(what)
        if not self.before_effect:
            await self.hold.wait()
        return f"paid {what} in attempt {call.attempt}"

    async def confirm(self, call: ae.Call) -> ae.Answer:
        """Done when paid, else fence the attempt."""
        self.asked.append((call.attempt, dict(call.arguments)))
        if not self.answers:
            raise OSError("the bank's search is down; IBAN DE00")
        if call.arguments["what"] in self.effects:
            return ae.Done("found")
        self.blocked.add(f"{call.key}/{call.attempt}")
        return ae.NotDone()


def agent_of(bank: Bank, *, confirms: bool = True, replay: bool = False) -> ae.Agent:
    """An agent that pays once at `bank` and then once more."""

    @ae.tool
    async def pay(call: ae.Call, what: str) -> str:
        return await bank.pay(call, what)

    if confirms:
        pay.confirm(bank.confirm, replay=replay)

    @ae.agent
    async def payer(ctx: ae.Context) -> list[str]:
        first = await ctx.call(pay, what="big")
        await ctx.wait_signal("next")
        return [first, await ctx.call(pay, what="small")]

    return payer


async def begun_and_lost(system: ae.AsyncSystem, agent: ae.Agent, bank: Bank) -> str:
    """Crash a worker in the middle of the first call; return the job."""
    first = await system.start_worker([agent], SHORT)
    job = await system.submit(agent)
    await system.operator.signal(job, "next")  # what comes after the first call is not held up
    while not bank.effects and "tool_invocation_started" not in types(await system.record(job)):
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    await crash(system, first)
    bank.hold.set()
    return job


def test_a_tool_that_can_tell_ends_the_doubt_without_a_person(database: Database) -> None:
    """The call took effect: its result is what `confirm` found; it is not made again."""

    async def work() -> None:
        bank = Bank()
        agent = agent_of(bank)
        async with ae.AsyncSystem(database=database) as system:
            job = await begun_and_lost(system, agent, bank)
            await system.start_worker([agent], FAST)
            record = await ended(system, job)
            assert record.result() == ["found", "paid small in attempt 1"]
            assert bank.effects == ["big", "small"]
            assert bank.asked == [(1, {"what": "big"})]
            assert [t.status for t in record.ledger if t.step == 1] == ["started", "unknown", "confirmed"]

    run(work)


def test_not_done_makes_the_call_again_under_the_next_attempt(database: Database) -> None:
    """The attempt that never took effect is fenced; the next one pays."""

    async def work() -> None:
        bank = Bank()
        bank.before_effect = True
        agent = agent_of(bank)
        async with ae.AsyncSystem(database=database) as system:
            job = await begun_and_lost(system, agent, bank)
            await system.start_worker([agent], FAST)
            record = await ended(system, job)
            assert record.result()[0] == "paid big in attempt 2"
            assert bank.effects == ["big", "small"]
            confirmed = next(e for e in record.events if e.type == "tool_invocation_confirmed")
            assert confirmed.data["outcome"] == "not_done"

    run(work)


def test_a_confirm_that_can_not_tell_leaves_the_doubt_and_is_asked_again(database: Database) -> None:
    """What it raised may be sensitive: it is no part of a line."""

    async def work() -> None:
        bank = Bank()
        bank.answers = False
        agent = agent_of(bank)
        async with ae.AsyncSystem(database=database) as system:
            job = await begun_and_lost(system, agent, bank)
            await system.start_worker([agent], FAST)
            record = await at_rest(system, job, "doubt 1 pay")
            assert record.row.status is JobStatus.PARKED
            assert b"IBAN" not in b"".join(record.stored.lines)
            assert "IBAN" in record.value(record.events[-1], "why")
            bank.answers = True
            await system.operator.resume(job)
            assert (await ended(system, job)).result()[0] == "found"
            assert bank.effects == ["big", "small"]

    run(work)


@pytest.mark.parametrize("lost", [ConnectionResetError("gone"), TimeoutError(), ae.Uncertain("no receipt")])
def test_a_lost_connection_of_a_once_tool_is_a_doubt_not_a_failure(database: Database, lost: Exception) -> None:
    """The request may have arrived. Other errors are the tool's own word that it failed."""
    tries: list[int] = []

    @ae.tool
    async def pay() -> None:
        tries.append(1)
        raise lost

    @ae.agent
    async def payer(ctx: ae.Context) -> None:
        await ctx.call(pay)

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            await system.start_worker([payer], FAST)
            job = await system.submit(payer)
            record = await at_rest(system, job, "doubt 1 pay")
            assert types(record)[-2:] == ["tool_invocation_unknown", "job_parked"]
            assert tries == [1]
            assert str(lost) not in str(record.stored.lines) or not str(lost)

    run(work)


@pytest.mark.parametrize("outcome", ["done", "failed", "not_done"])
def test_a_person_resolves_a_doubt_with_who_and_why(database: Database, outcome: Any) -> None:
    """On the record; the job goes on as they said."""

    async def work() -> None:
        bank = Bank()
        agent = agent_of(bank, confirms=False)
        async with ae.AsyncSystem(database=database) as system:
            job = await begun_and_lost(system, agent, bank)
            await system.start_worker([agent], FAST)
            await at_rest(system, job, "doubt 1 pay")
            operator = system.operator
            with pytest.raises(ae.Refused, match="no call 9"):
                await operator.resolve(job, 9, "done", why="x")
            with pytest.raises(ae.Refused, match="needs a reason"):
                await operator.resolve(job, 1, "done", why=" ")
            await operator.resolve(job, 1, outcome, why="statement, line 4", result="receipt", worker_gone=True)
            record = await ended(system, job)
            resolved = next(e for e in record.events if e.type == "tool_invocation_resolved")
            assert resolved.by.startswith("user/")
            assert record.value(resolved, "why") == "statement, line 4"
            if outcome == "done":
                assert record.result()[0] == "receipt"
                assert bank.effects == ["big", "small"]
            elif outcome == "failed":
                assert record.row.status is JobStatus.FAILED
                assert bank.effects == ["big"]
            else:
                assert record.result()[0] == "paid big in attempt 2"
            with pytest.raises(ae.Refused, match=r"not in doubt|takes no resolve"):
                await operator.resolve(job, 1, "done", why="again")

    run(work)


def test_a_person_who_is_faster_than_confirm_is_not_contradicted(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Found by a hundred kills: the doubt came back after its end; only the database's own check stood against it."""
    asked, answer = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        bank = Bank()

        @ae.tool
        async def pay(call: ae.Call, what: str) -> str:
            return await bank.pay(call, what)

        @pay.confirm
        async def slowly(call: ae.Call) -> ae.Answer:
            asked.set()
            await answer.wait()
            return ae.Done("from confirm")

        @ae.agent
        async def payer(ctx: ae.Context) -> str:
            paid, _ = await ctx.gather(ctx.call(pay, what="big"), ctx.wait_signal("go"))
            return str(paid)

        async with ae.AsyncSystem(database=database) as system:
            job = await begun_and_lost(system, payer, bank)
            await system.start_worker([payer], FAST)
            await asked.wait()
            await system.operator.resolve(job, 1, "done", why="seen", result="from a person")
            while "tool_invocation_resolved" not in types(await system.record(job)):
                await asyncio.sleep(0.02)
            answer.set()
            await asyncio.sleep(0.2)
            await system.operator.signal(job, "go")
            record = await ended(system, job)
            assert record.result() == "from a person"
            assert not [r for r in caplog.records if r.levelname == "ERROR"]
            assert [t.status for t in record.ledger] == ["started", "unknown", "resolved"]

    run(work)


def test_a_confirm_that_comes_too_late_ends_no_later_attempt(database: Database) -> None:
    """A person said that the first was not done; the second is in doubt as well when the first one's answer comes."""
    answer, again = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        bank = Bank()

        @ae.tool
        async def pay(call: ae.Call, what: str) -> str:
            if call.attempt > 1:
                raise ae.Uncertain
            return await bank.pay(call, what)

        @pay.confirm
        async def slowly(call: ae.Call) -> ae.Answer:
            if call.attempt > 1:
                again.set()
                return ae.StillUnknown("not yet")
            await answer.wait()
            return ae.Done("from the first")

        @ae.agent
        async def payer(ctx: ae.Context) -> str:
            return await ctx.call(pay, what="big")

        async with ae.AsyncSystem(database=database) as system:
            job = await begun_and_lost(system, payer, bank)
            await system.start_worker([payer], FAST)
            while "tool_invocation_unknown" not in types(await system.record(job)):
                await asyncio.sleep(0.02)
            await system.operator.resolve(job, 1, "not_done", why="asked the bank", worker_gone=True)
            await again.wait()
            answer.set()
            record = await at_rest(system, job, "doubt 1 pay")
            assert [(t.attempt, t.status) for t in record.ledger] == [
                (1, "started"),
                (1, "unknown"),
                (1, "resolved"),
                (2, "started"),
                (2, "unknown"),
            ]

    run(work)


def test_not_done_is_refused_while_the_old_worker_may_still_do_it(database: Database) -> None:
    """A silent worker is not a gone one; whoever knows better says so, and that is on record."""

    async def work() -> None:
        bank = Bank()
        agent = agent_of(bank, confirms=False)
        async with ae.AsyncSystem(database=database) as system:
            job = await begun_and_lost(system, agent, bank)
            async with await database.connect("worker") as connection:
                await connection.execute(
                    "INSERT INTO aetheris.workers (worker_id, concurrency) SELECT worker_id, 1"
                    " FROM aetheris.lease_changes WHERE change <> 'released' ON CONFLICT DO NOTHING"
                )
            await system.start_worker([agent], FAST)
            await at_rest(system, job, "doubt 1 pay")
            with pytest.raises(ae.Refused, match="not known to be gone"):
                await system.operator.resolve(job, 1, "not_done", why="asked the bank")
            await system.operator.resolve(job, 1, "not_done", why="asked the bank", worker_gone=True)
            record = await ended(system, job)
            resolved = next(e for e in record.events if e.type == "tool_invocation_resolved")
            assert resolved.data["worker_gone"] == "said"

    run(work)


def test_a_result_that_the_world_no_longer_confirms_parks_the_job(database: Database) -> None:
    """Strict confirmation replay: the recorded result is not used until a person lets it pass."""

    async def work() -> None:
        bank = Bank()
        bank.hold.set()
        agent = agent_of(bank, replay=True)
        async with ae.AsyncSystem(database=database) as system:
            await system.start_worker([agent], FAST)
            job = await system.submit(agent)
            await at_rest(system, job, "signal next")
            bank.effects.clear()  # the world forgot
            await system.operator.signal(job, "next")
            record = await at_rest(system, job, "confirmation 1 pay")
            failed = next(e for e in record.events if e.type == "confirmation_replay_failed")
            assert failed.data["reason"] == "not done"
            assert "the world does not confirm its recorded result" in record.events[-1].data["reason"]
            assert bank.effects == []
            await system.operator.resume(job, "known to the bank under another name")
            assert (await ended(system, job)).result()[0] == "paid big in attempt 1"

    run(work)


def test_a_job_that_began_under_another_version_is_left_alone_unless_accepted(database: Database) -> None:
    """Changed code never touches a job by accident; accepting it is on record."""

    def version(number: str, accepts: tuple[str, ...] = ()) -> ae.Agent:
        @ae.agent(name="moving", version=number, accepts=accepts)
        async def moving(ctx: ae.Context) -> str:
            await ctx.wait_signal("go")
            return f"by {number}"

        return moving

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            first = await system.start_worker([version("1")], FAST)
            job = await system.submit(version("1"))
            await at_rest(system, job, "signal go")
            first.stop()
            await system._workers.pop(first)
            second = await system.start_worker([version("2")], FAST)
            await system.operator.signal(job, "go")
            await asyncio.sleep(0.5)
            assert (await system.record(job)).row.lease_owner is None
            with pytest.raises(ae.Refused, match="has begun under version 1 of moving, this is 2"):
                await system.check_version(job, version("2"))
            second.stop()
            await system._workers.pop(second)
            await system.start_worker([version("3", accepts=("1",))], FAST)
            record = await ended(system, job)
            assert record.result() == "by 3"
            accepted = [e.data for e in record.events if "accepted_version" in e.data]
            assert [(d["accepted_version"], d["agent_version"]) for d in accepted] == [("1", "3")]

    run(work)


def test_a_signal_that_wakes_a_job_is_not_delivered_to_code_that_waits_for_another(database: Database) -> None:
    """It was given to the changed code as a wait whose time was over: the job failed, and the signal was spent."""

    def waiting_for(key: str) -> ae.Agent:
        @ae.agent(name="patient", version="1")
        async def patient(ctx: ae.Context) -> str:
            return str(await ctx.wait_signal(key))

        return patient

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            first = await system.start_worker([waiting_for("go")], FAST)
            job = await system.submit(waiting_for("go"))
            await at_rest(system, job, "signal go")
            first.stop()
            await system._workers.pop(first)
            second = await system.start_worker([waiting_for("another")], FAST)
            await system.operator.signal(job, "go", "here")
            record = await at_rest(system, job, "other code")
            assert "diverged: step 1: the record holds " in record.events[-1].data["reason"]
            second.stop()
            await system._workers.pop(second)
            await system.start_worker([waiting_for("go")], FAST)
            await system.operator.resume(job)
            assert (await ended(system, job)).result() == "here"

    run(work)


def test_patched_takes_the_new_way_only_in_jobs_that_come_there_anew(database: Database) -> None:
    """A job that went past the old way stays on it, in every replay."""
    new = False

    @ae.tool
    async def old_fee() -> str:
        return "old"

    @ae.tool
    async def new_fee() -> str:
        return "new"

    @ae.agent
    async def fees(ctx: ae.Context) -> list[str]:
        tool = old_fee
        if new and ctx.patched("new-fee"):
            tool = new_fee
        got = [await ctx.call(tool)]
        await ctx.wait_signal("go")
        if new and ctx.patched("bonus"):
            got.append(await ctx.call(new_fee))
        return got

    async def work() -> None:
        nonlocal new
        async with ae.AsyncSystem(database=database) as system:
            await system.start_worker([fees], FAST)
            old_job = await system.submit(fees)
            await at_rest(system, old_job, "signal go")
            new = True
            new_job = await system.submit(fees)
            await system.operator.signal(old_job, "go")
            await system.operator.signal(new_job, "go")
            assert (await ended(system, old_job)).result() == ["old", "new"]
            record = await ended(system, new_job)
            assert record.result() == ["new", "new"]
            assert types(record).count("patch_recorded") == 2
            assert (await replay(fees, record)).same

    run(work)


def test_replay_runs_the_code_against_the_record_without_the_world(database: Database) -> None:
    """It says the same, or at which event and where in the code it differs."""
    calls: list[str] = []

    @ae.tool
    async def pay(what: str) -> str:
        calls.append(what)
        return what.upper()

    def code(*whats: str, end: str = "") -> ae.Agent:
        @ae.agent(name="shop")
        async def shop(ctx: ae.Context) -> Any:
            got = [await ctx.call(pay, what=what) for what in whats]
            await ctx.sleep(0.01)
            return [*got, end, ctx.random()]

        return shop

    async def work() -> None:
        async with ae.AsyncSystem(database=database) as system:
            await system.start_worker([code("a", "b")], FAST)
            record = await ended(system, await system.submit(code("a", "b")))
            assert calls == ["a", "b"]
            same = await replay(code("a", "b"), record)
            assert (same.same, same.ended, same.difference) == (True, "completed", "")
            other = await replay(code("a", "c"), record)
            assert not other.same
            assert "step 2" in other.difference
            assert "with other arguments" in other.difference
            assert "test_doubt.py:" in other.difference
            longer = await replay(code("a", "b", "c"), record)
            assert "step 3" in longer.difference
            result = await replay(code("a", "b", end="!"), record)
            assert "another result than event" in result.difference
            assert calls == ["a", "b"]

    run(work)
