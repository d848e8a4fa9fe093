-- limits/arrivals: every wait of one limit's calls, in the order in which they asked
--
-- binds     $kind VARCHAR, $limit VARCHAR
-- reads     limit_waits(*)
-- columns   tenant_id VARCHAR, job_id VARCHAR, step BIGINT, attempt INTEGER, asked_us BIGINT, slot_us BIGINT,
--           started_us BIGINT, waited_us BIGINT, outcome VARCHAR
-- blind to  calls of tools that nothing limits: they wait for nothing and have no row

select
    tenant_id, job_id, step, attempt, epoch_us(asked_at) as asked_us, epoch_us(slot_at) as slot_us,
    epoch_us(started_at) as started_us, epoch_us(started_at) - epoch_us(asked_at) as waited_us, outcome
from limit_waits
where kind = $kind and name = $limit
order by asked_at, tenant_id, job_id, step, attempt
