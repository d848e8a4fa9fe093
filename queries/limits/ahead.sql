-- limits/ahead: who waited for whom: for each call that waited, whose starts came between its ask and its own start
--
-- binds     $kind VARCHAR, $limit VARCHAR
-- reads     limit_waits(*)
-- columns   tenant_id VARCHAR, ahead_tenant_id VARCHAR, waits BIGINT, starts_ahead BIGINT, ahead_each DOUBLE
-- blind to  slots that were wasted in between

with starts as (
    select tenant_id, job_id, asked_at, started_at
    from limit_waits
    where kind = $kind and name = $limit and outcome = 'started'
)

select
    w.tenant_id, a.tenant_id as ahead_tenant_id,
    count(distinct (w.job_id, w.asked_at)) as waits,
    count(*) as starts_ahead,
    round(count(*) / count(distinct (w.job_id, w.asked_at)), 2)::double as ahead_each
from starts w
join starts a on a.started_at > w.asked_at and a.started_at < w.started_at
group by w.tenant_id, a.tenant_id
order by w.tenant_id, a.tenant_id
