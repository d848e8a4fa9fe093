-- leases/overlap: a job has one holder at a time: a lease begins after the one before it was released or ran out
--
-- violation one row per lease that began while the one before it was still held; `seq` is its job_leased, else 0
-- reads     lease_changes(*), events(tenant_id, job_id, seq, type, epoch)
-- columns   tenant_id VARCHAR, job_id VARCHAR, seq BIGINT, rule VARCHAR, expected VARCHAR, found VARCHAR
-- blind to  renewals, which leave no row: a lease that was renewed and then taken too early; and the last second,
--           since a change is recorded with the beginning of its statement

with leases as (
    select
        tenant_id, job_id, epoch,
        count(*) filter (where change <> 'released') as holders,
        arg_min(change, recorded_at) filter (where change <> 'released') as change,
        min(recorded_at) filter (where change <> 'released') as began_at,
        max(lease_until) filter (where change <> 'released') as until_at,
        bool_or(change = 'released') as released
    from lease_changes
    group by all
), paired as (
    select
        l.*, b.epoch is not null as has_before, coalesce(b.released, false) as before_released, b.until_at as before_until_at,
        coalesce(e.seq, 0) as seq
    from leases l
    left join leases b on b.tenant_id = l.tenant_id and b.job_id = l.job_id and b.epoch = l.epoch - 1
    left join (
        select tenant_id, job_id, epoch, min(seq) as seq from events where type = 'job_leased' group by all
    ) e on e.tenant_id = l.tenant_id and e.job_id = l.job_id and e.epoch = l.epoch
)

select
    tenant_id, job_id, seq, 'epoch ' || epoch || ' was claimed and epoch ' || (epoch - 1) || ' had not been released' as rule,
    'released' as expected, change as found
from paired
where change = 'claimed' and has_before and not before_released
union all
select
    tenant_id, job_id, seq, 'epoch ' || epoch || ' took over before the lease of epoch ' || (epoch - 1) || ' ran out',
    'after ' || before_until_at::varchar, began_at::varchar
from paired
where change = 'taken_over' and not before_released and began_at + interval 1 second < before_until_at
union all
select tenant_id, job_id, seq, 'epoch ' || epoch || ' has two holders', '1', holders::varchar
from paired
where holders > 1
order by tenant_id, job_id, seq, rule
