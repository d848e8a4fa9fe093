-- What the mirror asks of the store. Each statement follows its name.

-- name: walls
-- Who this connection acts as, and whether it could see past the policies.
SELECT current_user::text AS who, rolsuper OR rolbypassrls AS above,
       to_regclass('aetheris_lake.catalog_identity') IS NOT NULL AS schema
FROM pg_roles WHERE rolname = current_user

-- name: cut
-- The first statement of the REPEATABLE READ transaction: its snapshot is what all others see.
SELECT pg_current_snapshot()::text AS snapshot,
       s.incarnation::text AS store,
       c.incarnation::text AS lake,
       system_identifier::text AS system,
       -- The timeline that is written now; the control file's may lag behind a promotion.
       ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int AS timeline,
       (extract(epoch FROM now()) * 1000000)::bigint AS at
FROM aetheris.store_identity s, aetheris_lake.catalog_identity c, pg_control_system()

-- name: rows
-- What was committed since the old snapshot. That it is visible in the new one is the
-- transaction's own doing. The bound on xid is for the index: everything below the old
-- snapshot's xmin was visible in it.
SELECT {columns} FROM aetheris.{table}
WHERE xid >= pg_snapshot_xmin(%(since)s::pg_snapshot) AND NOT pg_visible_in_snapshot(xid, %(since)s::pg_snapshot)

-- name: all_rows
SELECT {columns} FROM aetheris.{table}

-- name: tenants
SELECT tenant_id FROM aetheris.tenants ORDER BY tenant_id

-- name: collected
-- Jobs whose rows left the store on record.
SELECT job_id FROM aetheris.job_tombstones WHERE tenant_id = %(tenant)s

-- name: waiting
-- How many rows of one table a round would bring, counted no further than the limit. Rows
-- with xids from elsewhere stay unseen by every snapshot for long: they don't call for a round.
SELECT count(*) AS rows FROM (
    SELECT FROM aetheris.{table}
    WHERE xid >= pg_snapshot_xmin(%(since)s::pg_snapshot) AND NOT pg_visible_in_snapshot(xid, %(since)s::pg_snapshot)
      AND pg_visible_in_snapshot(xid, pg_current_snapshot())
    LIMIT %(limit)s
) AS waiting

-- name: renew
UPDATE aetheris_lake.catalog_identity SET incarnation = gen_random_uuid(), renewed_at = now()
