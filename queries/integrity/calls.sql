-- integrity/calls: every attempt of a call moves as its effect allows: one start, one end, no doubt skipped
--
-- violation one row per ledger transition that may not follow the one before it, and per attempt that
--           begins without the attempt before it
-- reads     ledger(tenant_id, job_id, seq, step, attempt, effect, status)
-- columns   tenant_id VARCHAR, job_id VARCHAR, seq BIGINT, rule VARCHAR, expected VARCHAR, found VARCHAR
-- blind to  a call that neither events nor ledger tell of

with legal (effect, before, after) as (
    values
        ('none', '', 'committed'), ('none', '', 'failed'),
        ('idempotent', '', 'started'), ('idempotent', 'started', 'committed'), ('idempotent', 'started', 'failed'),
        ('once', '', 'started'), ('once', 'started', 'committed'), ('once', 'started', 'failed'), ('once', 'started', 'unknown'),
        ('once', 'unknown', 'confirmed'), ('once', 'unknown', 'resolved')
), moved as (
    select *, coalesce(lag(status) over (partition by tenant_id, job_id, step, attempt order by seq), '') as before
    from ledger
)

select
    tenant_id, job_id, seq,
    'step ' || step || ' attempt ' || attempt || ' (' || effect || ') can not go from '
        || if(before = '', 'nothing', before) || ' to ' || status as rule,
    '' as expected, status as found
from moved
where not exists (from legal where legal.effect = moved.effect and legal.before = moved.before and legal.after = moved.status)
union all
select tenant_id, job_id, seq, 'step ' || step || ' attempt ' || attempt || ' without the attempt before it', '', status
from moved
where before = '' and attempt <> 1
  and not exists (
    from ledger l
    where l.tenant_id = moved.tenant_id and l.job_id = moved.job_id and l.step = moved.step and l.attempt = moved.attempt - 1
  )
order by tenant_id, job_id, seq, rule
