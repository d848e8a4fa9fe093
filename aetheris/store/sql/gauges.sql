-- gauges: what an operator wants to know of the whole store, in one look
--
-- A lease counts as alive from its claim for as long as the claim itself said, unless it was given up: two alive on
-- one job mean that the fence is not holding. A job that sleeps is not parked for anybody; one without a time to
-- wake at is.
WITH counted AS (
    SELECT status, count(*) AS n FROM aetheris.jobs GROUP BY status
), leases AS (
    SELECT l.tenant_id, l.job_id, count(*) AS n
    FROM aetheris.jobs j JOIN aetheris.lease_changes l USING (tenant_id, job_id)
    WHERE j.status = 1 AND l.change IN ('claimed', 'taken_over') AND l.lease_until > clock_timestamp()
      AND NOT EXISTS (SELECT FROM aetheris.lease_changes r
                      WHERE r.tenant_id = l.tenant_id AND r.job_id = l.job_id AND r.epoch = l.epoch AND r.change = 'released')
    GROUP BY l.tenant_id, l.job_id
)
SELECT
    coalesce((SELECT jsonb_object_agg(status, n) FROM counted), '{}') AS states,
    (SELECT count(*) FROM aetheris.jobs
     WHERE status IN (0, 5, 6, 7) AND wake_at <= clock_timestamp() AND lease_owner IS NULL) AS backlog,
    (SELECT count(*) FROM aetheris.jobs
     WHERE status = 1 AND (lease_until < clock_timestamp() - interval '30 seconds'
                           OR updated_at < clock_timestamp() - interval '1 hour')) AS stuck,
    coalesce((SELECT max(n) FROM leases), 0) AS live_leases,
    coalesce((SELECT extract(epoch FROM max(clock_timestamp() - updated_at)) FROM aetheris.jobs
              WHERE status = 6 AND wake_at = 'infinity'), 0)::double precision AS parked_seconds
