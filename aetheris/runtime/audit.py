"""The audit log: whoever looked, acted or was refused is on the tenant's chain before they get an answer.

`AuditLog.record` gives an entry a transaction of its own and returns once it
is durable, so a denial is on record also when the request fails, and a read's
answer waits for it. While one commit of a tenant is in flight, what comes next
gathers behind it: one writer at a time a tenant, and many entries a commit.

Inside a transaction of somebody's own (an erasure, a hold, a collection, a
seal) use `store.audit.append(connection, tenant, [entry(...)])` as its last
statement: the entry stands if and only if the deed does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from psycopg_pool import AsyncConnectionPool

from aetheris.domain.audit import Entry, Line
from aetheris.domain.errors import AetherisError
from aetheris.store import audit
from aetheris.store.database import Connection, as_tenant
from aetheris.store.errors import Unreachable

ENTRIES_PER_COMMIT = 500
#: After a connection lost in COMMIT: how often to ask whether the entries are there, and how far apart.
TRIES = 5
RETRY_SECONDS = 0.2

_log = logging.getLogger(__name__)
_Pending = list[tuple[Entry, asyncio.Future[int]]]


def entry(
    action: str,
    *,
    by: str,
    success: bool = True,
    resource_type: str = "job",
    resource_id: str = "",
    data: Mapping[str, Any] | None = None,
) -> Entry:
    """Return an entry for `store.audit.append`. `data` is canonical JSON: texts, integers, no floats.

    What may be sensitive has no place in it: an entry is never erased. Errors: Refused.
    """
    return Entry(action, by, success, resource_type, resource_id, data or {})


class AuditLog:
    """Appends to every tenant's chain, each through a transaction bound to that tenant."""

    def __init__(self, pool: AsyncConnectionPool[Connection]) -> None:
        self._pool = pool
        self._pending: dict[str, _Pending] = {}
        self._writing: dict[str, asyncio.Task[None]] = {}
        self.commits = 0

    async def record(
        self,
        tenant: str,
        *,
        action: str,
        by: str,
        success: bool,
        resource_type: str = "job",
        resource_id: str = "",
        data: Mapping[str, Any] | None = None,
    ) -> int:
        """Make the entry durable and return its number on the tenant's chain.

        Errors: Refused (a bad entry, no such tenant), Unreachable: then
        nobody may be given what the entry is about.
        """
        made = entry(action, by=by, success=success, resource_type=resource_type, resource_id=resource_id, data=data)
        written = asyncio.get_running_loop().create_future()
        self._pending.setdefault(tenant, []).append((made, written))
        if tenant not in self._writing:
            self._writing[tenant] = asyncio.create_task(self._write(tenant), name=f"audit {tenant}")
        # Whoever gives up waiting doesn't take the entry back: it is about something that was tried.
        return int(await asyncio.shield(written))

    async def close(self) -> None:
        """Return once everything recorded so far is settled."""
        await asyncio.gather(*self._writing.values(), return_exceptions=True)

    async def _write(self, tenant: str) -> None:
        try:
            while pending := self._pending.pop(tenant, None):
                for at in range(0, len(pending), ENTRIES_PER_COMMIT):
                    await self._commit(tenant, pending[at : at + ENTRIES_PER_COMMIT])
        finally:
            del self._writing[tenant]

    async def _commit(self, tenant: str, pending: _Pending) -> None:
        try:
            made = await self._append(tenant, [e for e, _ in pending])
        except AetherisError as error:
            for _, written in pending:
                if not written.cancelled():
                    written.set_exception(error)
                    written.exception()  # its waiter may be gone: then nobody asks, and that is no news
            return
        except BaseException:
            for _, written in pending:
                written.cancel()
            raise
        self.commits += 1
        for (_, written), line in zip(pending, made, strict=True):
            if not written.cancelled():
                written.set_result(line.seq)

    async def _append(self, tenant: str, entries: list[Entry]) -> list[Line]:
        made: list[Line] = []
        for attempt in range(TRIES):
            try:
                async with as_tenant(self._pool, tenant) as connection:
                    if made and await audit.holds(connection, tenant, made[-1]):
                        return made
                    made = await audit.append(connection, tenant, entries)
            except Unreachable as error:
                if attempt == TRIES - 1:
                    raise
                _log.warning("audit of %s: %s", tenant, error)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return made
        return made
