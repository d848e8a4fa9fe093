-- trace/fold: each job's state as the fold of its events: the runtime's own fold, in DuckDB
--
-- binds     $job_id VARCHAR (null for all), $through BIGINT (the last event folded, null for all)
-- reads     events(tenant_id, job_id, seq, line)
-- columns   tenant_id VARCHAR, job_id VARCHAR, seq BIGINT, status VARCHAR, steps BIGINT, body VARCHAR
-- blind to  what the agent's own code holds in memory; `body` is what a snapshot stores, to the byte

with told as (
    select
        tenant_id, job_id, 0 as upto, seq, line,
        line ->> '$.type' as type,
        (line ->> '$.step')::bigint as step,
        line -> '$.cells' as cells
    from events
    where ($job_id is null or job_id = $job_id) and ($through is null or seq <= $through)
),
-- include parts/fold

select tenant_id, job_id, seq, status, steps, body
from folded
order by tenant_id, job_id
