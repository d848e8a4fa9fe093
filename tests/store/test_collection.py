"""Finished jobs leave the store only when the lake has them whole, and are as good as there afterwards."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import aetheris.workbench as wb
from aetheris.domain.errors import Conflict, Corrupt, Refused, Unusable
from aetheris.domain.trace import trace
from aetheris.evidence import verify
from aetheris.lake.opened import read_files
from aetheris.runtime import collection
from aetheris.runtime.collection import Collector
from aetheris.runtime.erasure import hold, release
from aetheris.store import retention
from aetheris.store.database import Database
from tests.store.job_support import run
from tests.store.retention_support import Passenger, house, package, trip, waiting


def test_a_seal_is_made_once_and_is_what_a_verifier_would_pass(database: Database, tmp_path: Path) -> None:
    """Sealing again changes nothing, an unfinished job has none, and the package carries the stored bytes."""

    async def body() -> None:
        async with house(database, tmp_path) as here:
            (job,) = await here.travelled()
            open_job = await here.system.submit(waiting, 1)
            assert (await here.seal()).count == 1
            assert (await here.seal()).count == 0
            record = await here.system.record(job)
            assert record.seal is not None
            data = package(record)
            assert verify(data)["completeness"].status == "passed"
            assert record.seal.statement in data
            assert (await here.system.record(open_job)).seal is None
            assert ("seal_jobs", True) in here.audited()

    run(body)


def test_a_broken_record_is_marked_and_never_sealed_or_collected(database: Database, tmp_path: Path) -> None:
    """It is told of, on the audit chain too, and stays where a person can look at it."""

    async def body() -> None:
        async with house(database, tmp_path) as here:
            good, bad = await here.travelled(2)
            with here.admin() as connection:
                connection.execute(
                    "UPDATE aetheris.job_events SET line = replace(line, 'worker', 'wurker')"
                    " WHERE job_id = %s AND seq = 2",
                    [bad],
                )
            sealed = await here.seal()
            assert (sealed.count, [key[1] for key, _ in sealed.broken]) == (1, [bad])
            assert ("seal_jobs", False) in here.audited()
            await here.mirror()
            here.aged()
            done = await here.collect()
            assert (done.jobs, done.kept["broken"]) == (1, 1)
            assert here.count("jobs", bad) == 1
            assert here.count("jobs", good) == 0

    run(body)


def test_a_collected_job_is_traced_and_exported_to_the_byte(database: Database, tmp_path: Path) -> None:
    """An auditor who comes after the collection sees and gets what one before it did."""

    async def body() -> None:
        async with house(database, tmp_path) as here:
            (job,) = await here.travelled()
            await here.kept()
            before = await here.system.record(job)
            here.aged()
            done = await here.collect()
            assert done.jobs == 1
            assert done.rows["job_events"] == len(before.stored.lines)
            assert here.audited()[-1] == ("collect_jobs", True)
            for table in retention.REMOVED:
                assert here.count(table, job) == 0, table
            after = await here.system.record(job[:10])
            assert after.stored.lines == before.stored.lines
            assert after.stored.cells == before.stored.cells
            assert after.ledger == before.ledger
            assert (after.row.status, after.row.epoch) == (before.row.status, before.row.epoch)
            assert trace(after.events) == trace(before.events)
            assert package(after) == package(before)
            # The auditor's own export, from the lake's folder alone, has the same bytes.
            wb.open(here.folder).jobs[job].export(tmp_path / "desk.zip")
            assert (tmp_path / "desk.zip").read_bytes() == package(before)
            assert after.result() == before.result()
            # And the mirror, which reads by transaction, doesn't mind.
            assert (await here.mirror()).rows["tombstones"] == 1

    run(body)


@pytest.mark.parametrize("why", ["running", "held", "unsealed", "not in the lake"])
def test_what_must_stay_stays(database: Database, tmp_path: Path, why: str) -> None:
    """Old age alone takes nothing away."""

    async def body() -> None:
        async with house(database, tmp_path) as here:
            if why == "running":
                job = await here.system.submit(waiting, 1)
                await here.mirror()
            else:
                (job,) = await here.travelled()
            if why == "held":
                await here.kept()
                assert await hold(database, "default", job, by="ann", reason="case 7")
                assert not await hold(database, "default", job, by="bob", reason="case 7 again")
            elif why == "unsealed":
                await here.mirror()
            elif why == "not in the lake":
                await here.mirror()
                await here.seal()
            here.aged()
            assert (await here.collect(dry_run=True)).jobs == 0
            done = await here.collect()
            assert (done.jobs, done.kept[why]) == (0, 1)
            assert here.count("jobs", job) == 1
            if why == "held":
                assert await release(database, "default", job, by="ann", reason="settled")
                assert (await here.collect()).jobs == 1
                assert [a for a, _ in here.audited()] == ["seal_jobs", "hold_job", "release_job", "collect_jobs"]

    run(body)


def test_a_dry_run_says_what_a_run_then_does(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches smaller than what is due, young jobs beside old ones; a second run finds nothing left.

    Of the lake's day no more is kept in memory than the batch's rows.
    """
    kept = []

    def noted(*given: Any, **how: Any) -> pa.Table:
        rows = read_files(*given, **how)
        kept.append(len(set(rows["job_id"].to_pylist())))
        return rows

    monkeypatch.setattr(collection, "read_files", noted)

    async def body() -> None:
        async with house(database, tmp_path) as here:
            old = await here.travelled(7)
            await here.travelled(2)
            await here.kept()
            here.aged(jobs=old)
            said = await here.collect(dry_run=True, batch=3)
            assert (said.jobs, here.count("jobs")) == (7, 9)
            done = await here.collect(batch=3)
            assert (done.jobs, done.rows["jobs"], here.count("jobs")) == (7, 7, 2)
            assert max(kept) == 3
            assert (await here.collect()).jobs == 0

    run(body)


def test_a_lake_that_cannot_vouch_stops_the_collection(database: Database, tmp_path: Path) -> None:
    """Gone, edited, or another store's: nothing is removed, and the line says why."""

    async def body() -> None:
        async with house(database, tmp_path) as here:
            (job,) = await here.travelled()
            await here.kept()
            here.aged()
            elsewhere = tmp_path / "elsewhere"
            with pytest.raises(Unusable, match="no such folder"):
                await Collector(database, elsewhere, days=90, by="test").run()
            index = here.folder / "lake.json"
            true = index.read_text()
            with here.admin() as connection:
                row = connection.execute("SELECT incarnation::text FROM aetheris.store_identity").fetchone()
            assert row is not None
            index.write_text(true.replace(row[0], "0" * 36))
            with pytest.raises(Refused, match="another store"):
                await here.collect()
            index.write_text(true)
            file = next((here.folder / "ledger").rglob("*.parquet"))
            data = bytearray(file.read_bytes())
            data[len(data) // 2] ^= 1
            file.write_bytes(data)
            with pytest.raises(Corrupt, match="bytes are not those"):
                await here.collect()
            assert here.count("jobs", job) == 1
            assert here.count("ledger", job) > 0

    run(body)


@pytest.mark.parametrize("days", [0, -1, 1_000_000])
def test_an_absurd_retention_is_refused(database: Database, tmp_path: Path, days: int) -> None:
    """Minus ninety days would take everything."""
    with pytest.raises(Refused, match="makes no sense"):
        Collector(database, tmp_path, days=days, by="test")


def test_one_collection_at_a_time(database: Database, tmp_path: Path) -> None:
    """The second is told to let the first end; when that is over, it may."""

    async def body() -> None:
        async with house(database, tmp_path) as here:
            await here.travelled()
            await here.kept()
            here.aged()
            async with await database.connect("keeper") as other:
                assert await retention.alone(other)
                with pytest.raises(Conflict, match="another collection is under way: let it end"):
                    await here.collect()
                assert (await here.collect(dry_run=True)).jobs == 1
            assert (await here.collect()).jobs == 1

    run(body)


def test_a_hold_that_comes_while_the_batch_is_locked_is_kept(database: Database, tmp_path: Path) -> None:
    """The lock's own look may be older than the hold; the one after it is not."""

    async def body() -> None:
        async with house(database, tmp_path) as here:
            (job,) = await here.travelled()
            await here.kept()
            here.aged()
            async with await database.connect("keeper") as holder, await database.connect("keeper") as keeper:
                async with holder.transaction():
                    assert await retention.place_hold(holder, "default", job, "ann", "case 7")
                    taking = asyncio.create_task(_locked(keeper, job))
                    await asyncio.sleep(0.2)
                    assert not taking.done()
                assert await taking == []

    run(body)


async def _locked(connection: retention.Connection, job: str) -> list[tuple[str, str]]:
    async with connection.transaction():
        return await retention.lock(connection, [("default", job)])


def test_a_key_names_its_job_for_good(database: Database, tmp_path: Path) -> None:
    """A refund that was asked for once is not paid again because its job is no longer in the store."""

    async def body() -> None:
        async with house(database, tmp_path) as here:
            (job,) = await here.travelled(key="ticket-881")
            await here.kept()
            here.aged()
            await here.collect()
            again = await here.system.submit(trip, Passenger(name="Ada", email="other"), key="ticket-881")
            assert again == job
            assert here.count("jobs") == 0

    run(body)


def test_a_key_is_not_free_for_the_moment_of_its_collection(database: Database, tmp_path: Path) -> None:
    """A submit that waits for the collection's commit must not slip in behind it."""

    async def body() -> None:
        async with house(database, tmp_path) as here:
            (job,) = await here.travelled(key="ticket-881")
            await here.kept()
            async with await database.connect("keeper") as keeper:
                async with keeper.transaction():
                    keys = await retention.lock(keeper, [("default", job)])
                    await retention.remove(keeper, keys, by="test", reason="r", days=1, archive="a")
                    passenger = Passenger(name="Ada", email="other")
                    late = asyncio.create_task(here.system.submit(trip, passenger, key="ticket-881"))
                    await asyncio.sleep(0.2)
                    assert not late.done()
                with pytest.raises(Conflict, match="being collected"):
                    await late
            assert await here.system.submit(trip, passenger, key="ticket-881") == job
            assert here.count("jobs") == 0

    run(body)


def test_the_child_of_a_running_parent_stays(database: Database, tmp_path: Path) -> None:
    """The parent may still ask what came of it."""

    async def body() -> None:
        async with house(database, tmp_path) as here:
            (job,) = await here.travelled()
            parent = await here.system.submit(waiting, 1)
            with here.admin() as connection:
                connection.execute("UPDATE aetheris.jobs SET parent_job_id = %s WHERE job_id = %s", [parent, job])
            await here.kept()
            here.aged()
            done = await here.collect()
            assert (done.jobs, done.kept["parent runs"], done.kept["running"]) == (0, 1, 1)

    run(body)


def test_nobody_but_the_keeper_can_take_rows_away(database: Database, tmp_path: Path) -> None:
    """A worker runs strangers' tools: it must not be able to unmake a record."""

    async def body() -> None:
        async with house(database, tmp_path) as here:
            await here.travelled()
            for role in ("app", "worker", "mirror"):
                async with await database.connect(role) as connection:  # type: ignore[arg-type]
                    # Snapshots are derived, and a worker takes newer ones in their place.
                    for table in set(retention.REMOVED) - ({"job_snapshots"} if role == "worker" else set()):
                        with pytest.raises(Exception, match="permission denied"):
                            await connection.execute(f"DELETE FROM aetheris.{table}".encode())

    run(body)
