-- What a process has written for readers to see: the others look at the mailboxes for which their own readers wait when one of these
-- numbers has changed, and not before (ADR 18). A row appears with the first message that a process takes, and goes a day after the last.
CREATE TABLE bells (
    process         BYTEA    NOT NULL,           -- immutable: 16 random bytes, drawn by a process when it starts
    rung            BIGINT  NOT NULL,           -- how many groups of messages it has taken, and mailboxes closed
    rung_at         BIGINT  NOT NULL,           -- Unix seconds
    PRIMARY KEY (process),
    CHECK (length(process) = 16)
);
