-- invocations/unknown_outcomes: calls whose outcome nobody knows: started or unknown, and not resolved
--
-- binds     $since TIMESTAMPTZ (default the beginning)
-- reads     ledger(*)
-- columns   tenant_id VARCHAR, job_id VARCHAR, step BIGINT, attempt INTEGER, tool_name VARCHAR, status VARCHAR,
--           since TIMESTAMP WITH TIME ZONE
-- blind to  calls after the lake's last round

select
    tenant_id, job_id, step, attempt, arg_max(tool_name, seq) as tool_name, arg_max(status, seq) as status,
    min(recorded_at) as since
from ledger
where effect = 'once'
group by all
having arg_max(status, seq) in ('started', 'unknown') and min(recorded_at) >= coalesce($since::timestamptz, '-infinity'::timestamptz)
order by since, tenant_id, job_id, step, attempt
