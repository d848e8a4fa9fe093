"""Twelve tenants under load; `make leaks` runs 20,000 requests of the same."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx

from aetheris.store.database import Database

from .leaks import Campaign, campaign


def test_no_tenant_sees_anything_of_another_under_load(database: Database, tmp_path: Path) -> None:
    """Also while requests are cancelled half way and others fail: connections carry nothing over."""
    told = asyncio.run(campaign(database, tmp_path / "lake", 1500))
    assert told.leaks == []
    assert told.requests >= 1500
    assert told.cancelled > 20
    assert {200, 400, 403, 422} <= set(told.statuses)


def test_the_search_finds_what_leaks() -> None:
    """A search that finds nothing anywhere would prove nothing."""
    told = Campaign(owners={"0" * 40: "tenant-01"})
    told.look("tenant-00", "x", httpx.Response(200, text=f'{{"job":"{"0" * 40}"}}'))
    told.look("tenant-00", "x", httpx.Response(200, content=b"PK word-of-tenant-05"))
    told.look("tenant-01", "x", httpx.Response(200, text="0" * 40 + " word-of-tenant-01"))
    assert len(told.leaks) == 2
