-- What a collection asks of the store. Each statement follows its name.

-- name: due
-- Finished jobs of one tenant that may leave, oldest first, after the place where the last batch ended.
-- A job whose parent still runs stays: the parent may ask for its result.
SELECT j.tenant_id, j.job_id, j.created_at, j.updated_at
FROM aetheris.jobs j
WHERE j.tenant_id = %(tenant)s AND (j.created_at, j.job_id) > (%(after_at)s, %(after_job)s)
  AND j.created_at < %(before)s AND j.updated_at < %(before)s
  AND j.status IN (2, 3, 4) AND j.seal_state = 1
  AND NOT EXISTS (SELECT FROM aetheris.legal_holds h
                  WHERE h.tenant_id = j.tenant_id AND h.job_id = j.job_id AND h.released_at IS NULL)
  AND NOT EXISTS (SELECT FROM aetheris.jobs p WHERE p.tenant_id = j.tenant_id AND p.job_id = j.parent_job_id
                  AND p.status NOT IN (2, 3, 4))
ORDER BY j.created_at, j.job_id
LIMIT %(limit)s

-- name: survey
-- How many old jobs there are, by what keeps or frees them.
SELECT CASE
         WHEN j.status NOT IN (2, 3, 4) THEN 'running'
         WHEN h.job_id IS NOT NULL THEN 'held'
         WHEN j.seal_state = 2 THEN 'broken'
         WHEN j.seal_state = 0 THEN 'unsealed'
         WHEN p.job_id IS NOT NULL THEN 'parent runs'
         ELSE 'due' END AS standing,
       count(*) AS jobs, coalesce(sum(j.head_seq), 0)::bigint AS events
FROM aetheris.jobs j
LEFT JOIN aetheris.legal_holds h ON h.tenant_id = j.tenant_id AND h.job_id = j.job_id AND h.released_at IS NULL
LEFT JOIN aetheris.jobs p ON p.tenant_id = j.tenant_id AND p.job_id = j.parent_job_id AND p.status NOT IN (2, 3, 4)
WHERE j.created_at < %(before)s AND j.updated_at < %(before)s
GROUP BY 1

-- name: lock
-- The batch, locked in order.
SELECT j.tenant_id, j.job_id
FROM aetheris.jobs j
JOIN unnest(%(tenants)b::text[], %(jobs)b::text[]) AS w (tenant_id, job_id) USING (tenant_id, job_id)
WHERE j.status IN (2, 3, 4) AND j.seal_state = 1
ORDER BY j.tenant_id, j.job_id
FOR UPDATE OF j

-- name: held
SELECT h.tenant_id, h.job_id
FROM aetheris.legal_holds h
JOIN unnest(%(tenants)b::text[], %(jobs)b::text[]) AS w (tenant_id, job_id) USING (tenant_id, job_id)
WHERE h.released_at IS NULL

-- name: keys
SELECT {columns} FROM aetheris.{table}
JOIN unnest(%(tenants)b::text[], %(jobs)b::text[]) AS w (tenant_id, job_id) USING (tenant_id, job_id)

-- name: bury
INSERT INTO aetheris.job_tombstones (tenant_id, job_id, agent, event_count, head_leaf, deleted_by, reason,
                                     retention_days, archive_ref, idempotency_key, created_at, ended_at)
SELECT j.tenant_id, j.job_id, j.agent, j.head_seq, j.head_leaf, %(by)s, %(reason)s, %(days)s, %(archive)s,
       j.idempotency_key, j.created_at, j.updated_at
FROM aetheris.jobs j
JOIN unnest(%(tenants)b::text[], %(jobs)b::text[]) AS w (tenant_id, job_id) USING (tenant_id, job_id)

-- name: remove
DELETE FROM aetheris.{table} t USING unnest(%(tenants)b::text[], %(jobs)b::text[]) AS w (tenant_id, job_id)
WHERE t.tenant_id = w.tenant_id AND t.job_id = w.job_id
