-- snapshot_put: keep a snapshot, only where it is of this record and its writer is in time
--
-- Nothing is written unless the job's event at `seq` has this leaf, its lease epoch is the one that
-- was seen when the events were read, that reading is less than `within` seconds ago by this clock,
-- and no snapshot of this seq is there. Of the older ones only the newest `keep` - 1 stay.
WITH kept AS (
    INSERT INTO aetheris.job_snapshots
        (tenant_id, job_id, seq, kind, version, key_id, leaf, body, packed, mac, packed_mac)
    SELECT j.tenant_id, j.job_id, %(seq)s, %(kind)s, %(version)s, %(key_id)s, e.leaf, %(body)s, %(packed)s, %(mac)s,
           %(packed_mac)s
    FROM aetheris.jobs j
    JOIN aetheris.job_events e ON e.tenant_id = j.tenant_id AND e.job_id = j.job_id AND e.seq = %(seq)s
    WHERE j.tenant_id = %(tenant)s AND j.job_id = %(job)s
      AND e.leaf = %(leaf)s
      AND j.lease_epoch = %(epoch)s
      AND clock_timestamp() < to_timestamp(%(read_at_us)s / 1e6) + %(within)s * interval '1 second'
    ON CONFLICT DO NOTHING
    RETURNING tenant_id, job_id, seq
), dropped AS (
    DELETE FROM aetheris.job_snapshots s USING kept k
    WHERE s.tenant_id = k.tenant_id AND s.job_id = k.job_id AND s.seq < k.seq
      AND s.seq NOT IN (
        SELECT o.seq FROM aetheris.job_snapshots o
        WHERE o.tenant_id = k.tenant_id AND o.job_id = k.job_id AND o.seq < k.seq
        ORDER BY o.seq DESC LIMIT %(keep)s - 1)
)
SELECT seq FROM kept
