-- trace/ledger: a job's rows of the tool ledger, transition by transition
--
-- binds     $tenant_id VARCHAR, $job_id VARCHAR
-- reads     ledger(*)
-- columns   seq BIGINT, step BIGINT, attempt INTEGER, tool_name VARCHAR, effect VARCHAR, status VARCHAR, epoch BIGINT,
--           idempotency_key BLOB, args_hash BLOB, result_hash BLOB, outcome VARCHAR
-- blind to  calls that only the events tell of (integrity/ledger)

select seq, step, attempt, tool_name, effect, status, epoch, idempotency_key, args_hash, result_hash, outcome
from ledger
where tenant_id = $tenant_id and job_id = $job_id
order by seq
