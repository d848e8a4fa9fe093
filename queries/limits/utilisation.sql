-- limits/utilisation: how much of a limit's budget was used while someone waited for it
--
-- binds     $kind VARCHAR, $limit VARCHAR, $interval_us BIGINT
-- reads     limit_waits(*)
-- columns   busy_us BIGINT, started BIGINT, wasted BIGINT, possible BIGINT, used DOUBLE
-- blind to  changes of the limit: it reckons with the one interval that it is given

with waits as (
    select epoch_us(asked_at) as from_us, coalesce(epoch_us(started_at), epoch_us(slot_at)) as to_us, outcome
    from limit_waits
    where kind = $kind and name = $limit
), edges as (
    select *, from_us > coalesce(max(to_us) over before, -1) as begins
    from waits
    window before as (order by from_us, to_us rows between unbounded preceding and 1 preceding)
), spans as (
    select min(from_us) as from_us, max(to_us) as to_us
    from (select *, count(*) filter (begins) over (order by from_us, to_us rows unbounded preceding) as span from edges)
    group by span
), busy as (
    select
        coalesce(sum(to_us - from_us), 0)::bigint as busy_us,
        coalesce(sum((to_us - from_us) // $interval_us + 1), 0)::bigint as possible
    from spans
)

select
    busy_us,
    count(*) filter (outcome = 'started') as started,
    count(*) filter (outcome in ('late', 'cancelled')) as wasted,
    any_value(possible) as possible,
    if(any_value(possible) = 0, 0, count(*) filter (outcome = 'started') / any_value(possible))::double as used
from busy left join waits on true
group by busy_us
