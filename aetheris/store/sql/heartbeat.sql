-- heartbeat: one statement for all jobs that a worker holds
--
-- Returns the jobs still held; whatever is missing from the answer is lost. `wanted` says that
-- the inbox holds something for the job.
WITH held AS MATERIALIZED (
    SELECT * FROM unnest(%(tenants)b::text[], %(jobs)b::text[], %(epochs)b::bigint[]) AS h (tenant_id, job_id, epoch)
), locked AS MATERIALIZED (
    SELECT j.tenant_id, j.job_id
    FROM aetheris.jobs j JOIN held h USING (tenant_id, job_id)
    WHERE j.lease_epoch = h.epoch AND j.lease_until > clock_timestamp()
    ORDER BY j.tenant_id, j.job_id
    FOR NO KEY UPDATE OF j
), renewed AS (
    UPDATE aetheris.jobs j SET lease_until = clock_timestamp() + %(lease_seconds)s * interval '1 second'
    FROM locked JOIN held h USING (tenant_id, job_id)
    WHERE j.tenant_id = h.tenant_id AND j.job_id = h.job_id AND j.lease_epoch = h.epoch AND j.lease_until > clock_timestamp()
    RETURNING j.tenant_id, j.job_id, j.inbox > 0 AS wanted
), seen AS (
    UPDATE aetheris.workers SET last_seen_at = clock_timestamp() WHERE worker_id = %(worker)s
)
SELECT tenant_id, job_id, wanted FROM renewed
