-- limits/waits: how long calls waited, by limit and tenant
--
-- reads     limit_waits(*)
-- columns   kind VARCHAR, name VARCHAR, tenant_id VARCHAR, asked BIGINT, started BIGINT, refused BIGINT, late BIGINT,
--           cancelled BIGINT, p50_us BIGINT, p95_us BIGINT, longest_us BIGINT
-- blind to  calls of tools that nothing limits; those that a killed worker had waiting

select
    kind, name, tenant_id, count(*) as asked,
    count(*) filter (outcome = 'started') as started,
    count(*) filter (outcome = 'refused') as refused,
    count(*) filter (outcome = 'late') as late,
    count(*) filter (outcome = 'cancelled') as cancelled,
    round(quantile_cont(epoch_us(started_at) - epoch_us(asked_at), 0.50))::bigint as p50_us,
    round(quantile_cont(epoch_us(started_at) - epoch_us(asked_at), 0.95))::bigint as p95_us,
    max(epoch_us(started_at) - epoch_us(asked_at)) as longest_us
from limit_waits
group by all
order by kind, name, tenant_id
