"""The keeper's work cut off at its commit: PostgreSQL may go at any moment, and that is no bug of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest

from aetheris.runtime.erasure import erase, hold, release
from aetheris.store import audit, retention
from aetheris.store.database import Database
from aetheris.store.errors import Unreachable
from tests.store.job_support import run
from tests.store.retention_support import House, house


async def _seal(here: House, job: str) -> None:
    await here.seal()


async def _collect(here: House, job: str) -> None:
    await here.kept()
    here.aged()
    await here.collect()


async def _hold(here: House, job: str) -> None:
    await hold(here.database, "default", job, by="test", reason="a case")


async def _release(here: House, job: str) -> None:
    await release(here.database, "default", job, by="test", reason="closed")


async def _erase(here: House, job: str) -> None:
    await erase(here.database, here.folder, "default", job, None, by="test", reason="asked for")


@pytest.mark.parametrize("act", [_seal, _collect, _hold, _release, _erase], ids=lambda act: act.__name__[1:])
def test_a_connection_lost_before_the_commit_is_said_to_be_lost(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: Any
) -> None:
    """Whoever follows tries again then; an error that nobody knows would end it (the soak: `a bug in Aetheris`)."""
    told = audit.append

    async def body() -> None:
        async with house(database, tmp_path) as here:
            (job,) = await here.travelled()
            if act is _release:
                await _hold(here, job)
            if act is _collect:
                await here.kept()

            async def cut(connection: Any, *given: Any) -> Any:
                done = await told(connection, *given)
                with psycopg.connect(database.admin_dsn, autocommit=True) as admin:
                    admin.execute("SELECT pg_terminate_backend(%s)", [connection.info.backend_pid])
                return done

            monkeypatch.setattr(audit, "append", cut)
            with pytest.raises(Unreachable):
                await act(here, job)

    run(body)


def test_a_connection_lost_in_a_vacuum_is_said_to_be_lost(database: Database) -> None:
    """It comes at the end of a collection and takes long, so an outage finds it."""

    async def body() -> None:
        async with await database.connect("keeper") as connection:
            with psycopg.connect(database.admin_dsn, autocommit=True) as admin:
                admin.execute("SELECT pg_terminate_backend(%s)", [connection.info.backend_pid])
            with pytest.raises(Unreachable):
                await retention.vacuum(connection)

    run(body)
