-- limits/kept: no call started before its slot, long after it, or sooner after others than the limit in force let it
--
-- violation one row per start that broke the limit that its own event names
-- reads     events(tenant_id, job_id, seq, type, line)
-- columns   tenant_id VARCHAR, job_id VARCHAR, seq BIGINT, rule VARCHAR, expected VARCHAR, found VARCHAR
-- blind to  calls at once (max_concurrent) and tokens; a start that a worker was killed in before it was on record;
--           an attempt that is made again under its first start record; starts of tenants that this session can't see

-- GCRA lets n starts after the first of a run come no sooner than (n - burst + 1) intervals behind it. So slot minus
-- n intervals must never fall more than (burst - 1) intervals below the highest before it. A run ends where another
-- limit comes into force.
with told as (
    select
        tenant_id, job_id, seq, line -> '$.data.limit' as said,
        -- A call without effect is recorded at its end.
        (line ->> '$.at')::bigint
            - if(type = 'tool_invocation_started', 0, (line ->> '$.data.duration_us')::bigint) as started_us
    from events
    where type in ('tool_invocation_started', 'tool_invocation_finished') and (line -> '$.data.limit') is not null
), starts as (
    select
        tenant_id, job_id, seq, started_us,
        (said ->> '$.kind', said ->> '$.name', if((said ->> '$.scope') = 'tenant', tenant_id, '')) as budget,
        (said ->> '$.interval_ns')::bigint as interval_ns, (said ->> '$.burst')::bigint as burst,
        (said ->> '$.slot_us')::bigint as slot_us
    from told
), marked as (
    select
        *, (lag(interval_ns) over in_turn, lag(burst) over in_turn) is distinct from (interval_ns, burst) as begins
    from starts
    window in_turn as (partition by budget order by slot_us, tenant_id, job_id, seq)
), numbered as (
    select *, count(*) filter (begins) over (partition by budget order by slot_us, tenant_id, job_id, seq) as run
    from marked
), levelled as (
    select
        *, slot_us * 1000 - interval_ns * row_number() over in_run as level_ns
    from numbered
    window in_run as (partition by budget, run order by slot_us, tenant_id, job_id, seq)
), compared as (
    select
        *,
        max(level_ns) over (
            partition by budget, run order by slot_us, tenant_id, job_id, seq
            rows between unbounded preceding and 1 preceding
        ) - (burst - 1) * interval_ns as lowest_ns
    from levelled
)

select
    tenant_id, job_id, seq, 'sooner after others than the limit lets' as rule,
    (slot_us + (lowest_ns - level_ns) // 1000)::varchar as expected, slot_us::varchar as found
from compared
where level_ns < lowest_ns - 2000 -- slots are recorded in whole microseconds
union all
select tenant_id, job_id, seq, 'started before its slot', slot_us::varchar, started_us::varchar
from starts
where started_us < slot_us - 1000 -- a duration is measured by another clock than the slot
union all
-- What is later than its slot by more than an interval (50 ms at least) must have asked anew; a second for the worker.
select tenant_id, job_id, seq, 'started long after its slot', slot_us::varchar, started_us::varchar
from starts
where started_us > slot_us + greatest(interval_ns // 1000, 50000) + 1000000
order by tenant_id, job_id, seq, rule
