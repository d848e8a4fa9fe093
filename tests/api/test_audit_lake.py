"""The audit log in the lake: mirrored gap-free, its chain checked there, one tenant's for one tenant."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from aetheris.forensics.session import Session
from aetheris.forensics.source import open_source
from aetheris.lake import Lake
from aetheris.runtime.mirror import mirror_once
from aetheris.store.database import Database
from aetheris.store.mirror_rows import MirrorSource
from tests.store.job_support import run

from .support import bearer, serving


def test_the_mirrored_audit_chain_is_checked_where_it_lies(database: Database, tmp_path: Path) -> None:
    """What the API answered stands in the lake, sound; an edited, a missing and a moved entry are named."""

    async def body() -> None:
        async with serving(database) as (_, client):
            for tenant in ("a", "b"):
                for _ in range(3):
                    await client.get("/api/jobs", headers=bearer(tenant))
            await client.get("/api/jobs/none", headers=bearer("a"))
        source = MirrorSource(database)
        lake = Lake(tmp_path / "lake", source.catalog_uri)
        await mirror_once(source, lake)
        lake.close()

    run(body)
    with open_source(tmp_path / "lake") as session:
        assert session.query("tenancy/audit_breaks").rows == []
        assert len(session.query("tenancy/audit", tenant_id="a").rows) == 4
        whole = session.sql("select * from audit").table
    with open_source(tmp_path / "lake", tenant="a") as session:
        rows = session.query("tenancy/audit").rows
        assert [(r["tenant_id"], r["action"], r["success"]) for r in rows[-2:]] == [
            ("a", "list_jobs", True), ("a", "view_job", False),
        ]  # fmt: skip
    entries = sorted(whole.to_pylist(), key=lambda r: (r["tenant_id"], r["seq"]))

    def broken(changed: list[dict[str, object]]) -> set[tuple[object, object]]:
        table = pa.Table.from_pylist(changed, whole.schema)
        with Session.over_tables({"audit": table}, "", "test") as session:
            return {(r["tenant_id"], r["seq"]) for r in session.query("tenancy/audit_breaks").rows}

    edited = [{**r, "line": r["line"].replace("alice", "mallo")} if r["seq"] == 3 else r for r in entries]
    assert broken(edited) == {("a", 3), ("b", 3)}
    assert broken([r for r in entries if (r["tenant_id"], r["seq"]) != ("a", 2)]) == {("a", 3)}
    assert broken([{**r, "tenant_id": "c"} if r["tenant_id"] == "b" else r for r in entries]) == {("c", 1)}
