-- send: put something into a job's inbox and wake it
--
-- The job row is locked first, then counted up: see migration 3 for who wins against a release.
-- Returns no row when there is no such job; `ended` when it takes nothing any more; `repeated`
-- when this correlation key is there already (a signal with a key arrives exactly once).
WITH job AS MATERIALIZED (
    SELECT j.tenant_id, j.job_id, j.status
    FROM aetheris.jobs j
    WHERE j.tenant_id = %(tenant)s AND j.job_id = %(job)s
    FOR NO KEY UPDATE OF j
), sent AS (
    INSERT INTO aetheris.signals (tenant_id, job_id, kind, correlation_key, sent_by, payload)
    SELECT tenant_id, job_id, %(kind)s, %(key)s, %(by)s, %(payload)s
    FROM job
    WHERE status NOT IN (2, 3, 4)
    ON CONFLICT (tenant_id, job_id, kind, correlation_key) WHERE correlation_key <> '' DO NOTHING
    RETURNING signal_id
), woken AS (
    UPDATE aetheris.jobs j SET
        inbox = j.inbox + 1,
        wake_at = least(j.wake_at, clock_timestamp()),
        cancel_requested_at = CASE WHEN %(kind)s = 'cancel' THEN coalesce(j.cancel_requested_at, clock_timestamp())
                                   ELSE j.cancel_requested_at END
    FROM job
    WHERE j.tenant_id = job.tenant_id AND j.job_id = job.job_id AND EXISTS (SELECT FROM sent)
    RETURNING pg_notify('aetheris_jobs', 'inbox ' || j.tenant_id || ' ' || j.job_id) IS NULL AS notified
)
SELECT job.status, job.status IN (2, 3, 4) AS ended, NOT EXISTS (SELECT FROM sent) AS repeated,
       (SELECT count(*) FROM woken) AS woken
FROM job
