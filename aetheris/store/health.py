"""What `doctor` asks the database."""

from __future__ import annotations

from aetheris.store.database import Connection
from aetheris.store.errors import translated


async def versions(connection: Connection) -> tuple[str, str]:
    """Return the server's version and the schema's newest migration."""
    with translated():
        cursor = await connection.execute(
            "SELECT current_setting('server_version') AS server, max(number) AS schema FROM aetheris.schema_migrations"
        )
        row = await cursor.fetchone()
    assert row is not None
    return str(row["server"]).split()[0], f"{row['schema']:04}"


async def unsafe_settings(connection: Connection) -> list[str]:
    """Return the durability settings that are not on."""
    return [name for name, value in (await durability(connection)).items() if value != "on"]


async def durability(connection: Connection) -> dict[str, str]:
    """Return fsync, synchronous_commit and full_page_writes as they are in force."""
    names = ["fsync", "synchronous_commit", "full_page_writes"]
    with translated():
        cursor = await connection.execute("SELECT n, current_setting(n) AS value FROM unnest(%s::text[]) AS n", [names])
        return {r["n"]: r["value"] async for r in cursor}


async def work(connection: Connection) -> dict[str, int]:
    """Return how many workers are heard of, jobs by state, leases overdue and jobs with a call in doubt."""
    with translated():
        cursor = await connection.execute(
            "SELECT count(*) FILTER (WHERE status = 0) AS pending, count(*) FILTER (WHERE status = 1) AS running,"
            " count(*) FILTER (WHERE status = 6) AS parked,"
            " count(*) FILTER (WHERE status = 1 AND lease_until < clock_timestamp() - interval '10 seconds')"
            " AS overdue,"
            " count(*) FILTER (WHERE status = 6 AND open_calls > 0) AS doubt,"
            " (SELECT count(*) FROM aetheris.workers WHERE last_seen_at > clock_timestamp() - interval '1 minute')"
            " AS workers"
            " FROM aetheris.jobs WHERE status NOT IN (2, 3, 4)"
        )
        row = await cursor.fetchone()
    assert row is not None
    return dict(row)


async def retention(connection: Connection) -> dict[str, int]:
    """Return how many finished jobs wait for a seal, contradict themselves, are held, left; and cells to erase yet."""
    with translated():
        cursor = await connection.execute(
            "SELECT (SELECT count(*) FROM aetheris.jobs WHERE status IN (2, 3, 4) AND seal_state = 0) AS unsealed,"
            " (SELECT count(*) FROM aetheris.jobs WHERE seal_state = 2) AS broken,"
            " (SELECT count(*) FROM aetheris.legal_holds WHERE released_at IS NULL) AS held,"
            " (SELECT count(*) FROM aetheris.job_tombstones) AS collected,"
            " (SELECT count(*) FROM aetheris.erasures WHERE lake_erased_at IS NULL) AS erasing"
        )
        row = await cursor.fetchone()
    assert row is not None
    return dict(row)


async def table_bytes(connection: Connection) -> dict[str, int]:
    """Return what each table takes on disk, its indexes included."""
    with translated():
        cursor = await connection.execute(
            "SELECT relname, pg_total_relation_size(c.oid) AS bytes FROM pg_class c"
            " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'aetheris' AND c.relkind = 'r'"
            " ORDER BY relname"
        )
        return {r["relname"]: r["bytes"] async for r in cursor}
