"""The OpenAPI document against the API itself: schemathesis asks what it allows, and what it doesn't."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from aetheris.lake import Lake
from aetheris.runtime.mirror import mirror_once
from aetheris.store.database import Database
from aetheris.store.mirror_rows import MirrorSource

from .support import bearer, listening, serving

EXAMPLES = 6
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


class Running:
    """The API on a real socket, in a thread of its own."""

    def __init__(self, database: Database, lake: Path) -> None:
        self._database, self._lake = database, lake
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> Running:
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        source = MirrorSource(self._database)
        async with serving(self._database, lake=self._lake) as (service, client):
            made = await client.post("/api/jobs", json={"agent": "desk", "input": "x"}, headers=bearer("a"))
            self.job = made.json()["job_id"]
            lake = Lake(self._lake, source.catalog_uri)
            await mirror_once(source, lake)
            lake.close()
            async with listening(service) as self.url:
                self._ready.set()
                await self._stop.wait()


def test_every_answer_is_one_that_the_document_promises(database: Database, tmp_path: Path) -> None:
    """Status, content type and schema of every operation, on valid and invalid input; never a 5xx."""
    with Running(database, tmp_path / "lake") as api:
        schema = schemathesis.openapi.from_url(f"{api.url}/api/openapi.json")
        asked = 0
        for result in schema.get_all_operations():
            operation = result.ok()
            if operation.path.endswith("/stream"):
                continue  # it does not end by itself; test_attacks follows it

            @settings(
                max_examples=EXAMPLES,
                deadline=None,
                derandomize=True,
                database=None,
                phases=[Phase.explicit, Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @pytest.mark.filterwarnings("ignore")
            def ask(case: Any) -> None:
                nonlocal asked
                asked += 1
                if "job_id" in (case.path_parameters or {}) and asked % 2:
                    case.path_parameters["job_id"] = api.job
                case.call_and_validate(headers=bearer("a"), checks=CHECKS, timeout=20)

            from hypothesis import given

            given(case=operation.as_strategy())(ask)()
        assert asked > 60
