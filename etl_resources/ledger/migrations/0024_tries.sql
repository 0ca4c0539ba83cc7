-- Tries are counted until something is published or looked at, however often the state changes meanwhile.

alter table etl.requests add column since text not null default '';
comment on column etl.requests.since is 'What was published, and which mark waited, at the first try: another one begins to count anew.';
comment on column etl.requests.state is 'Digest of what it would be made from: another one is tried sooner, and once more where it is stuck.';

alter table etl.marks add column first_seen bigint;
update etl.marks set first_seen = seen;
alter table etl.marks alter column first_seen set not null;
comment on column etl.marks.first_seen is 'As seen, of the first mark that no capture has answered.';
