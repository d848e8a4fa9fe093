"""The walls between tenants, held against the catalog: what stands open, in words.

Asked by every connection that is made for a role, so API, worker and command
line do not start where a wall is down, and by `doctor`. What a migration
forgot, or somebody loosened by hand, shows before anybody is served.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aetheris.domain.errors import Refused, Unusable
from aetheris.store.statements import statement

if TYPE_CHECKING:
    from aetheris.store.database import Connection

#: Tables of the deployment, not of a tenant: exempt from the tenant policies, by name.
WITHOUT_TENANT = ("schema_migrations", "store_identity", "deployment_keys", "workers")
SHOWN = 5


async def check(connection: Connection, role: str) -> None:
    """Return only if this connection acts as `aetheris_ROLE` and every wall is up.

    Errors: Refused naming what is open; Unusable when there is no schema.
    """
    cursor = await connection.execute(
        "SELECT current_user AS who, to_regclass('aetheris.jobs') IS NOT NULL AS schema,"
        " (SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user) AS above"
    )
    row = await cursor.fetchone()
    if row is None or row["who"] != f"aetheris_{role}" or row["above"]:
        raise Refused(
            f"the walls are not up: this connection acts as {row['who'] if row else 'nobody'}, not aetheris_{role}"
        )
    if not row["schema"]:
        raise Unusable("the database has no Aetheris schema: run `aetheris init`")
    if found := await breaches(connection):
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise Refused(f"the walls are not up: {'; '.join(found[:SHOWN])}{more}; mend that, nothing starts until then")


async def breaches(connection: Connection) -> list[str]:
    """Return what stands open between tenants, one sentence each."""
    cursor = await connection.execute(statement("walls"), {"without_tenant": list(WITHOUT_TENANT)})
    return [row["open"] async for row in cursor]
