-- mark_sealed: finished jobs are marked sealed (1) or broken (2), once
--
-- Job rows are locked first, in (tenant, job) order, as everywhere.
WITH locked AS (
    SELECT j.tenant_id, j.job_id, w.state
    FROM aetheris.jobs j
    JOIN unnest(%(tenants)b::text[], %(jobs)b::text[], %(states)b::smallint[]) AS w (tenant_id, job_id, state)
         USING (tenant_id, job_id)
    WHERE j.seal_state = 0
    ORDER BY j.tenant_id, j.job_id
    FOR NO KEY UPDATE OF j
)
UPDATE aetheris.jobs j SET seal_state = locked.state
FROM locked
WHERE j.tenant_id = locked.tenant_id AND j.job_id = locked.job_id
