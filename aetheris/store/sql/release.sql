-- release: give up leases without an event, so that another worker may claim at once
WITH held AS MATERIALIZED (
    SELECT * FROM unnest(%(tenants)b::text[], %(jobs)b::text[], %(epochs)b::bigint[]) AS h (tenant_id, job_id, epoch)
), locked AS MATERIALIZED (
    SELECT j.tenant_id, j.job_id
    FROM aetheris.jobs j JOIN held h USING (tenant_id, job_id)
    ORDER BY j.tenant_id, j.job_id
    FOR NO KEY UPDATE OF j
), released AS (
    UPDATE aetheris.jobs j SET
        status = 7, lease_owner = NULL, lease_until = NULL,
        wake_at = clock_timestamp() + %(delay_seconds)s * interval '1 second', updated_at = clock_timestamp()
    FROM locked JOIN held h USING (tenant_id, job_id)
    WHERE j.tenant_id = h.tenant_id AND j.job_id = h.job_id AND j.lease_epoch = h.epoch AND j.lease_owner = %(worker)s
      AND j.status = 1
    RETURNING j.tenant_id, j.job_id, j.lease_epoch
)
INSERT INTO aetheris.lease_changes (tenant_id, job_id, epoch, change, worker_id)
SELECT tenant_id, job_id, lease_epoch, 'released', %(worker)s FROM released
RETURNING job_id, pg_notify('aetheris_jobs', '') IS NULL
