-- limits/jobs: what each job lost to limits
--
-- binds     $kind VARCHAR, $limit VARCHAR
-- reads     limit_waits(*)
-- columns   tenant_id VARCHAR, job_id VARCHAR, calls BIGINT, waited_us BIGINT, longest_us BIGINT, refused BIGINT
-- blind to  time that calls of one job waited side by side: it is counted for each

select
    tenant_id, job_id, count(*) as calls,
    coalesce(sum(epoch_us(started_at) - epoch_us(asked_at)), 0)::bigint as waited_us,
    max(epoch_us(started_at) - epoch_us(asked_at)) as longest_us,
    count(*) filter (outcome = 'refused') as refused
from limit_waits
where ($kind is null or kind = $kind) and ($limit is null or name = $limit)
group by all
order by waited_us desc, tenant_id, job_id
