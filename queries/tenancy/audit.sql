-- tenancy/audit: who looked and who acted, in order, as the audit chain tells it
--
-- binds     $tenant_id VARCHAR; null is every tenant in reach
-- reads     audit(*)
-- columns   tenant_id VARCHAR, seq BIGINT, happened_at TIMESTAMP WITH TIME ZONE, actor VARCHAR, action VARCHAR,
--           resource_type VARCHAR, resource_id VARCHAR, success BOOLEAN, status BIGINT, client_ip VARCHAR,
--           request_id VARCHAR
-- blind to  what the store holds and the lake does not yet

select
    tenant_id, seq, happened_at,
    line ->> '$.by' as actor,
    type as action,
    line ->> '$.data.resource_type' as resource_type,
    line ->> '$.data.resource_id' as resource_id,
    (line ->> '$.data.success')::boolean as success,
    (line ->> '$.data.status')::bigint as status,
    line ->> '$.data.client_ip' as client_ip,
    line ->> '$.data.request_id' as request_id
from audit
where ($tenant_id is null or tenant_id = $tenant_id) and type <> 'audit_opened'
order by tenant_id, seq
