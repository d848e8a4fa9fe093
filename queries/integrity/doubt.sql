-- integrity/doubt: no job ends while the outcome of one of its calls is not known
--
-- violation one row per call with an effect that was started or unknown when its job ended
-- reads     events(tenant_id, job_id, seq, line), ledger(tenant_id, job_id, seq, step, attempt, tool_name, effect, status)
-- columns   tenant_id VARCHAR, job_id VARCHAR, seq BIGINT, rule VARCHAR, expected VARCHAR, found VARCHAR
-- blind to  a start that neither events nor ledger tell of, and calls declared idempotent: they may run again

with ended as (
    select tenant_id, job_id, min(seq) as seq, arg_min(line ->> '$.type', seq) as type
    from (select tenant_id, job_id, seq, line from events)
    where line ->> '$.type' in ('job_completed', 'job_failed', 'job_cancelled')
    group by all
), stood as (
    select
        l.tenant_id, l.job_id, e.seq, e.type, l.step, l.attempt,
        arg_max(l.tool_name, l.seq) as tool_name, arg_max(l.status, l.seq) as status
    from ledger l
    join ended e on e.tenant_id = l.tenant_id and e.job_id = l.job_id and l.seq < e.seq
    where l.effect = 'once'
    group by all
)

select
    tenant_id, job_id, seq,
    'the job ended while step ' || step || ' attempt ' || attempt || ' (' || tool_name || ') was ' || status as rule,
    'job_parked' as expected, type as found
from stood
where status in ('started', 'unknown')
order by tenant_id, job_id, seq, rule
