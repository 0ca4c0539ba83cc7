-- What a lookup gave for two contents is what it gives for them again: an unchanged run reads no data file. Lost rows are
-- computed again, so that this is no evidence and is not kept beside the data.
create table etl.lookup_versions (
    definition text not null,
    source     text not null,
    looked_up  text not null,
    version    text not null,
    found_at   timestamptz not null default now(),
    primary key (definition, source, looked_up)
);
comment on column etl.lookup_versions.definition is 'Digest of the lookup: what is looked up, how, and the columns of both tables.';
comment on column etl.lookup_versions.source is 'Content version of the partition whose rows look up.';
comment on column etl.lookup_versions.looked_up is 'Content version of the table in which rows are found.';
comment on column etl.lookup_versions.version is 'Version of the relation: keys, and the hash of them with what was found.';
