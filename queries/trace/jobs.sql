-- trace/jobs: one row a job, as its events tell it
--
-- reads     events(*)
-- columns   tenant_id VARCHAR, job_id VARCHAR, agent VARCHAR, agent_version VARCHAR, status VARCHAR, events BIGINT,
--           calls BIGINT, epochs BIGINT, created_at TIMESTAMP WITH TIME ZONE, last_at TIMESTAMP WITH TIME ZONE,
--           duration_us BIGINT
-- blind to  what the store holds and the lake does not yet

select
    tenant_id, job_id,
    arg_min(line ->> '$.data.agent', seq) as agent,
    arg_min(line ->> '$.data.agent_version', seq) as agent_version,
    case arg_max(type, seq)
        when 'job_created' then 'pending'
        when 'job_waiting' then 'waiting'
        when 'job_parked' then 'parked'
        when 'job_retrying' then 'retrying'
        when 'job_completed' then 'completed'
        when 'job_failed' then 'failed'
        when 'job_cancelled' then 'cancelled'
        else if(max(epoch) > 0, 'running', 'pending')
    end as status,
    count(*) as events,
    count(distinct if(type like 'tool_invocation_%', step, null)) as calls,
    max(epoch) as epochs,
    min(happened_at) as created_at,
    max(happened_at) as last_at,
    epoch_us(max(happened_at)) - epoch_us(min(happened_at)) as duration_us
from events
group by tenant_id, job_id
order by created_at, tenant_id, job_id
