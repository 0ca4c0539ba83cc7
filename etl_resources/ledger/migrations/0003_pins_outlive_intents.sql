-- A ledger whose intents were lost is rebuilt from the tables, with the same attempts: pins and version numbers that are
-- still there hold again then, instead of standing in the way of a deletion or going with it.
alter table etl.versions drop constraint versions_attempt_fkey;
alter table etl.pins drop constraint pins_attempt_fkey;
