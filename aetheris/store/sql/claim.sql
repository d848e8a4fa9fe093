-- claim: take up to `limit` jobs, ready ones and those whose lease ran out
--
-- Fair across tenants: each tenant's longest-waiting jobs are numbered, and number one of every
-- tenant goes before number two of any. SKIP LOCKED: two workers never wait for each other. The
-- epoch rises with every claim, so whatever the last holder still sends is refused. Running jobs
-- stand in an index of their own that no heartbeat touches. A job that has begun is taken only by a
-- worker that serves the version of the code it began with (or was told to accept it).
WITH ready AS (
    SELECT t.tenant_id, r.job_id, r.place
    FROM aetheris.tenants t
    CROSS JOIN LATERAL (
        SELECT c.job_id, row_number() OVER () AS place
        FROM (SELECT j.job_id
              FROM aetheris.jobs j
              WHERE j.tenant_id = t.tenant_id AND j.status IN (0, 5, 6, 7) AND j.wake_at <= clock_timestamp()
                AND j.lease_owner IS NULL AND j.agent = ANY (%(agents)b::text[])
                AND (j.lease_epoch = 0 OR j.agent || '@' || j.agent_version = ANY (%(versions)b::text[]))
                AND j.required_capabilities <@ %(capabilities)b::text[]
              ORDER BY j.wake_at
              LIMIT %(limit)s * 2) c
    ) r
    WHERE t.status = 'active'
), expired AS (
    SELECT j.tenant_id, j.job_id, 0::bigint AS place
    FROM aetheris.jobs j
    WHERE j.status = 1 AND j.lease_until <= clock_timestamp()
      AND j.agent = ANY (%(agents)b::text[]) AND j.agent || '@' || j.agent_version = ANY (%(versions)b::text[])
      AND j.required_capabilities <@ %(capabilities)b::text[]
    LIMIT %(limit)s
), chosen AS MATERIALIZED (
    SELECT j.tenant_id, j.job_id, j.status AS was, j.lease_owner AS before, j.agent_version AS version_before
    FROM (SELECT * FROM expired UNION ALL SELECT * FROM ready ORDER BY place LIMIT %(limit)s * 2) w
    JOIN aetheris.jobs j USING (tenant_id, job_id)
    WHERE (j.status = 1 AND j.lease_until <= clock_timestamp())
       OR (j.status IN (0, 5, 6, 7) AND j.wake_at <= clock_timestamp() AND j.lease_owner IS NULL)
    LIMIT %(limit)s
    FOR NO KEY UPDATE OF j SKIP LOCKED
), taken AS (
    UPDATE aetheris.jobs j SET
        status = 1,
        lease_epoch = j.lease_epoch + 1,
        lease_owner = %(worker)s,
        lease_until = clock_timestamp() + %(lease_seconds)s * interval '1 second',
        -- The code that begins a job, or was accepted for it, is the code that it belongs to from here on.
        agent_version = (%(own)b::text[])[array_position(%(agents)b::text[], j.agent)],
        waits_for = '',
        updated_at = clock_timestamp()
    FROM chosen c
    WHERE j.tenant_id = c.tenant_id AND j.job_id = c.job_id
    RETURNING j.tenant_id, j.job_id, j.agent, j.agent_version, j.lease_epoch, j.lease_until, j.head_seq, j.head_leaf,
              j.checkpoint_seq, j.inbox, j.parent_job_id, c.was, c.before, c.version_before
), noted AS (
    INSERT INTO aetheris.lease_changes (tenant_id, job_id, epoch, change, worker_id, lease_until)
    SELECT tenant_id, job_id, lease_epoch, CASE WHEN was = 1 THEN 'taken_over' ELSE 'claimed' END, %(worker)s, lease_until
    FROM taken
)
SELECT tenant_id, job_id, agent, agent_version, lease_epoch, head_seq, head_leaf, checkpoint_seq, inbox, parent_job_id,
       before, version_before
FROM taken
