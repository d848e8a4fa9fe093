"""Rate limits in the store: slots reserved by the database's clock, permits in use, waits on record.

The protocol and who may move what stand in migrations 4, 7 and 9.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aetheris.domain.limits import AHEAD_NS, Limit
from aetheris.store import arrays
from aetheris.store.database import Connection
from aetheris.store.errors import translated
from aetheris.store.statements import statement


@dataclass(frozen=True, slots=True)
class Key:
    """One budget. `tenant` is "" for the whole deployment's."""

    tenant: str
    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Grant:
    """`granted` slots from `base_ns` on; `sharing` workers have waiters."""

    granted: int
    base_ns: int
    now_ns: int
    sharing: int


@dataclass(frozen=True, slots=True)
class TokenGrant:
    """One slot at `slot_ns`, if `granted`; `next_ns` is where the next lies as things stand."""

    granted: bool
    slot_ns: int
    next_ns: int
    now_ns: int
    sharing: int


@dataclass(frozen=True, slots=True)
class Wait:
    """One wait for a slot, as it stands in `limit_waits`. Times are microseconds UTC."""

    tenant: str
    job: str
    step: int
    attempt: int
    kind: str
    name: str
    asked_us: int
    slot_us: int
    started_us: int | None
    outcome: str


async def reserve(
    connection: Connection,
    key: Key,
    limit: Limit,
    *,
    wanted: int,
    waiting: int,
    ahead: int,
    worker: str,
    first_number: int,
    permit_seconds: float,
) -> Grant:
    """Reserve up to `wanted` slots (and permits, numbered from `first_number`) for this worker.

    `waiting` is how many of its calls have no slot yet, `ahead` how many have one
    that has not come: workers share by these.
    """
    with translated():
        cursor = await connection.execute(
            statement("reserve_slots"),
            {
                "tenant": key.tenant,
                "kind": key.kind,
                "name": key.name,
                "interval": limit.interval_ns,
                "burst": limit.burst,
                "horizon": limit.horizon_ns,
                "max_concurrent": limit.max_concurrent,
                "wanted": wanted,
                "waiting": waiting,
                "ahead": ahead,
                "worker": worker,
                "first_number": first_number,
                "permit_seconds": permit_seconds,
            },
        )
        row = await cursor.fetchone()
    assert row is not None
    return Grant(row["granted"], row["base_ns"], row["now_ns"], row["sharing"])


async def reserve_tokens(
    connection: Connection,
    key: Key,
    limit: Limit,
    *,
    tokens: int,
    waiting: int,
    ahead: int,
    worker: str,
    number: int,
    permit_seconds: float,
) -> TokenGrant:
    """Reserve one slot for a call that is thought to use `tokens`, and a permit of this number where they are limited.

    `waiting` and `ahead` count as in `reserve`.
    """
    with translated():
        cursor = await connection.execute(
            statement("reserve_tokens"),
            {
                "tenant": key.tenant,
                "kind": key.kind,
                "name": key.name,
                "interval": limit.interval_ns,
                "token_ns": limit.token_ns,
                "tokens": tokens,
                "ahead_ns": AHEAD_NS,
                "max_concurrent": limit.max_concurrent,
                "waiting": waiting,
                "ahead": ahead,
                "worker": worker,
                "number": number,
                "permit_seconds": permit_seconds,
            },
        )
        row = await cursor.fetchone()
    assert row is not None
    return TokenGrant(row["granted"], row["slot_ns"], row["next_ns"], row["now_ns"], row["sharing"])


async def correct_tokens(connection: Connection, key: Key, tokens: int) -> None:
    """Take `tokens` more from the budget (fewer, when negative) than its calls had reserved."""
    with translated():
        await connection.execute(
            "UPDATE aetheris.rate_limits SET tokens_tat_ns = tokens_tat_ns + %s::bigint * token_ns"
            " WHERE tenant_id = %s AND kind = %s AND name = %s",
            [tokens, key.tenant, key.kind, key.name],
        )


async def hold(connection: Connection, key: Key, ns: int) -> None:
    """Let the next slot of a budget come no sooner than in `ns` nanoseconds, for every worker.

    Slots that were given out before stay given. The hold ends when it was
    said, whatever limits the workers have (migration 9).
    """
    with translated():
        await connection.execute(
            "UPDATE aetheris.rate_limits r SET held_until_ns = greatest(r.held_until_ns, h.until_ns),"
            " tat_ns = greatest(r.tat_ns, greatest(r.interval_ns, 0) * (r.burst - 1) + h.until_ns)"
            " FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1e6)::bigint * 1000 + %s AS until_ns) h"
            " WHERE r.tenant_id = %s AND r.kind = %s AND r.name = %s",
            [ns, key.tenant, key.kind, key.name],
        )


async def give_back(connection: Connection, key: Key, *, tail_ns: int, end_ns: int) -> None:
    """Take back the last `tail_ns` of what was reserved, only if nothing was reserved after `end_ns`."""
    with translated():
        await connection.execute(
            "UPDATE aetheris.rate_limits SET tat_ns = tat_ns - %s"
            " WHERE tenant_id = %s AND kind = %s AND name = %s AND tat_ns = %s",
            [tail_ns, key.tenant, key.kind, key.name, end_ns],
        )


async def renew_permits(connection: Connection, worker: str, numbers: Sequence[int], seconds: float) -> None:
    """Keep the permits in this worker's hands; one that has run out stays lost."""
    with translated():
        await connection.execute(
            "UPDATE aetheris.limit_permits SET until = clock_timestamp() + %s * interval '1 second'"
            " WHERE worker_id = %s AND number = ANY (%b::bigint[]) AND until > clock_timestamp()",
            [seconds, worker, arrays.int8(list(numbers))],
        )


async def release_permits(connection: Connection, worker: str, numbers: Sequence[int]) -> None:
    """Let others have these permits."""
    with translated():
        await connection.execute(
            "DELETE FROM aetheris.limit_permits WHERE worker_id = %s AND number = ANY (%b::bigint[])",
            [worker, arrays.int8(list(numbers))],
        )


async def write_waits(connection: Connection, waits: Sequence[Wait]) -> None:
    """Put waits on record."""
    with translated():
        await connection.execute(
            statement("limit_waits"),
            {
                "tenants": arrays.text([w.tenant for w in waits]),
                "jobs": arrays.text([w.job for w in waits]),
                "steps": arrays.int8([w.step for w in waits]),
                "attempts": arrays.int4([w.attempt for w in waits]),
                "kinds": arrays.text([w.kind for w in waits]),
                "names": arrays.text([w.name for w in waits]),
                "asked": arrays.int8([w.asked_us for w in waits]),
                "slots": arrays.int8([w.slot_us for w in waits]),
                "started": arrays.int8([w.started_us or 0 for w in waits]),
                "outcomes": arrays.text([w.outcome for w in waits]),
            },
        )
