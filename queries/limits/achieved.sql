-- limits/achieved: starts per second in each second of a limit's calls, and the most in any one second around it
--
-- binds     $kind VARCHAR, $limit VARCHAR
-- reads     limit_waits(*)
-- columns   second BIGINT, starts BIGINT, most_in_1s BIGINT
-- blind to  starts of which the worker was killed before it could put its wait on record

with starts as (
    select
        epoch_us(started_at) as at_us,
        epoch_us(started_at) - min(epoch_us(started_at)) over () as since_us
    from limit_waits
    where kind = $kind and name = $limit and outcome = 'started'
), windows as (
    select
        since_us // 1000000 as second,
        count(*) over (order by at_us range between current row and 999999 following) as within
    from starts
)

select second, count(*) as starts, max(within) as most_in_1s
from windows
group by second
order by second
