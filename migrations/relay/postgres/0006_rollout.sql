-- Rollout (design 2.5): what is kept of messages that were taken without a token while `enforce` was false. None of them has a ledger row.

-- Such a message is known by its mailbox and envelope, for the identical request to get the identical answer, also after it was read.
CREATE TABLE unenforced (
    mailbox         BYTEA   NOT NULL,           -- immutable: 32 bytes
    message         BYTEA   NOT NULL,           -- immutable: 32 bytes, SHA-256 of mailbox and envelope
    kept_until      BIGINT  NOT NULL,           -- immutable: Unix seconds, a whole day: no earlier than its message is too old
    PRIMARY KEY (mailbox, message),
    CHECK (length(mailbox) = 32 AND length(message) = 32)
);

-- Retention walks them by age.
CREATE INDEX unenforced_by_age ON unenforced (kept_until, mailbox, message);

-- How many there ever were, by why they would have been refused, in parts so that processes do not wait for each other. Published.
CREATE TABLE unenforced_counts (
    reason          TEXT    NOT NULL,           -- immutable: type of the problem
    part            BIGINT  NOT NULL,           -- immutable: from the process that counts, 0 to 63
    counted         BIGINT  NOT NULL,           -- only grows
    PRIMARY KEY (reason, part),
    CHECK (counted > 0)
);
