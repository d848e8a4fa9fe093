-- integrity/columns: the columns beside a line say what the line says
--
-- violation one row per column that differs from its line
-- reads     events(tenant_id, job_id, seq, type, step, epoch, happened_at, line)
-- columns   tenant_id VARCHAR, job_id VARCHAR, seq BIGINT, rule VARCHAR, expected VARCHAR, found VARCHAR
-- blind to  a line that was edited (integrity/chain)

with told as (
    select
        tenant_id, job_id, seq,
        unnest([
            {field: 'type', told: line ->> '$.type', kept: type},
            {field: 'step', told: line ->> '$.step', kept: step::varchar},
            {field: 'epoch', told: line ->> '$.epoch', kept: epoch::varchar},
            {field: 'happened_at', told: line ->> '$.at', kept: epoch_us(happened_at)::varchar}
        ], recursive := true)
    from events
)

select tenant_id, job_id, seq, 'column ' || field || ' differs from the line' as rule, told as expected, kept as found
from told
where told is distinct from kept
order by tenant_id, job_id, seq, rule
