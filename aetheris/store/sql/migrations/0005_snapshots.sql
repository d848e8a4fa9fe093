-- Snapshots at work: the fold that everybody may read, beside what a replay needs.
--
-- WHAT A ROW HOLDS
--   body    the fold up to `seq` (status, steps, results' commitments) as JSON: the lake gets it as it is, and it
--           holds nothing that could ever have to be erased.
--   packed  what a worker replays from instead of the events up to `seq`, compressed. It holds the cells' bodies,
--           so erasing a cell deletes the job's snapshots (store/snapshots.py).
--   mac, packed_mac  HMACs under the deployment's key `key_id` over tenant, job, seq, leaf, version and either part.
--
-- WHO MAY WRITE ONE
--   Any worker, for a job that anybody or nobody holds. The insert (sql/snapshot_put.sql) compares: the event at `seq`
--   has this leaf, the job's lease epoch is what it was when its events were read, and that was less than a lease ago
--   by this clock. A worker paused for longer writes nothing.
--
-- `asked` is a snapshot that a person asked for.

-- The defaults make a row from before what it is: one that matches no HMAC, and is passed over.
ALTER TABLE job_snapshots
    ADD COLUMN key_id smallint NOT NULL DEFAULT 0,
    ADD COLUMN packed bytea NOT NULL DEFAULT '',
    ADD COLUMN packed_mac bytea NOT NULL DEFAULT '';
-- Compressed already: PostgreSQL must not try again.
ALTER TABLE job_snapshots ALTER COLUMN packed SET STORAGE EXTERNAL;
ALTER TABLE job_snapshots DROP CONSTRAINT job_snapshots_kind_check;
ALTER TABLE job_snapshots ADD CONSTRAINT job_snapshots_kind_check CHECK (kind IN ('timer', 'checkpoint', 'asked'));
GRANT DELETE ON job_snapshots TO aetheris_worker;
