-- Which process does a job that is done beside the requests (ADR 17). Nothing is decided by it. A row appears when a job is first done,
-- and goes when its holder stops in order.
create table leases (
    name   TEXT    not null primary key, -- the job; immutable
    holder BLOB    not null,             -- 16 random bytes, drawn by a process when it starts, or for one build of the directory
    until  INTEGER not null              -- seconds since 1970: from then on anybody may take it
) strict;

-- Building the directory is such a job: when a silent builder may be given up is said there. That it was given up is still said by its
-- state alone.
alter table directory_builds drop column lease_until;
