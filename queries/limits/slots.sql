-- limits/slots: the slot under which each call of a limit started, by the event of its start
--
-- binds     $kind VARCHAR, $limit VARCHAR
-- reads     events(tenant_id, job_id, seq, step, type, line)
-- columns   tenant_id VARCHAR, job_id VARCHAR, seq BIGINT, step BIGINT, slot_us BIGINT, began_us BIGINT
-- blind to  waits that came to no start, and what a start waited for after its slot: that is in limits/arrivals

select
    tenant_id, job_id, seq, step, (line ->> '$.data.limit.slot_us')::bigint as slot_us,
    -- A call without effect is recorded at its end.
    (line ->> '$.at')::bigint
        - if(type = 'tool_invocation_started', 0, (line ->> '$.data.duration_us')::bigint) as began_us
from events
where
    type in ('tool_invocation_started', 'tool_invocation_finished')
    and line ->> '$.data.limit.kind' = $kind and line ->> '$.data.limit.name' = $limit
order by slot_us, tenant_id, job_id, seq
