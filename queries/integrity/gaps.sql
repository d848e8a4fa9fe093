-- integrity/gaps: a job's events are numbered 1, 2, 3, ... each once, and each line says its own number
--
-- violation one row per event that does not follow its predecessor by one
-- reads     events(tenant_id, job_id, seq, line)
-- columns   tenant_id VARCHAR, job_id VARCHAR, seq BIGINT, rule VARCHAR, expected VARCHAR, found VARCHAR
-- blind to  a tail cut off: only a seal or the store's head knows how many there were

with numbered as (
    select
        tenant_id, job_id, seq, line ->> '$.seq' as told,
        coalesce(lag(seq) over (partition by tenant_id, job_id order by seq), 0) as before
    from events
)

select tenant_id, job_id, seq, 'does not follow the event before' as rule, (before + 1)::varchar as expected, seq::varchar as found
from numbered
where seq is distinct from before + 1
union all
select tenant_id, job_id, seq, 'the line says another seq', seq::varchar, told
from numbered
where told is distinct from seq::varchar
order by tenant_id, job_id, seq, rule
