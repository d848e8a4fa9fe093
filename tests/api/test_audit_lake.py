"""The audit log in the lake: mirrored gap-free, its chain checked there, one tenant's for one tenant."""

from __future__ import annotations

import base64
from pathlib import Path

import pyarrow as pa
import pytest

from aetheris.cli.audit import sent_signature
from aetheris.domain.errors import Refused, Unusable
from aetheris.evidence import audit_file, audit_statement
from aetheris.evidence.dsse import new_signer
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


def test_an_export_is_signed_where_the_api_has_a_key(database: Database, tmp_path: Path) -> None:
    """The envelope comes with the lines, counts them, and verifies beside them; a spoilt one is not written."""
    signer, secret = new_signer("acme-2026")
    keys = {"security": {"evidence_signing": {"enabled": True, "key_id": "acme-2026", "private_key_base64": secret}}}

    async def body() -> None:
        async with serving(database, config=keys) as (_, client):
            # Without an entry there is no file that names a tenant. That it was asked for is the first one.
            early = await client.post("/api/audit/export", headers=bearer("c", "auditor"))
            assert (early.status_code, "nothing to export" in early.json()["detail"]) == (400, True)
            again = await client.post("/api/audit/export", headers=bearer("c", "auditor"))
            assert (again.status_code, again.content.count(b"\n")) == (200, 2)
            await client.get("/api/jobs", headers=bearer("a"))
            answer = await client.post("/api/audit/export", headers=bearer("a", "auditor"))
            document = (await client.get("/api/openapi.json")).json()
        headers = document["paths"]["/api/audit/export"]["post"]["responses"]["200"]["headers"]
        assert headers.keys() == {"X-Head", "X-Signature"} <= {name.title() for name in answer.headers}
        sent = answer.headers["X-Signature"]
        signature = sent_signature(sent, "http://localhost")
        assert signature is not None
        said = audit_statement.of_envelope(signature)
        assert (said.entries, said.head, said.tenant) == (2, answer.headers["X-Head"], "a")
        audit_file.deliver(answer.content, signature, tmp_path / "audit.jsonl")
        given = base64.b64encode(signer.public.raw)
        verdict = audit_file.verify(tmp_path / "audit.jsonl", trust=given, head=said.head)
        assert (verdict.exit_code, verdict.tenant) == (0, "a"), str(verdict)
        for spoilt in ("", "x", sent[:-4], base64.b64encode(b"{}").decode()):
            with pytest.raises(Unusable, match="http://localhost sent a signature that can't be read"):
                sent_signature(spoilt, "http://localhost")
        # Enabled, and the key is elsewhere: the API serves, and nobody signs. A key that is none: it doesn't start.
        del keys["security"]["evidence_signing"]["private_key_base64"]
        async with serving(database, config=keys) as (_, client):
            answer = await client.post("/api/audit/export", headers=bearer("a", "auditor"))
            assert (answer.status_code, "X-Signature" in answer.headers) == (200, False)
        keys["security"]["evidence_signing"]["private_key_base64"] = "c2VjcmV0"
        with pytest.raises(Refused, match="not an Ed25519 key"):
            async with serving(database, config=keys):
                pass

    run(body)
