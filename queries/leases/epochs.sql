-- leases/epochs: no event is written under a lease already overtaken, and time does not run backwards
--
-- violation one row per event whose epoch or time is below an earlier one's
-- reads     events(tenant_id, job_id, seq, line)
-- columns   tenant_id VARCHAR, job_id VARCHAR, seq BIGINT, rule VARCHAR, expected VARCHAR, found VARCHAR
-- blind to  a stale writer that was refused: it leaves no event

with seen as (
    select
        tenant_id, job_id, seq, (line ->> '$.epoch')::bigint as epoch, (line ->> '$.at')::bigint as at_us,
        lag(epoch) over by_job as epoch_before, lag(at_us) over by_job as at_before
    from (select tenant_id, job_id, seq, line from events)
    window by_job as (partition by tenant_id, job_id order by seq)
)

select tenant_id, job_id, seq, 'the epoch falls' as rule, epoch_before::varchar as expected, epoch::varchar as found
from seen
where epoch < epoch_before or epoch is null
union all
select tenant_id, job_id, seq, 'dated before the event before it', at_before::varchar, at_us::varchar
from seen
where at_us < at_before or at_us is null
order by tenant_id, job_id, seq, rule
