"""A forensics session for a tenant: that tenant's rows, and no other file in reach."""

from __future__ import annotations

from pathlib import Path

import pytest

from aetheris.domain.errors import AetherisError, Refused
from aetheris.forensics.session import Session
from aetheris.forensics.source import open_source
from aetheris.lake import layout, open_lake
from aetheris.store.database import Database

from .mirror_support import World


@pytest.fixture
def folder(database: Database, tmp_path: Path) -> Path:
    """A lake of two tenants with as many jobs each."""
    world = World(database, tmp_path / "lake")
    for tenant in ("a", "b"):
        for n in range(3):
            world.write(f"{tenant}-job-{n}", tenant=tenant)
    world.mirror()
    world.close()
    return world.folder


def test_a_tenants_session_holds_its_own_rows_alone(folder: Path) -> None:
    """It once held none: the tenant's folders were looked for under another spelling."""
    with open_source(folder, tenant="a") as session, open_source(folder) as whole:
        for table in ("events", "cells", "ledger"):
            mine = session.sql(f"select tenant_id, count(*) as n from {table} group by all").rows
            both = whole.sql(f"select tenant_id, count(*) as n from {table} group by all order by all").rows
            assert [r["tenant_id"] for r in both] == ["a", "b"]
            assert mine == both[:1]
        assert {r["job_id"] for r in session.query("trace/jobs").rows} == {f"a-job-{n}" for n in range(3)}
        assert session.source_sha256 != whole.source_sha256


def test_no_file_of_another_tenant_can_be_read(folder: Path) -> None:
    """By its path, by a pattern, by the lake's index, by climbing out of one's own folder."""
    lake = open_lake(folder)
    foreign = next(str(folder / f.path) for f in lake.files if layout.tenant_of(f.path) == "b")
    own = next(str(folder / f.path) for f in lake.files if layout.tenant_of(f.path) == "a")
    with open_source(folder, tenant="a") as session:
        assert session.sql(f"select count(*) as n from read_parquet('{own}')").rows[0]["n"]
        for text in (
            f"select * from read_parquet('{foreign}')",
            f"select * from read_parquet('{folder}/events/data/*/*/*.parquet')",
            f"select * from read_parquet('{folder}/events/data/a/../b/*/*.parquet')",
            f"select * from read_text('{folder}/lake.json')",
            f"select * from glob('{folder}/events/data/b/*')",
            "select * from read_text('/etc/passwd')",
        ):
            with pytest.raises(AetherisError):
                session.sql(text)


@pytest.mark.parametrize("name", ["a' or true --", "../b", "", "A"])
def test_a_name_that_is_no_tenants_is_refused(folder: Path, name: str) -> None:
    """It would stand in a statement and in a path."""
    with pytest.raises(Refused):
        open_source(folder, tenant=name)


def test_a_row_in_anothers_folder_is_not_shown(folder: Path) -> None:
    """Whoever puts a file of b into a's folder shows a nothing: rows say whose they are."""
    import shutil

    lake = open_lake(folder)
    theirs = next(f.path for f in lake.files if f.path.startswith("events/") and layout.tenant_of(f.path) == "b")
    mine = next(f.path for f in lake.files if f.path.startswith("events/") and layout.tenant_of(f.path) == "a")
    shutil.copy(folder / theirs, folder / mine)
    with Session.over_lake(lake, tenant="a") as session:
        assert session.sql("select * from events").rows == []
