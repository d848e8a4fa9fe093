-- tenancy/find_jobs: jobs by agent, status, a tool that they called, a type of event, and when they were created
--
-- binds     $agent VARCHAR, $status VARCHAR, $tool VARCHAR, $event VARCHAR, $since TIMESTAMPTZ, $until TIMESTAMPTZ;
--           null does not filter
-- reads     events(*), ledger(tenant_id, job_id, tool_name)
-- columns   tenant_id VARCHAR, job_id VARCHAR, agent VARCHAR, status VARCHAR, events BIGINT,
--           created_at TIMESTAMP WITH TIME ZONE, last_at TIMESTAMP WITH TIME ZONE
-- blind to  what the store holds and the lake does not yet

with jobs as (
    select
        tenant_id, job_id,
        arg_min(line ->> '$.data.agent', seq) as agent,
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
        min(happened_at) as created_at,
        max(happened_at) as last_at,
        bool_or(type = $event) as has_event
    from events
    group by tenant_id, job_id
)

select tenant_id, job_id, agent, status, events, created_at, last_at
from jobs
where ($agent is null or agent = $agent)
  and ($status is null or status = $status)
  and ($event is null or has_event)
  and ($since is null or created_at >= $since)
  and ($until is null or created_at < $until)
  and ($tool is null or (tenant_id, job_id) in (select tenant_id, job_id from ledger where tool_name = $tool))
order by created_at desc, tenant_id, job_id
