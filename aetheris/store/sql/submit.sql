-- submit: a job and its first event, or the job that already has this idempotency key
--
-- The submitter writes event 1 and nothing after it; from then on only a lease holder appends.
-- No NOTIFY here: it would hold a lock of the whole server until the commit is on disk, one commit after the other.
WITH job AS (
    INSERT INTO aetheris.jobs (tenant_id, job_id, agent, agent_version, goal, idempotency_key,
                               required_capabilities, parent_job_id, head_seq, head_leaf)
    VALUES (%(tenant)s, %(job)s, %(agent)s, %(version)s, %(goal)s, %(key)s, %(capabilities)s, %(parent)s, 1, %(leaf)b)
    ON CONFLICT (tenant_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING tenant_id, job_id
), event AS (
    INSERT INTO aetheris.job_events (tenant_id, job_id, seq, leaf, line)
    SELECT tenant_id, job_id, 1, %(leaf)b, %(line)s FROM job
), cell AS (
    INSERT INTO aetheris.cells (tenant_id, job_id, seq, name, salt, body)
    SELECT job.tenant_id, job.job_id, 1, c.name, c.salt, c.body
    FROM job, unnest(%(c_names)b::text[], %(c_salts)b::bytea[], %(c_bodies)b::text[]) AS c (name, salt, body)
)
SELECT job_id FROM job
