-- walls: what stands open between tenants, one row each; none is a whole wall
--
-- Reads the catalog alone, so that it costs a few milliseconds on any size of store. "tables" are those of the
-- tenants: every table of the schema but the ones that belong to the deployment, by name.
WITH tables AS (
    SELECT c.oid, c.relname, c.relowner, c.relrowsecurity, c.relforcerowsecurity
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'aetheris' AND c.relkind IN ('r', 'p') AND c.relname <> ALL (%(without_tenant)s)
), app AS (
    SELECT oid FROM pg_roles WHERE rolname = 'aetheris_app'
), policies AS (
    SELECT t.relname, p.polname, p.polcmd,
           coalesce(pg_get_expr(p.polqual, p.polrelid), '') AS reads,
           coalesce(pg_get_expr(p.polwithcheck, p.polrelid), '') AS writes
    FROM tables t JOIN pg_policy p ON p.polrelid = t.oid
    WHERE p.polroles @> ARRAY[0::oid] OR p.polroles && ARRAY(SELECT oid FROM app)
)
SELECT 'row-level security is off on ' || relname AS open FROM tables WHERE NOT relrowsecurity
UNION ALL
SELECT 'row-level security is not forced on ' || relname FROM tables WHERE relrowsecurity AND NOT relforcerowsecurity
UNION ALL
SELECT relname || ' belongs to ' || pg_get_userbyid(relowner) || ', not to aetheris_owner'
FROM tables WHERE pg_get_userbyid(relowner) <> 'aetheris_owner'
UNION ALL
-- A policy of the app that does not name the tenant lets it see, or write, everybody's rows.
SELECT 'policy ' || polname || ' on ' || relname || ' is not bound to the tenant' FROM policies
WHERE (polcmd <> 'a' AND reads NOT LIKE '%%aetheris.tenant%%')
   OR (polcmd IN ('a', '*') AND writes NOT LIKE '%%aetheris.tenant%%')
   OR (polcmd = 'w' AND writes <> '' AND writes NOT LIKE '%%aetheris.tenant%%')
UNION ALL
SELECT relname || ' has no policy for the app' FROM tables t
WHERE has_table_privilege('aetheris_app', t.oid, 'SELECT') AND NOT EXISTS (SELECT FROM policies p WHERE p.relname = t.relname)
UNION ALL
SELECT 'the app may ' || lower(verb) || ' ' || t.relname FROM tables t, unnest(ARRAY['DELETE', 'TRUNCATE', 'TRIGGER', 'REFERENCES']) AS verb
WHERE has_table_privilege('aetheris_app', t.oid, verb)
UNION ALL
SELECT t.relname || ' is not keyed by tenant first (' || i.relname || ')'
FROM tables t JOIN pg_index x ON x.indrelid = t.oid AND x.indisunique JOIN pg_class i ON i.oid = x.indexrelid
JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = x.indkey[0]
WHERE a.attname <> 'tenant_id'
UNION ALL
SELECT rolname || ' is ' || CASE WHEN rolsuper THEN 'superuser' WHEN rolbypassrls THEN 'beyond row-level security'
                                 WHEN rolreplication THEN 'a replication role' ELSE 'able to make roles' END
FROM pg_roles
WHERE rolname IN ('aetheris_app', 'aetheris_worker', 'aetheris_mirror') AND (rolsuper OR rolbypassrls OR rolreplication OR rolcreaterole)
UNION ALL
SELECT m.rolname || ' may act as ' || r.rolname
FROM pg_roles m, pg_roles r
WHERE m.rolname IN ('aetheris_app', 'aetheris_worker', 'aetheris_mirror') AND m.oid <> r.oid
  AND (r.rolname LIKE 'aetheris\_%%' OR r.rolsuper) AND pg_has_role(m.oid, r.oid, 'MEMBER')
ORDER BY 1
