-- trace/cells: what was said in a job: each cell's salt and body, or the erasure that took them
--
-- binds     $tenant_id VARCHAR, $job_id VARCHAR
-- reads     cells(tenant_id, job_id, seq, name, salt, body), erasures(*)
-- columns   seq BIGINT, name VARCHAR, salt BLOB, body VARCHAR, audit_seq BIGINT, erased_by VARCHAR, reason VARCHAR
-- blind to  cells that a line commits to and that are nowhere: they have no row (integrity/cells names them)

with kept as (
    select seq, name, salt, body
    from cells
    where tenant_id = $tenant_id and job_id = $job_id
), taken as (
    select seq, name, audit_seq, erased_by, reason
    from erasures
    where tenant_id = $tenant_id and job_id = $job_id
)

select seq, name, salt, body, audit_seq, erased_by, reason
from kept
full join taken using (seq, name)
order by seq, name
