-- The inbox at work: what is sent to a job wakes it, is taken by the lease holder, and is on record from then on.
--
-- WHO WINS, SENDER OR RELEASE
--   A sender counts `jobs.inbox` up in the statement that inserts the row; the holder's append counts it down
--   by what it took. A release sets the time of waking by that count, which PostgreSQL reads again after waiting
--   for the row lock, so a message sent during the release is never slept over. Asking the signals table there
--   instead would see it as it was before the wait.
--
-- CHILDREN
--   The worker that runs a job submits the jobs that this one starts, under the parent's tenant.

ALTER TABLE jobs ADD COLUMN inbox integer NOT NULL DEFAULT 0 CHECK (inbox >= 0);
-- What a job at rest waits for, in words for people: "approval 4", "signal paid", "doubt 4 refund", "paused".
ALTER TABLE jobs ADD COLUMN waits_for text NOT NULL DEFAULT '';
GRANT UPDATE (inbox) ON jobs TO aetheris_app;

ALTER TABLE signals DROP CONSTRAINT signals_kind_check;
ALTER TABLE signals ADD CONSTRAINT signals_kind_check
    CHECK (kind IN ('signal', 'approval', 'cancel', 'pause', 'resume', 'resolve', 'child'));

-- Agents are served in versions: "rebook@4".
ALTER TABLE workers ADD COLUMN versions text[] NOT NULL DEFAULT '{}';

GRANT INSERT ON jobs, signals TO aetheris_worker;
