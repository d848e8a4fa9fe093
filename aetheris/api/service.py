"""What the API's routes stand on: one store, all tenants, each request bound to one.

The service holds a pool in the app's role (which sees only the tenant that its
transaction names), the audit log, the keys of job ids, and the agents that it
can submit. Nothing here knows a tenant by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from psycopg_pool import AsyncConnectionPool

from aetheris.api.access import Caller
from aetheris.api.auth import Authenticator
from aetheris.api.lakes import Lakes
from aetheris.api.rates import Rates
from aetheris.domain import ids
from aetheris.domain.errors import Refused
from aetheris.evidence.dsse import Signer
from aetheris.runtime.agents import Agent
from aetheris.runtime.archived import archived
from aetheris.runtime.audit import AuditLog
from aetheris.runtime.clock import Clock
from aetheris.runtime.config import Config
from aetheris.runtime.operator import Operator
from aetheris.runtime.record import JobRecord, load_record
from aetheris.runtime.sealing import signer_here
from aetheris.runtime.submit import Submitter
from aetheris.runtime.tools import Tool
from aetheris.store import jobs, support, tenants, tombstones, workers
from aetheris.store.database import Connection, Database, as_tenant
from aetheris.store.jobs import JobRow
from aetheris.store.support import Grant
from aetheris.store.tombstones import Tombstone

#: How long a tenant's status is taken for granted: a removed tenant's tokens count so much longer at most.
STATUS_SECONDS = 2.0
#: Keys of job ids are read again after this, and when an id names one that is not known.
KEYS_SECONDS = 30.0
KEYS_REST_SECONDS = 1.0


@dataclass
class Service:
    """One API's hold of a store. Make it by `opened`."""

    database: Database
    config: Config
    pool: AsyncConnectionPool[Connection]
    auth: Authenticator
    audit: AuditLog
    rates: Rates
    strangers: Rates
    lakes: Lakes
    clock: Clock
    agents: Mapping[str, Agent] = field(default_factory=dict)
    tools: Mapping[str, Tool[Any, Any]] = field(default_factory=dict)
    #: Who signs the audit chains that are exported here.
    signer: Signer | None = None
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    streams: dict[str, int] = field(default_factory=dict)
    _keys: dict[int, bytes] = field(default_factory=dict)
    _keys_at: float = float("-inf")
    _statuses: dict[str, tuple[str, float]] = field(default_factory=dict)

    @contextlib.asynccontextmanager
    async def bound(self, caller: Caller) -> AsyncIterator[Connection]:
        """Yield a connection in a transaction that sees the caller's tenant alone."""
        async with as_tenant(self.pool, caller.tenant) as connection:
            yield connection

    async def owner(self, caller: Caller, job: str) -> str:
        """Return whose id this is: "mine", "another" or "nobody"; never whether the job exists."""
        keys = await self.keys()
        number = ids.key_of(job)
        if number is not None and number not in keys and time.monotonic() - self._keys_at > KEYS_REST_SECONDS:
            # The id may be of a key that was made a moment ago.
            keys = await self.keys(anew=True)
        return ids.owner(job, caller.tenant, keys)

    async def keys(self, *, anew: bool = False) -> Mapping[int, bytes]:
        """Return the keys that mint and check job ids; those of old stay for ever."""
        age = time.monotonic() - self._keys_at
        if not self._keys or age > KEYS_SECONDS or anew:
            async with self.pool.connection() as connection:
                self._keys = await jobs.job_id_keys(connection)
            self._keys_at = time.monotonic()
        return self._keys

    async def status(self, tenant: str) -> str:
        """Return the tenant's status; one that a trusted token names for the first time is founded."""
        known = self._statuses.get(tenant)
        if known is not None and time.monotonic() - known[1] < STATUS_SECONDS:
            return known[0]
        async with as_tenant(self.pool, tenant) as connection:
            if (found := await tenants.tenant(connection, tenant)) is None:
                await jobs.ensure_tenant(connection, tenant)
        status = "active" if found is None else found.status
        self._statuses[tenant] = (status, time.monotonic())
        return status

    async def support_grant(self, guest: Caller, tenant: str) -> Grant | None:
        """Return the grant by which this guest may look into `tenant` now."""
        async with as_tenant(self.pool, tenant) as connection:
            return await support.in_force(connection, tenant, guest.tenant, guest.user)

    async def operator(self, caller: Caller) -> Operator:
        """Return the caller's hands on their tenant's jobs."""
        return Operator(self.pool, await self.submitter(caller))

    async def submitter(self, caller: Caller) -> Submitter:
        """Return who submits for the caller's tenant, as the caller."""
        return Submitter(caller.tenant, await self.keys(), self.clock, caller.by, self.config.sha256)

    async def row(self, caller: Caller, job: str) -> JobRow:
        """Return the row of a job of one's own. Errors: Absent."""
        async with self.bound(caller) as connection:
            return await self._row(connection, caller, job)

    async def record(self, caller: Caller, job: str) -> JobRecord:
        """Return everything recorded of a job of one's own, from the lake once it was collected.

        Errors: Absent, also for a collected one where there is no lake; Corrupt.
        """
        try:
            async with self.bound(caller) as connection:
                return await load_record(connection, await self._row(connection, caller, job))
        except Absent as absent:
            if absent.tombstone is None or (lake := self.lakes.folder) is None:
                raise
            return await asyncio.to_thread(archived, lake, absent.tombstone)

    async def _row(self, connection: Connection, caller: Caller, job: str) -> JobRow:
        row = await jobs.get(connection, caller.tenant, job)
        if row is None:
            raise Absent(await tombstones.get(connection, caller.tenant, job))
        return row


class Absent(Exception):
    """One's own job, and not in the store: collected (then its tombstone is here), or never there."""

    def __init__(self, tombstone: Tombstone | None) -> None:
        super().__init__()
        self.tombstone = tombstone


@contextlib.asynccontextmanager
async def opened(
    database: Database,
    config: Config,
    auth: Authenticator,
    *,
    agents: Sequence[Agent] = (),
    tools: Sequence[Tool[Any, Any]] = (),
    lake: Path | None = None,
    pool_size: int = 16,
) -> AsyncIterator[Service]:
    """Yield the service over a migrated store, its walls checked first; settle the audit log on leaving.

    Errors: Refused when a wall is down or keys can't be used; Unreachable, Unusable.
    """
    signer = signer_here(config.security.evidence_signing)
    async with await database.connect("app") as connection:
        offset = await workers.clock_offset_us(connection)
    if auth.keys is not None:
        await auth.keys.load()
    async with database.pool("app", pool_size) as pool:
        rps = config.api.middleware.rate_limit_rps if config.api.middleware.rate_limit else 1e9
        service = Service(
            database,
            config,
            pool,
            auth,
            AuditLog(pool),
            Rates(rps, 2 * rps),
            Rates(5, 20),
            Lakes(lake),
            Clock(offset),
            _by_name(agents),
            {tool.name: tool for tool in tools},
            signer,
        )
        await service.keys()
        try:
            yield service
        finally:
            service.closing.set()
            await service.audit.close()
            service.lakes.close()


def _by_name(agents: Sequence[Agent]) -> dict[str, Agent]:
    found: dict[str, Agent] = {}
    for agent in agents:
        if found.setdefault(agent.name, agent) is not agent:
            raise Refused(f"two agents of the name {agent.name}: give one of them name=...")
    return found
