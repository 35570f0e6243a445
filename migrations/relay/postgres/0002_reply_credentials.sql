-- Replies (design §3). Nothing here names a contact: a nullifier is that of one slot in one epoch, and two of them have nothing in
-- common that the relay could see. What the relay must not show to a thief of this file is sealed under a key derived from `secret.key`.

-- By what right a queued message came in: all three are null for a cold send, none is for a reply. The recipient traces by them.
ALTER TABLE messages ADD COLUMN reply_key_version BIGINT;  -- immutable: version of the recipient's group secret
ALTER TABLE messages ADD COLUMN reply_epoch BIGINT         -- immutable: the epoch it was shown for
    CHECK ((reply_epoch IS NULL) = (reply_key_version IS NULL));
ALTER TABLE messages ADD COLUMN presentation BYTEA         -- immutable: 160 bytes, as shown
    CHECK ((presentation IS NULL) = (reply_epoch IS NULL) AND (presentation IS NULL OR length(presentation) = 160));

-- The group secrets of a mailbox: with one the relay checks replies, and could forge them.
CREATE TABLE reply_keys (
    mailbox         BYTEA   NOT NULL,           -- immutable: 32 bytes
    key_version     BIGINT  NOT NULL,           -- immutable: counts the owner's group secrets
    sealed          BYTEA   NOT NULL,           -- immutable: version and root, 33 bytes, sealed for this row: 74 bytes
    PRIMARY KEY (mailbox, key_version),
    CHECK (length(mailbox) = 32)
);

-- One row per slot that was shown, for as long as its epoch may be accepted. Struck ones have a row like all others.
CREATE TABLE reply_nullifiers (
    mailbox         BYTEA   NOT NULL,           -- immutable: 32 bytes
    epoch           BIGINT  NOT NULL,           -- immutable: the epoch it was shown for; the row is dropped with it
    nullifier       BYTEA   NOT NULL,           -- immutable: the first 8 bytes of T
    request_digest  BYTEA   NOT NULL,           -- immutable: SHA-256 of presentation and SHA-512 of the envelope: a retry shows the same
    message         BYTEA   NOT NULL,           -- immutable: what was answered, 32 bytes; also the message's name
    PRIMARY KEY (mailbox, epoch, nullifier),
    CHECK (length(mailbox) = 32 AND length(nullifier) = 8 AND length(request_digest) = 32 AND length(message) = 32)
);

-- The rows of an epoch, to be dropped with it.
CREATE INDEX reply_nullifiers_by_epoch ON reply_nullifiers (epoch);

-- Acknowledging names messages.
CREATE INDEX reply_nullifiers_by_message ON reply_nullifiers (mailbox, message);

-- What vanishes silently: uploaded by the owner, or derived from a revealed seed.
CREATE TABLE reply_strikes (
    mailbox         BYTEA   NOT NULL,           -- immutable: 32 bytes
    epoch           BIGINT  NOT NULL,           -- immutable: the epoch it is struck in; the row is dropped with it
    nullifier       BYTEA   NOT NULL,           -- immutable: 8 bytes
    PRIMARY KEY (mailbox, epoch, nullifier),
    CHECK (length(mailbox) = 32 AND length(nullifier) = 8)
);

-- The rows of an epoch, to be dropped with it.
CREATE INDEX reply_strikes_by_epoch ON reply_strikes (epoch);

-- Seeds that an owner has revealed: in each new epoch the strikes of their slots are derived.
CREATE TABLE reply_reveals (
    mailbox         BYTEA   NOT NULL,           -- immutable: 32 bytes
    key_version     BIGINT  NOT NULL,           -- immutable: the group secret that the credentials are of
    period          BIGINT  NOT NULL,           -- immutable: the period that the seed is of
    digest          BYTEA   NOT NULL,           -- immutable: hash of the seed, so that a reveal counts once: 32 bytes
    last_period     BIGINT  NOT NULL,           -- the row is dropped when this period is over
    slots           BIGINT  NOT NULL,           -- slots per epoch, 1 to 256
    sealed          BYTEA   NOT NULL,           -- version and seed, 33 bytes, sealed for this row: 74 bytes
    expanded_epoch  BIGINT  NOT NULL,           -- the last epoch whose strikes were derived
    PRIMARY KEY (mailbox, key_version, period, digest),
    CHECK (length(mailbox) = 32 AND length(digest) = 32),
    CHECK (last_period >= period AND slots BETWEEN 1 AND 256)
);

-- The rows that are over.
CREATE INDEX reply_reveals_by_last_period ON reply_reveals (last_period);

-- Epochs up to this one have been dropped: nothing can say any more which slots were shown in them, so they must never be
-- accepted again, whatever a clock says. One row. It also says how epochs were counted from the first start on: their numbers stand in
-- credentials, nullifiers and strikes, so a relay that is configured otherwise must not start.
CREATE TABLE reply_fence (
    one             BIGINT  NOT NULL,           -- immutable: 1
    epoch           BIGINT  NOT NULL,           -- never goes back; -1 before the first is dropped
    epoch_seconds   BIGINT,                     -- length of an epoch; null before the first start, then immutable
    period_seconds  BIGINT,                     -- length of a period; likewise
    PRIMARY KEY (one),
    CHECK (one = 1)
);

INSERT INTO reply_fence (one, epoch) VALUES (1, -1);
