-- trace/lines: a job's event lines, to the byte and in order
--
-- binds     $tenant_id VARCHAR, $job_id VARCHAR
-- reads     events(tenant_id, job_id, seq, line)
-- columns   seq BIGINT, line VARCHAR
-- blind to  what the store holds and the lake does not yet

select seq, line
from events
where tenant_id = $tenant_id and job_id = $job_id
order by seq
