-- integrity/runs: runs that go on as one another name each other, and agree on the state between them
--
-- violation one row per run whose successor or predecessor says something else
-- reads     events(tenant_id, job_id, seq, line)
-- columns   tenant_id VARCHAR, job_id VARCHAR, seq BIGINT, rule VARCHAR, expected VARCHAR, found VARCHAR
-- blind to  a run of which nothing is in this store: a package holds one job alone, and a successor is submitted a moment later

with told as (
    select
        tenant_id, job_id, seq,
        line ->> '$.type' as type,
        line ->> '$.data.continued_as' as continued_as,
        line ->> '$.data.continued_from' as continued_from,
        (line ->> '$.data.continued_seq')::bigint as continued_seq,
        line ->> '$.data.continued_state' as continued_state,
        line ->> '$.cells.state' as state
    from events
    where line ->> '$.type' in ('job_created', 'run_continued', 'job_completed')
), gone_on as (
    select * from told where type = 'run_continued'
), begun as (
    select * from told where type = 'job_created'
), here as (
    select distinct tenant_id, job_id from events
)

select g.tenant_id, g.job_id, g.seq, 'the next run does not name this one' as rule, g.job_id as expected,
    coalesce(b.continued_from, '') as found
from gone_on g join begun b on b.tenant_id = g.tenant_id and b.job_id = g.continued_as
where b.continued_from is distinct from g.job_id
union all
select b.tenant_id, b.job_id, b.seq, 'the run before does not name this one', b.job_id, coalesce(g.continued_as, '')
from begun b
join here h on h.tenant_id = b.tenant_id and h.job_id = b.continued_from
left join gone_on g on g.tenant_id = b.tenant_id and g.job_id = b.continued_from
where g.continued_as is distinct from b.job_id
union all
select b.tenant_id, b.job_id, b.seq, 'the run begins with another state than the one before left', g.seq || ' ' || g.state,
    coalesce(b.continued_seq || ' ' || b.continued_state, '')
from begun b join gone_on g on g.tenant_id = b.tenant_id and g.job_id = b.continued_from and g.continued_as = b.job_id
where g.state is distinct from b.continued_state or g.seq is distinct from b.continued_seq
union all
select g.tenant_id, g.job_id, g.seq, 'the run goes on twice', '', g.continued_as
from gone_on g
where exists (from gone_on o where o.tenant_id = g.tenant_id and o.job_id = g.job_id and o.seq < g.seq)
union all
select e.tenant_id, e.job_id, e.seq, 'the run ends as if it went on as another', coalesce(g.continued_as, ''), e.continued_as
from told e left join gone_on g on g.tenant_id = e.tenant_id and g.job_id = e.job_id
where e.type = 'job_completed' and e.continued_as is distinct from g.continued_as
order by tenant_id, job_id, seq, rule
