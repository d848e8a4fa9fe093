-- carry: what a run that went on as another left unheard goes into that one's inbox
--
-- Runs in the transaction of the append that ended the run, after it: the run's row is locked and has ended, so
-- nothing more can come, and this statement sees all that came. Carried are signals that no wait got, whether they
-- were taken or not, and what was asked of the job since it was settled that it goes on. A key arrives once: what
-- the next run was sent under it already stands. The next run may have ended and gone on, too, while this one lay
-- with a dead worker.
WITH RECURSIVE run AS (
    SELECT * FROM unnest(%(tenants)b::text[], %(jobs)b::text[], %(continued_seqs)b::bigint[])
      AS r (tenant_id, job_id, continued_seq)
), chain AS (
    SELECT r.tenant_id, r.job_id AS origin, r.continued_seq, n.job_id, n.status
    FROM run r
    JOIN aetheris.jobs n ON n.tenant_id = r.tenant_id AND n.idempotency_key = 'continue/' || r.job_id
    UNION ALL
    SELECT c.tenant_id, c.origin, c.continued_seq, n.job_id, n.status
    FROM chain c
    JOIN aetheris.jobs n ON n.tenant_id = c.tenant_id AND n.idempotency_key = 'continue/' || c.job_id
    WHERE c.status = 2
), heir AS MATERIALIZED (
    SELECT c.tenant_id, c.origin, c.continued_seq, j.job_id
    FROM chain c JOIN aetheris.jobs j ON j.tenant_id = c.tenant_id AND j.job_id = c.job_id
    WHERE j.status NOT IN (2, 3, 4)
    FOR NO KEY UPDATE OF j
), heard AS MATERIALIZED (
    -- OFFSET 0: one run at a time, by its key. Joined freely, the planner may read the events of every job there is.
    SELECT h.tenant_id, h.origin, (e.line::jsonb #>> '{data,received_seq}')::bigint AS taken_seq
    FROM heir h CROSS JOIN LATERAL (
        SELECT line FROM aetheris.job_events
        WHERE tenant_id = h.tenant_id AND job_id = h.origin AND line LIKE '%%"received_seq"%%' OFFSET 0) e
), unheard AS MATERIALIZED (
    SELECT h.tenant_id, h.job_id, h.origin, h.continued_seq, s.signal_id, s.kind, s.correlation_key, s.sent_by, s.recorded_at,
           CASE WHEN s.taken_seq IS NULL THEN s.payload
                WHEN s.kind = 'signal' THEN c.body
                ELSE '{"why":' || c.body || '}' END AS payload
    FROM heir h
    JOIN aetheris.signals s ON s.tenant_id = h.tenant_id AND s.job_id = h.origin
    LEFT JOIN aetheris.cells c
           ON c.tenant_id = s.tenant_id AND c.job_id = s.job_id AND c.seq = s.taken_seq AND c.name IN ('payload', 'why')
    WHERE s.kind IN ('signal', 'cancel', 'pause', 'resume')
      AND (s.taken_seq IS NULL
           OR (s.kind <> 'signal' AND s.taken_seq > h.continued_seq)
           OR (s.kind = 'signal' AND c.body IS NOT NULL AND NOT EXISTS (
                   SELECT FROM heard
                   WHERE heard.tenant_id = s.tenant_id AND heard.origin = s.job_id AND heard.taken_seq = s.taken_seq)))
), carried AS (
    INSERT INTO aetheris.signals (tenant_id, job_id, signal_id, kind, correlation_key, sent_by, payload, recorded_at)
    SELECT tenant_id, job_id, signal_id, kind, correlation_key, sent_by, payload, recorded_at FROM unheard
    ON CONFLICT (tenant_id, job_id, kind, correlation_key) WHERE correlation_key <> '' DO NOTHING
    RETURNING tenant_id, job_id, kind
), emptied AS (
    UPDATE aetheris.signals s SET taken_seq = u.continued_seq, payload = NULL
    FROM unheard u
    WHERE s.tenant_id = u.tenant_id AND s.job_id = u.origin AND s.signal_id = u.signal_id AND s.taken_seq IS NULL
)
UPDATE aetheris.jobs j SET
    inbox = j.inbox + c.count,
    wake_at = least(j.wake_at, clock_timestamp()),
    cancel_requested_at = CASE WHEN c.cancel THEN coalesce(j.cancel_requested_at, clock_timestamp())
                               ELSE j.cancel_requested_at END
FROM (SELECT tenant_id, job_id, count(*) AS count, bool_or(kind = 'cancel') AS cancel
      FROM carried GROUP BY tenant_id, job_id) c
WHERE j.tenant_id = c.tenant_id AND j.job_id = c.job_id
RETURNING pg_notify('aetheris_jobs', 'inbox ' || j.tenant_id || ' ' || j.job_id) IS NULL
