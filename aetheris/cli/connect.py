"""Commands run their async work through here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import click

from aetheris.runtime.system import AsyncSystem

T = TypeVar("T")


def with_system(work: Callable[[AsyncSystem], Awaitable[T]]) -> T:
    """Open the tenant's system, run `work` with it, close it in order, and return what `work` returned."""
    tenant = click.get_current_context().find_root().obj["tenant"]

    async def opened() -> T:
        async with AsyncSystem(tenant=tenant) as system:
            return await work(system)

    return asyncio.run(opened())
