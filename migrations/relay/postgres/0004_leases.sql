-- Which process does a job that is done beside the requests (ADR 17). Nothing is decided by it. A row appears when a job is first done,
-- and goes when its holder stops in order.
CREATE TABLE leases (
    name            TEXT    NOT NULL,           -- immutable: the job
    holder          BYTEA   NOT NULL,           -- 16 random bytes, drawn by a process when it starts
    until           BIGINT  NOT NULL,           -- Unix seconds: from then on anybody may take it
    PRIMARY KEY (name),
    CHECK (length(holder) = 16)
);
