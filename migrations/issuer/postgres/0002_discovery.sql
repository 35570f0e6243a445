-- Contact discovery (design 5): look-up tokens and what they were spent on. Nothing here ties a look-up to an account: the
-- first two tables know accounts and blinded batches, the third knows tokens and requests, and only the client can join them.

-- How many look-up tokens an account has had. One row per account, kept for as long as the account's number is remembered.
create table lookup_allowance (
    account      BYTEA   not null primary key, -- whose
    first_window BIGINT  not null,             -- the first window that it asked in, where its quota is larger; immutable
    time_window  BIGINT  not null,             -- the last window that it asked in; only grows
    issued       BIGINT  not null              -- tokens issued in time_window; never above that window's quota
);

-- Batches of look-up tokens that were counted: the identical request is answered again and not counted.
create table lookup_issuances (
    account        BYTEA   not null, -- whose
    request_digest BYTEA   not null, -- SHA-256 of the request as it came
    time_window    BIGINT  not null, -- issued under this window's key; the row is dropped with it
    count          BIGINT  not null, -- tokens in the batch
    primary key (account, request_digest)
);
create index lookup_issuances_window on lookup_issuances (time_window);

-- Look-up tokens that were spent. No times but the window, which the token's key says anyway.
create table lookup_spent (
    nullifier      BYTEA   not null primary key, -- 32 bytes: hash of the token's input
    time_window    BIGINT  not null,             -- the window of the token; the row is dropped with it, behind the fence
    request_digest BYTEA   not null,             -- SHA-256 of the request that it was spent in: the identical one is answered again
    oprf_epoch     BIGINT  not null              -- the key that the request is evaluated with, also when it is repeated
);
create index lookup_spent_window on lookup_spent (time_window);

-- Windows up to this one are refused whatever the clock says: their rows in lookup_spent are gone, or may be.
create table lookup_fence (
    id          BIGINT  not null primary key, -- always 1
    time_window BIGINT  not null              -- the last window that is over; only grows
);
insert into lookup_fence (id, time_window) values (1, -1);

-- Epochs of the VOPRF's key, which is derived from secret.key. Without a row it is epoch 1.
create table oprf_epochs (
    epoch   BIGINT  not null primary key, -- from 2 on; the greatest one is for the next build of the directory
    created BIGINT  not null              -- when it was asked for
);

-- Who can be found. An account that is not 'active' is as good as none, but that its number has had its tokens; registering
-- again makes it active.
alter table accounts add column listed BIGINT  not null default 1;     -- whether it is in the directory, from the next build on: 1 or 0
alter table accounts add column state  TEXT    not null default 'active'; -- 'active'; 'deleted' (by the owner: what it held is erased); 'revoked' (by the operator)

-- Builds of the directory. A state only moves forward, from 'building' to 'published' or 'abandoned'; numbers are never used
-- twice. One process builds at a time.
create table directory_builds (
    build       BIGINT  not null primary key, -- counts up; immutable
    state       TEXT    not null,             -- 'building'; 'published', when all its files are there; 'abandoned', when its builder was silent for too long
    holder      BYTEA   not null,             -- 16 random bytes: the builder; immutable
    lease_until BIGINT  not null,             -- when a silent builder is given up
    oprf_epoch  BIGINT  not null,             -- the VOPRF's key; immutable
    created     BIGINT  not null,             -- when it was begun; immutable
    manifest    BYTEA                         -- as served; null until it is published, and immutable from then on
);
create unique index directory_builds_one_building on directory_builds (state) where state = 'building';

-- The files of builds, as served; immutable. In the database, so that any number of processes serve the same bytes. Nothing in
-- them can be read without the VOPRF's output for a number.
create table directory_files (
    build  BIGINT  not null, -- of this build; the row is dropped with it
    kind   TEXT    not null, -- 'fingerprints', 'records', 'filter', 'delta'; or 'entries', which is not served: what the next delta is made from
    bucket BIGINT  not null, -- 0 for files that are not of a bucket
    digest BYTEA   not null, -- 32 bytes: SHA-256 of bytes, which caches know the file by
    bytes  BYTEA   not null, -- the file
    primary key (build, kind, bucket)
);

-- The log of everything that must be the same for everybody: manifests, directories of token keys, look-up keys. Append-only;
-- its tree and its heads are computed from it. Small: a few rows a day.
create table key_log (
    place     BIGINT  not null primary key, -- from 0, without gaps; immutable
    leaf_hash BYTEA   not null,             -- 32 bytes, RFC 6962; nothing is logged twice; immutable
    leaf      BYTEA   not null              -- kind and bytes, as they were shown; immutable
);
create unique index key_log_hash on key_log (leaf_hash);
