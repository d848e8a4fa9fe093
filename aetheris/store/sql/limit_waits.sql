-- limit_waits: waits that are over, many at once; the same wait sent twice (a lost answer) stands once
INSERT INTO aetheris.limit_waits (tenant_id, job_id, step, attempt, kind, name, asked_at, slot_at, started_at, outcome)
SELECT w.tenant_id, w.job_id, w.step, w.attempt, w.kind, w.name,
       timestamptz 'epoch' + w.asked * interval '1 microsecond',
       timestamptz 'epoch' + w.slot * interval '1 microsecond',
       CASE WHEN w.started > 0 THEN timestamptz 'epoch' + w.started * interval '1 microsecond' END,
       w.outcome
FROM unnest(%(tenants)b::text[], %(jobs)b::text[], %(steps)b::bigint[], %(attempts)b::integer[], %(kinds)b::text[],
            %(names)b::text[], %(asked)b::bigint[], %(slots)b::bigint[], %(started)b::bigint[], %(outcomes)b::text[])
         AS w (tenant_id, job_id, step, attempt, kind, name, asked, slot, started, outcome)
JOIN aetheris.jobs j ON j.tenant_id = w.tenant_id AND j.job_id = w.job_id
ON CONFLICT DO NOTHING
