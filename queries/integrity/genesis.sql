-- integrity/genesis: a job begins with one job_created that binds this tenant and this job
--
-- violation one row per job whose first event is no genesis of it, and per genesis elsewhere
-- reads     events(tenant_id, job_id, seq, line)
-- columns   tenant_id VARCHAR, job_id VARCHAR, seq BIGINT, rule VARCHAR, expected VARCHAR, found VARCHAR
-- blind to  a job whose events are all gone

with told as (
    select
        tenant_id, job_id, seq,
        line ->> '$.type' as type,
        line ->> '$.prev' as prev,
        line ->> '$.data.tenant' as tenant,
        line ->> '$.data.job' as job,
        seq = min(seq) over (partition by tenant_id, job_id) as first
    from events
)

select tenant_id, job_id, seq, 'the first event is not a genesis' as rule, 'job_created' as expected, type as found
from told
where first and type is distinct from 'job_created'
union all
select tenant_id, job_id, seq, 'a second genesis', '', type
from told
where not first and type = 'job_created'
union all
select tenant_id, job_id, seq, 'the genesis names another tenant', tenant_id, tenant
from told
where type = 'job_created' and tenant is distinct from tenant_id
union all
select tenant_id, job_id, seq, 'the genesis names another job', job_id, job
from told
where type = 'job_created' and job is distinct from job_id
union all
select tenant_id, job_id, seq, 'the genesis has a predecessor', repeat('0', 64), prev
from told
where type = 'job_created' and prev is distinct from repeat('0', 64)
order by tenant_id, job_id, seq, rule
