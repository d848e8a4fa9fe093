-- append: the one fenced append, for many jobs at once
--
-- Locks the job rows first, in (tenant, job) order, so that two appends never wait on each
-- other in a ring. Then each job's head is compared and set: only where the lease epoch and
-- the head are what the writer believes, the job has not ended, nothing is dated more than a
-- second ahead of this clock, and no call in doubt would be left behind a terminal state.
-- Events, cells and ledger rows of the jobs that matched are written, of the others nothing.
-- Returns the jobs of which nothing was written; the caller looks why.
WITH want AS MATERIALIZED (
    SELECT * FROM unnest(
        %(tenants)b::text[], %(jobs)b::text[], %(epochs)b::bigint[], %(old_heads)b::bigint[],
        %(new_heads)b::bigint[], %(new_leaves)b::bytea[], %(last_ats)b::bigint[], %(statuses)b::smallint[],
        %(open_deltas)b::integer[], %(checkpoints)b::bigint[], %(releases)b::boolean[], %(wake_ats)b::bigint[],
        %(takens)b::integer[], %(waits_for)b::text[]
    ) WITH ORDINALITY
      AS w (tenant_id, job_id, epoch, old_head, new_head, new_leaf, last_at, status, open_delta, checkpoint_seq, release, wake_at,
            taken, waits_for, job)
), locked AS MATERIALIZED (
    SELECT j.tenant_id, j.job_id
    FROM aetheris.jobs j JOIN want w USING (tenant_id, job_id)
    ORDER BY j.tenant_id, j.job_id
    FOR NO KEY UPDATE OF j
), moved AS (
    UPDATE aetheris.jobs j SET
        head_seq = w.new_head,
        head_leaf = w.new_leaf,
        status = w.status,
        open_calls = j.open_calls + w.open_delta,
        checkpoint_seq = greatest(j.checkpoint_seq, w.checkpoint_seq),
        lease_owner = CASE WHEN w.release THEN NULL ELSE j.lease_owner END,
        lease_until = CASE WHEN w.release THEN NULL ELSE j.lease_until END,
        inbox = greatest(j.inbox - w.taken, 0),
        waits_for = CASE WHEN w.release THEN w.waits_for ELSE j.waits_for END,
        -- What came into the inbox meanwhile must not sleep with the job (migration 3 says why by count).
        wake_at = CASE
            WHEN NOT w.release THEN j.wake_at
            WHEN j.inbox > w.taken THEN clock_timestamp()
            WHEN w.wake_at = 0 THEN 'infinity'
            ELSE to_timestamp(w.wake_at / 1e6) END,
        updated_at = clock_timestamp()
    FROM want w JOIN locked USING (tenant_id, job_id)
    WHERE j.tenant_id = w.tenant_id AND j.job_id = w.job_id
      AND j.lease_epoch = w.epoch AND j.lease_until > clock_timestamp() AND j.head_seq = w.old_head
      AND j.status NOT IN (2, 3, 4)
      AND (w.status NOT IN (2, 3, 4) OR j.open_calls + w.open_delta = 0)
      AND w.last_at <= extract(epoch FROM clock_timestamp()) * 1e6 + 1e6
    RETURNING j.tenant_id, j.job_id, w.job, w.release, j.lease_epoch
), events AS (
    INSERT INTO aetheris.job_events (tenant_id, job_id, seq, leaf, line)
    SELECT w.tenant_id, w.job_id, e.seq, e.leaf, e.line
    FROM unnest(%(e_jobs)b::integer[], %(e_seqs)b::bigint[], %(e_leaves)b::bytea[], %(e_lines)b::text[])
             AS e (job, seq, leaf, line)
    JOIN moved w USING (job)
), cells AS (
    INSERT INTO aetheris.cells (tenant_id, job_id, seq, name, salt, body)
    SELECT w.tenant_id, w.job_id, c.seq, c.name, c.salt, c.body
    FROM unnest(%(c_jobs)b::integer[], %(c_seqs)b::bigint[], %(c_names)b::text[], %(c_salts)b::bytea[], %(c_bodies)b::text[])
             AS c (job, seq, name, salt, body)
    JOIN moved w USING (job)
), ledger AS (
    INSERT INTO aetheris.ledger (tenant_id, job_id, seq, step, attempt, tool_name, effect, status, epoch,
                                 idempotency_key, args_hash, result_hash, outcome)
    SELECT w.tenant_id, w.job_id, l.seq, l.step, l.attempt, l.tool_name, l.effect, l.status, l.epoch,
           l.idempotency_key, l.args_hash, l.result_hash, l.outcome
    FROM unnest(%(l_jobs)b::integer[], %(l_seqs)b::bigint[], %(l_steps)b::bigint[], %(l_attempts)b::integer[],
                %(l_tools)b::text[], %(l_effects)b::text[], %(l_statuses)b::text[], %(l_epochs)b::bigint[],
                %(l_keys)b::bytea[], %(l_args)b::bytea[], %(l_results)b::bytea[], %(l_outcomes)b::text[])
             AS l (job, seq, step, attempt, tool_name, effect, status, epoch, idempotency_key, args_hash, result_hash, outcome)
    JOIN moved w USING (job)
), taken AS (
    -- What became an event leaves no second copy of its payload behind.
    UPDATE aetheris.signals s SET taken_seq = t.seq, payload = NULL
    FROM unnest(%(t_jobs)b::integer[], %(t_seqs)b::bigint[], %(t_ids)b::text[]) AS t (job, seq, id)
    JOIN moved w USING (job)
    WHERE s.tenant_id = w.tenant_id AND s.job_id = w.job_id AND s.signal_id = t.id::uuid
), released AS (
    INSERT INTO aetheris.lease_changes (tenant_id, job_id, epoch, change, worker_id)
    SELECT tenant_id, job_id, lease_epoch, 'released', %(worker)s FROM moved WHERE release
)
SELECT w.tenant_id, w.job_id
FROM want w
LEFT JOIN moved m USING (tenant_id, job_id)
WHERE m.job_id IS NULL;
