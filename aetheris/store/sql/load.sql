-- load: what a replay of many jobs stands on, in one statement
--
-- Of each job: its newest snapshot after `since` and before `before` (0: none at all), the events
-- and cells from there on, the first event (it holds the input), and the signals that came earlier
-- (the code may still wait for one). Each branch is a range or a point of a primary key: a
-- condition `seq >= since OR seq = 1` would read the whole job and throw most of it away.
WITH wanted AS (
    SELECT * FROM unnest(%(tenants)b::text[], %(jobs)b::text[], %(since)b::bigint[], %(before)b::bigint[])
                  WITH ORDINALITY AS w (tenant_id, job_id, since, before, number)
), picked AS MATERIALIZED (
    SELECT w.number, w.tenant_id, w.job_id, s.seq AS snapshot, coalesce(s.seq, w.since) AS since
    FROM wanted w LEFT JOIN LATERAL (
        SELECT s.seq FROM aetheris.job_snapshots s
        WHERE s.tenant_id = w.tenant_id AND s.job_id = w.job_id AND s.seq > w.since AND s.seq < w.before
        ORDER BY s.seq DESC LIMIT 1
    ) s ON true
), earlier AS MATERIALIZED (
    SELECT p.number, p.tenant_id, p.job_id, 1::bigint AS seq FROM picked p WHERE p.since > 1
    UNION
    SELECT p.number, p.tenant_id, p.job_id, s.taken_seq
    FROM picked p JOIN aetheris.signals s USING (tenant_id, job_id)
    WHERE s.kind = 'signal' AND s.taken_seq < p.since
)
SELECT p.number, 's' AS what, s.seq, NULL::text AS name, s.packed AS digest,
       jsonb_build_object('kind', s.kind, 'version', s.version, 'key_id', s.key_id,
                          'leaf', encode(s.leaf, 'hex'), 'mac', encode(s.packed_mac, 'hex'))::text AS content
FROM picked p JOIN aetheris.job_snapshots s ON s.tenant_id = p.tenant_id AND s.job_id = p.job_id AND s.seq = p.snapshot
UNION ALL
SELECT n.number, 'e', e.seq, NULL, e.leaf, e.line
FROM earlier n JOIN aetheris.job_events e USING (tenant_id, job_id, seq)
UNION ALL
SELECT p.number, 'e', e.seq, NULL, e.leaf, e.line
FROM picked p JOIN aetheris.job_events e USING (tenant_id, job_id)
WHERE e.seq >= p.since
UNION ALL
SELECT n.number, 'c', c.seq, c.name, c.salt, c.body
FROM earlier n JOIN aetheris.cells c USING (tenant_id, job_id, seq)
UNION ALL
SELECT p.number, 'c', c.seq, c.name, c.salt, c.body
FROM picked p JOIN aetheris.cells c USING (tenant_id, job_id)
WHERE c.seq >= p.since
