-- What every registration and every exchange adds to is cut into parts, so that they need not wait for each other (ADR 19): one row of a
-- counter is one of 64 parts, drawn at random; the counter is their sum.

-- What was signed under each key, in the open (design 2.2). Rows outlive their key.
create table key_counts (
    key_id  BLOB    not null, -- the key
    relay   TEXT    not null, -- '' counts tokens for accounts, a relay's name counts exchanges there
    part    INTEGER not null, -- 0 to 63
    count   INTEGER not null, -- only grows
    created INTEGER not null, -- first use; for the order of the list
    primary key (key_id, relay, part)
) strict;
insert into key_counts (key_id, relay, part, count, created) select key_id, relay, 0, count, created from key_counters;
drop table key_counters;
