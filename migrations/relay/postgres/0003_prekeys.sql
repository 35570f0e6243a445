-- One-time prekeys (ADR 13). All are sealed to the identity key in the printed link; which first message was made with which, nothing
-- here says.

-- One row per mailbox whose owner ever uploaded any: what was taken is never added again, also after it was claimed and forgotten.
CREATE TABLE prekey_supplies (
    mailbox         BYTEA   NOT NULL,           -- immutable: 32 bytes
    batch           BIGINT  NOT NULL,           -- number of the last upload that was taken; never goes back
    digest          BYTEA   NOT NULL,           -- SHA-256 of it: its retry is harmless, another upload under its number is refused
    PRIMARY KEY (mailbox),
    CHECK (length(mailbox) = 32 AND length(digest) = 32 AND batch > 0)
);

-- What nobody has claimed yet. A claim moves a row to `prekey_claims`, in one transaction.
CREATE TABLE prekeys (
    mailbox         BYTEA   NOT NULL,           -- immutable: 32 bytes
    batch           BIGINT  NOT NULL,           -- immutable: the upload that it came in; older ones are handed out first
    position        BIGINT  NOT NULL,           -- immutable: its place in that upload, from 0
    sealed          BYTEA   NOT NULL,           -- immutable: 138 bytes
    PRIMARY KEY (mailbox, batch, position),
    CHECK (length(mailbox) = 32 AND length(sealed) = 138 AND position >= 0)
);

-- What was handed out, for the identical claim to get it again.
CREATE TABLE prekey_claims (
    mailbox         BYTEA   NOT NULL,           -- immutable: 32 bytes
    claim           BYTEA   NOT NULL,           -- immutable: 32 bytes, drawn by whoever claims
    sealed          BYTEA   NOT NULL,           -- immutable: the prekey, 138 bytes
    kept_until      BIGINT  NOT NULL,           -- immutable: Unix seconds, a whole hour: it shall not say when somebody began to write
    PRIMARY KEY (mailbox, claim),
    CHECK (length(mailbox) = 32 AND length(claim) = 32 AND length(sealed) = 138)
);

-- Retention walks the claims by age.
CREATE INDEX prekey_claims_by_age ON prekey_claims (kept_until, mailbox, claim);
