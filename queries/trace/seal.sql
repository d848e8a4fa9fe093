-- trace/seal: a finished job's seal, and what was made over it
--
-- binds     $tenant_id VARCHAR, $job_id VARCHAR
-- reads     seals(*)
-- columns   seal VARCHAR, dsse VARCHAR, tlog_proof VARCHAR, timestamp BLOB, recorded_at TIMESTAMP WITH TIME ZONE
-- blind to  seals in an evidence package: its verifier reads them, this session does not

select seal, dsse, tlog_proof, "timestamp", recorded_at
from seals
where tenant_id = $tenant_id and job_id = $job_id
