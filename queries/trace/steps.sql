-- trace/steps: one row per event of a job, in order, with what a timeline needs
--
-- binds     $job_id VARCHAR
-- reads     events(*)
-- columns   tenant_id VARCHAR, job_id VARCHAR, seq BIGINT, type VARCHAR, step BIGINT, epoch BIGINT, by VARCHAR, at_us BIGINT,
--           since_start_us BIGINT, duration_us BIGINT, tool_name VARCHAR, effect VARCHAR, attempt INTEGER,
--           outcome VARCHAR, reason VARCHAR, leaf VARCHAR
-- blind to  cells: what was said stands there, not in the line

select
    tenant_id, job_id, seq, type, step, epoch, line ->> '$.by' as by, epoch_us(happened_at) as at_us,
    epoch_us(happened_at) - min(epoch_us(happened_at)) over () as since_start_us,
    (line ->> '$.data.duration_us')::bigint as duration_us,
    line ->> '$.data.tool_name' as tool_name,
    line ->> '$.data.effect' as effect,
    (line ->> '$.data.attempt')::integer as attempt,
    line ->> '$.data.outcome' as outcome,
    line ->> '$.data.reason' as reason,
    lower(hex(leaf)) as leaf
from events
where job_id = $job_id
order by seq
