"""A job that left the store is read from the lake: the same trace, events and evidence, and still nobody else's."""

from __future__ import annotations

from pathlib import Path

from aetheris.evidence import verify
from aetheris.store.database import Database
from tests.api.support import bearer, serving
from tests.store.job_support import run
from tests.store.retention_support import house, trip


def test_what_was_collected_is_answered_as_before(database: Database, tmp_path: Path) -> None:
    """Before and after the collection, byte for byte; a part of it erased says so."""

    async def body() -> None:
        async with house(database, tmp_path) as here, serving(database, lake=here.folder) as (service, client):
            (job,) = await here.travelled(key="k")
            await here.kept()
            me, other = bearer("default"), bearer("b")
            paths = [f"/api/jobs/{job}/{what}" for what in ("trace", "events", "events?after=2&limit=2")]
            before = [(await client.get(path, headers=me)).json() for path in paths]
            package = (await client.post(f"/api/jobs/{job}/export", headers=me)).content
            here.aged()
            assert (await here.collect()).jobs == 1
            assert [(await client.get(path, headers=me)).json() for path in paths] == before
            again = await client.post(f"/api/jobs/{job}/export", headers=me)
            assert again.content == package
            assert not verify(package).failed
            assert (await client.get(f"/api/jobs/{job}", headers=me)).json()["status"] == "collected"
            for path in paths:
                assert (await client.get(path, headers=other)).status_code == 403
            service.agents = {"trip": trip}
            for name, status in (("Ada", 200), ("Bob", 409)):  # its key still names it
                asked = {"agent": "trip", "input": {"name": name, "email": "MARK-0-Ada@secret.example"}}
                answer = await client.post("/api/jobs", json=asked, headers={**me, "Idempotency-Key": "k"})
                assert (answer.status_code, answer.json().get("job_id", job)) == (status, job)
            (here.folder / "lake.json").rename(here.folder / "away.json")
            assert (await client.get(paths[0], headers=me)).status_code == 410
            answer = await client.post("/api/jobs", json=asked, headers={**me, "Idempotency-Key": "k"})
            assert answer.status_code == 200  # nothing is left here to tell the inputs apart

    run(body)
