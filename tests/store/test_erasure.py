"""Erasure takes salt and body away everywhere, says so on the audit chain, and leaves every chain sound."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import aetheris as ae
from aetheris.domain import events
from aetheris.domain.errors import Conflict, Corrupt, Erased, Refused
from aetheris.evidence import verify
from aetheris.forensics.checks import run_checks
from aetheris.forensics.source import open_source
from aetheris.lake import open_lake
from aetheris.runtime import archive
from aetheris.runtime.archive import compact, erase_in_lake
from aetheris.runtime.config import Snapshots
from aetheris.runtime.erasure import cell_key, erase, hold
from aetheris.runtime.replay import replay
from aetheris.runtime.snapshots import take_asked
from aetheris.store.database import Database
from tests.store.job_support import FAST, at_rest, crash, ended, run
from tests.store.retention_support import House, Passenger, everything_in, house, package, slow_trip, trip, waiting


async def secrets_of(here: House, job: str) -> list[bytes]:
    """Return salt and body of each cell that tells the passenger's address."""
    record = await here.system.record(job)
    told = [c for c in record.stored.cells.values() if c.body is not None and b"MARK-0-Ada" in c.body]
    assert told
    return [part for cell in told for part in (cell.salt, cell.body) if part is not None]


async def addresses(here: House, job: str) -> list[tuple[int, str]]:
    """Return the cells that tell the passenger's address."""
    record = await here.system.record(job)
    return [key for key, c in record.stored.cells.items() if c.body is not None and b"MARK-0-Ada" in c.body]


def found_in(folder: Path, secrets: list[bytes]) -> list[str]:
    """Return the files under the folder that hold any of them."""
    return sorted({str(p.relative_to(folder)) for p, data in everything_in(folder) if any(s in data for s in secrets)})


def stored(here: House, secrets: list[bytes]) -> list[str]:
    """Return the store's tables that hold any of them."""
    held = []
    with here.admin() as connection:
        tables = connection.execute(
            "SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = 'aetheris' AND relkind = 'r'"
        ).fetchall()
        for (table,) in tables:
            rows = connection.execute(f"SELECT t::text FROM aetheris.{table} t").fetchall()
            flat = "\0".join(text for (text,) in rows)
            sought = [s.hex() if len(s) == 32 else s.decode().replace('"', '""') for s in secrets]
            held += [table] if any(s in flat for s in sought) else []
    return held


@pytest.mark.parametrize("collected", [False, True])
def test_an_erased_cell_is_nowhere_and_the_chain_still_holds(
    database: Database, tmp_path: Path, collected: bool
) -> None:
    """Every byte under the lake's folder and every row of the store, before and after the job left it."""

    async def body() -> None:
        async with house(database, tmp_path) as here:
            (other,) = await here.travelled(name="Grace")
            job = await here.system.submit(slow_trip, Passenger(name="Ada", email="MARK-0-Ada@secret.example"))
            await at_rest(here.system, job, "signal go")
            async with await database.connect("worker") as connection:
                assert await take_asked(connection, ("default", job), Snapshots(), 30.0) is not None
            await here.mirror()
            await here.system.operator.signal(job, "go", None)
            await here.system.wait([job], seconds=30)
            await here.kept()
            if collected:
                here.aged(jobs=[job])
                assert (await here.collect()).jobs == 1
                await here.mirror()
            secrets, cells = await secrets_of(here, job), await addresses(here, job)
            assert found_in(here.folder, secrets) != []
            assert stored(here, secrets) == ([] if collected else ["cells"])
            assert here.count("job_snapshots", job) == (0 if collected else 1)
            done = await erase(database, here.folder, "default", job, cells, by="ann", reason="asked on 2026-11-26")
            assert set(done.cells) == set(cells)
            assert stored(here, secrets) == []
            assert here.count("job_snapshots", job) == 0
            in_lake = await erase_in_lake(database, here.source, here.lake)
            assert (in_lake.jobs, in_lake.cells) == (1, len(cells))
            assert found_in(here.folder, secrets) == []
            assert job not in open_lake(here.folder).tables["snapshots"].read()["job_id"].to_pylist()
            assert ("erase_cells", True) in here.audited()

            record = await here.system.record(job)
            assert [events.read(line).seq for line in record.stored.lines] == list(range(1, len(record.events) + 1))
            verdict = verify(package(record))
            assert not verdict.failed
            assert f"{len(cells)} erased on record" in verdict["disclosure"].summary
            with open_source(here.folder) as session:
                assert [(r.name, r.violations) for r in run_checks(session) if r.violations] == []
            # The other passenger's cells are as they were.
            assert all(c.body is not None for c in (await here.system.record(other)).stored.cells.values())
            assert (await erase_in_lake(database, here.source, here.lake)).jobs == 0

    run(body)


def test_an_erasure_before_the_first_round_needs_no_second(database: Database, tmp_path: Path) -> None:
    """What was never mirrored with its body is mirrored without it."""

    async def body() -> None:
        async with house(database, tmp_path) as here:
            (job,) = await here.travelled()
            secrets = await secrets_of(here, job)
            await erase(database, here.folder, "default", job, None, by="ann", reason="all of it")
            await erase_in_lake(database, here.source, here.lake)
            assert found_in(here.folder, secrets) == []
            assert stored(here, secrets) == []
            await here.seal()
            assert not verify(package(await here.system.record(job))).failed

    run(body)


def test_old_files_that_nothing_names_are_erased_too(database: Database, tmp_path: Path) -> None:
    """Compaction leaves the files of before for its readers, and a dead mirror leaves what it never committed."""

    async def body() -> None:
        async with house(database, tmp_path) as here:
            (job,) = await here.travelled()
            await here.kept()
            await here.travelled(1, name="Grace")
            await here.mirror()
            secrets, cells = await secrets_of(here, job), await addresses(here, job)
            named = here.folder / found_in(here.folder, secrets)[0]
            (named.parent / f"0123456789abcdef-{named.name.split('-')[1]}").write_bytes(named.read_bytes())
            await compact(here.source, here.lake, now=4e9)
            assert len(found_in(here.folder, secrets)) == 3
            await erase(database, here.folder, "default", job, cells, by="ann", reason="asked")
            await erase_in_lake(database, here.source, here.lake)
            assert found_in(here.folder, secrets) == []

    run(body)


def test_a_cell_erased_while_the_lake_is_looked_through_stays_on_the_list(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was noted as gone with the job's others, and its body lay in the lake for ever."""

    async def body() -> None:
        async with house(database, tmp_path) as here:
            (job,) = await here.travelled()
            await here.kept()
            secrets, cells = await secrets_of(here, job), await addresses(here, job)
            await erase(database, here.folder, "default", job, cells[:1], by="ann", reason="asked")
            real = archive._delete

            def meanwhile(*given: Any) -> int:
                deleted = real(*given)
                asyncio.run(erase(database, here.folder, "default", job, cells[1:], by="ann", reason="asked again"))
                return deleted

            monkeypatch.setattr(archive, "_delete", meanwhile)
            await erase_in_lake(database, here.source, here.lake)
            monkeypatch.undo()
            assert found_in(here.folder, secrets)
            await erase_in_lake(database, here.source, here.lake)
            assert found_in(here.folder, secrets) == []

    run(body)


def test_the_lake_out_of_reach_leaves_the_erasure_on_the_list(database: Database, tmp_path: Path) -> None:
    """A damaged file can't be searched: the store is erased at once, the rest is said and done later."""

    async def body() -> None:
        async with house(database, tmp_path) as here:
            (job,) = await here.travelled()
            async with ae.AsyncSystem(database=database, tenant="acme") as theirs:
                await theirs.wait([await theirs.submit(trip, Passenger(name="Eve", email="e@example.org"))], seconds=30)
            await here.kept()
            secrets, cells = await secrets_of(here, job), await addresses(here, job)
            other = next((here.folder / "cells" / "data" / "acme").rglob("*.parquet"))  # is nobody's hindrance here
            whole = other.read_bytes()
            other.write_bytes(whole[:-4] + b"gone")
            orphan = next((here.folder / "cells" / "data" / "default").rglob("*.parquet")).parent / "stray"
            orphan.write_bytes(b"not parquet")
            await erase(database, here.folder, "default", job, cells, by="ann", reason="asked")
            with pytest.raises(Corrupt, match="what it holds can't be told"):
                await erase_in_lake(database, here.source, here.lake)
            assert stored(here, secrets) == []
            orphan.unlink()
            assert (await erase_in_lake(database, here.source, here.lake)).jobs == 1
            other.write_bytes(whole)  # to be searched
            assert found_in(here.folder, secrets) == []

    run(body)


def test_what_may_not_be_erased_is_refused_with_a_reason(database: Database, tmp_path: Path) -> None:
    """Held, still running, not there, nobody said why: nothing is written."""

    async def body() -> None:
        async with house(database, tmp_path) as here:
            (job,) = await here.travelled()
            running = await here.system.submit(waiting, 1)
            lake = here.folder

            async def refused(kind: type[Exception], match: str, which: str, cells: list[str] | None, why: str) -> None:
                keys = None if cells is None else [cell_key(c) for c in cells]
                with pytest.raises(kind, match=match):
                    await erase(database, lake, "default", which, keys, by="ann", reason=why)

            await refused(Refused, "say why", job, None, " ")
            await refused(Refused, "no cell 'arg'.*it has", job, ["1/arg"], "x")
            with pytest.raises(Refused, match="names no cell"):
                cell_key("args")
            await refused(Refused, "no job", job[:-1] + "0", None, "x")
            await refused(Conflict, "when it has ended", running, None, "x")
            await hold(database, "default", job, by="ann", reason="case 7")
            await refused(Refused, "legal hold .case 7.", job, None, "x")
            assert here.count("erasures") == 0

    run(body)


def test_a_dry_run_names_cells_and_a_second_erasure_takes_nothing(database: Database, tmp_path: Path) -> None:
    """A whole value goes with its parts, once."""

    async def body() -> None:
        async with house(database, tmp_path) as here:
            (job,) = await here.travelled()
            cells = await addresses(here, job)
            parent = [(seq, name.split("/")[0]) for seq, name in cells]

            async def asked(dry_run: bool = False) -> tuple[int, int]:
                done = await erase(
                    database, here.folder, "default", job, parent, by="a", reason="r", dry_run=dry_run
                )  # fmt: skip
                return len(done.cells), len(done.before)

            said = await asked(dry_run=True)
            assert said[0] > len(cells)
            assert here.count("erasures") == 0
            assert await asked() == said
            assert await asked() == (0, said[0])

    run(body)


@pytest.mark.parametrize("name", ["input", "result", "args/who/email"])
def test_a_replay_of_an_erased_value_says_so(database: Database, tmp_path: Path, name: str) -> None:
    """It must not say that the code differs: nobody can know."""

    async def body() -> None:
        async with house(database, tmp_path) as here:
            (job,) = await here.travelled()
            record = await here.system.record(job)
            key = next(k for k in record.stored.cells if k[1] == name)
            await erase(database, here.folder, "default", job, [key], by="ann", reason="asked")
            again = await here.system.record(job)
            if name.startswith("args"):  # the code makes its arguments itself
                assert (await replay(trip, again)).same
                return
            with pytest.raises(Erased, match=f"its {name} was erased"):
                await replay(trip, again)

    run(body)


@ae.agent
async def sends(ctx: ae.Context) -> str | None:
    """A child, and what it says."""
    try:
        said: str | None = await ctx.child(trip, Passenger(name="Ada", email="a@example.org"))
    except ae.ChildFailed as failed:
        return f"{failed.status}: {failed.message}"
    return said


def test_a_result_erased_before_the_parent_took_it_is_no_empty_result(database: Database, tmp_path: Path) -> None:
    """The parent's worker was away when its child ended: it read None there, as if that were the answer."""

    async def body() -> None:
        async with ae.AsyncSystem(database=database) as system:
            first = await system.start_worker([sends], ae.Settings(lease_seconds=1, poll_seconds=0.1))
            job = await system.submit(sends)
            while not (children := await system.listing(agent="trip")):
                await asyncio.sleep(0.02)
            await crash(system, first)
            await system.start_worker([trip], FAST)
            await ended(system, children[0].job)
            await erase(database, tmp_path, "default", children[0].job, None, by="ann", reason="asked")
            await system.start_worker([sends], FAST)
            assert (await ended(system, job)).result() == "completed: what it left was erased"

    run(body)
