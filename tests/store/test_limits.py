"""Limits in PostgreSQL: the same sums as the arithmetic, shares ahead, permits, changes."""

from __future__ import annotations

import asyncio
import random

import pytest

from aetheris.domain import limits as arithmetic
from aetheris.domain.limits import Limit
from aetheris.store import limits as store
from aetheris.store.database import Connection, Database
from aetheris.store.limits import Key
from tests.store.job_support import run

KEY = Key("", "tool", "pay")


async def reserve(
    connection: Connection, limit: Limit, wanted: int, worker: str = "w1", first: int = 1, ahead: int = 0
) -> store.Grant:
    """Reserve under KEY."""
    return await store.reserve(
        connection,
        KEY,
        limit,
        wanted=wanted,
        waiting=wanted + ahead,
        ahead=ahead,
        worker=worker,
        first_number=first,
        permit_seconds=30,
    )


@pytest.mark.parametrize(
    "limit",
    [Limit(qps=10), Limit(qps=0.5), Limit(qps=3, burst=4), Limit(qps=2500, burst=7), Limit()],
    ids=["10 a second", "one in two seconds", "burst of four", "2,500 a second", "no rate"],
)
def test_the_database_does_the_same_sums_as_the_arithmetic(database: Database, limit: Limit) -> None:
    """The what-if is only worth something if it is the live limit's own sum."""

    async def work() -> None:
        chance = random.Random(3)
        async with await database.connect("worker") as connection:
            tat = 0
            for _ in range(60):
                wanted = chance.randint(1, 300)
                grant = await reserve(connection, limit, wanted)
                slots, new_tat = arithmetic.reserve(limit, tat, grant.now_ns, wanted)
                most = max(1, limit.window)
                if limit.interval_ns and len(slots) > most:
                    slots, new_tat = slots[:most], grant.base_ns + most * limit.interval_ns
                assert grant.granted == len(slots)
                assert arithmetic.slots(limit, grant.base_ns, grant.now_ns, grant.granted) == slots
                tat = new_tat
                await asyncio.sleep(chance.choice([0, 0, 0.003, 0.05]))

    run(work)


def test_a_hold_ends_when_it_was_said_whatever_limits_its_askers_have(database: Database) -> None:
    """Workers with limits of their own change the budget with each reservation: that ended the hold at once."""

    async def work() -> None:
        async with await database.connect("worker") as connection:
            slow, fast, crowd = Limit(qps=10), Limit(qps=50, burst=9), Limit(max_concurrent=2)
            await reserve(connection, slow, 1)
            await store.hold(connection, KEY, 60_000_000_000)
            for limit in (slow, fast, slow, fast, crowd, fast):
                grant = await reserve(connection, limit, 1)
                first = grant.base_ns - max(limit.interval_ns, 0) * (limit.burst - 1)
                assert 59e9 < first - grant.now_ns < 61e9
                assert grant.granted == (limit is crowd)  # which has no rate: its slot is that one

            async def tokens(limit: Limit, number: int) -> store.TokenGrant:
                return await store.reserve_tokens(
                    connection, key, limit, tokens=5, waiting=1, ahead=0, worker="w1", number=number, permit_seconds=30
                )

            key = Key("", "llm", "desk")
            few, many = Limit(tokens_per_minute=600_000), Limit(tokens_per_minute=900_000)
            await tokens(few, 1)
            await store.hold(connection, key, 60_000_000_000)
            for number, limit in enumerate((few, many, few, many)):
                held = await tokens(limit, number)
                assert not held.granted
                assert 59e9 < held.slot_ns - held.now_ns < 61e9

    run(work)


@pytest.mark.parametrize(
    "limit",
    [Limit(tokens_per_minute=600_000), Limit(qps=20, tokens_per_minute=6_000_000), Limit(qps=3, tokens_per_minute=9)],
    ids=["tokens", "requests first", "hardly any"],
)
def test_the_database_does_the_same_sums_for_tokens(database: Database, limit: Limit) -> None:
    """One statement moves both rates; corrections move one of them, either way."""

    async def work() -> None:
        chance = random.Random(5)
        async with await database.connect("worker") as connection:
            tats = arithmetic.Tats()
            for number in range(1, 80):
                tokens = chance.randint(1, 3000)
                grant = await store.reserve_tokens(
                    connection, KEY, limit, tokens=tokens, waiting=1, ahead=0, worker="w1", number=number,
                    permit_seconds=30,
                )  # fmt: skip
                if number == 1:  # a limit that is new
                    assert grant.granted
                slot, after, tats = arithmetic.reserve_tokens(limit, tats, grant.now_ns, tokens)
                assert (grant.granted, grant.next_ns) == (
                    slot is not None,
                    after if slot is not None else grant.next_ns,
                )
                if slot is not None:
                    assert grant.slot_ns == slot
                    used = chance.randint(1, 3000)
                    await store.correct_tokens(connection, KEY, used - tokens)
                    tats = tats.corrected(limit, tokens, used)
                await asyncio.sleep(chance.choice([0, 0.02, 0.1]))

    run(work)


def test_workers_share_what_is_open_ahead_by_how_many_wait_in_each(database: Database) -> None:
    """A wait must not be longer in one worker than in another; and whoever has nothing ahead gets one."""

    async def work() -> None:
        limit = Limit(qps=40)  # 21 slots lie open ahead
        async with await database.connect("worker") as connection:
            first = await reserve(connection, limit, 40, "w1")
            assert (first.sharing, first.granted) == (1, 21)
            await asyncio.sleep(0.6)  # all of it has come: 40 still wait in w1
            second = await reserve(connection, limit, 20, "w2")
            assert (second.sharing, second.granted) == (2, 7)  # a third of 21
            third = await reserve(connection, limit, 1, "w3")
            assert (third.sharing, third.granted) == (3, 1)
            # w2 has its share ahead; w3's only waiter has his slot, so w3 shares no more.
            fourth = await reserve(connection, limit, 13, "w2", ahead=7)
            assert (fourth.sharing, fourth.granted) == (2, 0)
            assert (await reserve(connection, limit, 19, "w1")).granted == 11  # 19 of the 39 that wait

    run(work)


def test_permits_never_exceed_what_may_run_at_once_and_return_from_the_dead(database: Database) -> None:
    """A killed worker gives nothing back itself: its permits run out by the database's clock."""

    async def work() -> None:
        limit = Limit(max_concurrent=3)
        async with await database.connect("worker") as connection:
            first = await store.reserve(
                connection, KEY, limit, wanted=2, waiting=2, ahead=0, worker="dies", first_number=1, permit_seconds=30
            )
            second = await reserve(connection, limit, 5, "lives", 7)
            assert (first.granted, second.granted) == (2, 1)
            assert (await reserve(connection, limit, 5, "lives", 20)).granted == 0
            await store.renew_permits(connection, "lives", [7], 30)
            # As thirty seconds later, by its clock:
            await connection.execute("UPDATE aetheris.limit_permits SET until = now() WHERE worker_id = 'dies'")
            # What has run out stays lost, whoever wakes up late.
            await store.renew_permits(connection, "dies", [1, 2], 30)
            assert (await reserve(connection, limit, 5, "lives", 30)).granted == 2
            await store.release_permits(connection, "lives", [7, 30, 31])
            assert (await reserve(connection, limit, 5, "lives", 40)).granted == 3

    run(work)


def test_an_unwanted_tail_goes_back_and_nothing_that_others_stand_behind(database: Database) -> None:
    """Giving back a slot that lies before another's would let two starts meet."""

    async def work() -> None:
        limit = Limit(qps=10)
        interval = limit.interval_ns
        async with await database.connect("worker") as connection:
            grant = await reserve(connection, limit, 3)
            end = grant.base_ns + 3 * interval
            await store.give_back(connection, KEY, tail_ns=interval, end_ns=end)
            again = await reserve(connection, limit, 1)
            assert again.base_ns == end - interval
            await store.give_back(connection, KEY, tail_ns=interval, end_ns=end - interval)
            assert (await reserve(connection, limit, 1)).base_ns == end

    run(work)


def test_a_changed_limit_is_on_record_and_a_slow_past_does_not_bind_a_faster_one(database: Database) -> None:
    """Raising one start a minute to ten a second must not take a minute to be felt."""

    async def work() -> None:
        async with await database.connect("worker") as connection:
            for _ in range(2):
                await reserve(connection, Limit(qps=1 / 60), 1)
            grant = await reserve(connection, Limit(qps=10), 1)
            assert grant.granted == 1
            assert grant.base_ns - grant.now_ns <= 500_000_000
            found = await (
                await connection.execute("SELECT interval_ns FROM aetheris.limit_changes ORDER BY recorded_at")
            ).fetchall()
            assert [r["interval_ns"] for r in found] == [60_000_000_000, 100_000_000]

    run(work)
