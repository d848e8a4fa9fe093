-- integrity/moves: a job moves only as its states allow, and nothing follows its end
--
-- violation one row per event that moves the job where it may not go
-- reads     events(tenant_id, job_id, seq, line)
-- columns   tenant_id VARCHAR, job_id VARCHAR, seq BIGINT, rule VARCHAR, expected VARCHAR, found VARCHAR
-- blind to  moves that no event tells of (a worker's release without one)

with legal (before, after) as (
    values
        ('pending', 'pending'), ('pending', 'running'), ('pending', 'cancelled'), ('pending', 'waiting'), ('pending', 'parked'),
        ('running', 'running'), ('running', 'completed'), ('running', 'failed'), ('running', 'cancelled'),
        ('running', 'waiting'), ('running', 'parked'), ('running', 'retrying'),
        ('waiting', 'waiting'), ('waiting', 'running'), ('waiting', 'failed'), ('waiting', 'cancelled'), ('waiting', 'parked'),
        ('parked', 'running'), ('parked', 'cancelled'), ('parked', 'waiting'),
        ('retrying', 'running'), ('retrying', 'failed'), ('retrying', 'cancelled')
), stood as (
    select
        tenant_id, job_id, seq,
        case line ->> '$.type'
            when 'job_created' then 'pending'
            when 'job_leased' then 'running'
            when 'job_waiting' then 'waiting'
            when 'job_parked' then 'parked'
            when 'job_retrying' then 'retrying'
            when 'job_completed' then 'completed'
            when 'job_failed' then 'failed'
            when 'job_cancelled' then 'cancelled'
            else if((line ->> '$.epoch')::bigint > 0, 'running', 'pending')
        end as after
    from events
), moved as (
    select *, lag(after) over (partition by tenant_id, job_id order by seq) as before
    from stood
)

select tenant_id, job_id, seq, 'the job can not go from ' || before || ' to ' || after as rule, '' as expected, after as found
from moved
where before is not null and not exists (from legal where legal.before = moved.before and legal.after = moved.after)
order by tenant_id, job_id, seq
