-- trace/runs: the runs that a job is one of, first to last, as one history
--
-- binds     $job_id VARCHAR
-- reads     events(tenant_id, job_id, seq, line, leaf)
-- columns   tenant_id VARCHAR, job_id VARCHAR, run BIGINT, events BIGINT, first_at BIGINT, last_at BIGINT, head_leaf VARCHAR,
--           continued_as VARCHAR
-- blind to  runs of which nothing is in this store; retries, which name the job they repeat in their first event

with recursive linked as (
    select tenant_id, job_id, line ->> '$.data.continued_as' as next
    from events
    where line ->> '$.type' = 'run_continued'
), before as (
    select $job_id as job_id, 0 as back
    union all
    select l.job_id, b.back + 1 from before b join linked l on l.next = b.job_id where b.back < 100000
), after as (
    select arg_max(job_id, back) as job_id, 1 as run from before
    union all
    select l.next, a.run + 1 from after a join linked l on l.job_id = a.job_id where a.run < 100000
)

select
    e.tenant_id, e.job_id, any_value(a.run)::bigint as run, count(*) as events,
    min((e.line ->> '$.at')::bigint) as first_at, max((e.line ->> '$.at')::bigint) as last_at,
    lower(hex(arg_max(e.leaf, e.seq))) as head_leaf,
    max(e.line ->> '$.data.continued_as') as continued_as
from after a join events e on e.job_id = a.job_id
group by e.tenant_id, e.job_id
order by run
