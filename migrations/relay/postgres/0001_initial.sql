-- The relay's tables (design §2.1, §2.2, §6, §9). Nothing here names a sender, a phone number or an account.
--
-- Portable to a sharded PostgreSQL: the first column of a primary key is the shard key (nullifier, or mailbox), ids are made by
-- the program, and there are no sequences, foreign keys or triggers.
-- (On SQLite BIGINT is INTEGER, and BYTEA is BLOB.)

-- One row per open mailbox. Counters are kept with the queue, in the same transactions, so that quota and wake-up cost one row.
CREATE TABLE mailboxes (
    mailbox         BYTEA   NOT NULL,           -- immutable: 32 random bytes, made by the issuer
    queued_messages BIGINT  NOT NULL DEFAULT 0, -- messages in the queue: the quota counts them
    queued_bytes    BIGINT  NOT NULL DEFAULT 0, -- bytes of their envelopes: the quota counts them
    arrivals        BIGINT  NOT NULL DEFAULT 0, -- messages ever queued: a reader that waits sees it move, whichever process wrote
    PRIMARY KEY (mailbox),
    CHECK (length(mailbox) = 32),
    CHECK (queued_messages >= 0 AND queued_bytes >= 0)
);

-- Mailboxes that another one has replaced: an old grant must not open them again. One row per number that registered anew.
CREATE TABLE closed_mailboxes (
    mailbox         BYTEA   NOT NULL,           -- immutable: 32 bytes
    PRIMARY KEY (mailbox),
    CHECK (length(mailbox) = 32)
);

-- The sealed contact card of a mailbox. Apart from `mailboxes`, whose rows change with every message.
CREATE TABLE cards (
    mailbox         BYTEA   NOT NULL,           -- immutable: 32 bytes
    card            BYTEA   NOT NULL,           -- sealed to the identity key in the printed link; 1 to 8192 bytes
    PRIMARY KEY (mailbox),
    CHECK (length(card) BETWEEN 1 AND 8192)
);

-- The queue. A row lives until it is acknowledged, its retention passes, or its mailbox is closed.
CREATE TABLE messages (
    mailbox         BYTEA   NOT NULL,           -- immutable: 32 bytes
    message         BYTEA   NOT NULL,           -- immutable: 32 bytes; for a cold send the token's nullifier
    position        BIGINT  NOT NULL,           -- immutable: the mailbox's `arrivals` when it was queued: the order of reading
    arrived_at      BIGINT  NOT NULL,           -- immutable: Unix seconds, for retention; no finer than that
    size            BIGINT  NOT NULL,           -- immutable: bytes of the envelope, so that counting never reads it
    envelope        BYTEA   NOT NULL,           -- immutable: sealed to the recipient; one of the published sizes
    PRIMARY KEY (mailbox, message),
    CHECK (length(message) = 32 AND size = length(envelope))
);

-- Retention walks the queue by age.
CREATE INDEX messages_by_age ON messages (arrived_at, mailbox, message);

-- The ledger: one row per token that was shown, for as long as its key is live. What is not here is unseen.
--
--   unseen -> attached -> released -> exchanging -> exchanged        attached -> burnt
--   unseen -> exchanging (only while the key is retiring)            exchanging -> where it came from, if the issuer
--                                                                    has refused for good
-- No row says when: order and age of the transitions are nobody's business.
CREATE TABLE ledger (
    nullifier       BYTEA   NOT NULL,           -- immutable: SHA-256 of the token's input; also the message's name
    key_id          BYTEA   NOT NULL,           -- immutable: the key that signed it; the row is dropped with the key
    token_digest    BYTEA   NOT NULL,           -- immutable: SHA-256 of the whole token: a retry shows the same bytes, a forger cannot
    state           TEXT    NOT NULL,           -- attached, released, burnt, exchanging or exchanged
    mailbox         BYTEA,                       -- immutable: where it was spent; null if it never was (exchanged unspent)
    envelope_digest BYTEA,                       -- immutable: SHA-256 of the envelope it paid for; null if it never was spent
    blinded_digest  BYTEA,                       -- SHA-256 of new key and blinded message; from `exchanging` on
    new_key_id      BYTEA,                       -- the key that signs or signed it; from `exchanging` on
    blind_signature BYTEA,                       -- 256 bytes, kept for the identical retry; in `exchanged`
    PRIMARY KEY (nullifier),
    CHECK (length(nullifier) = 32 AND length(key_id) = 32 AND length(token_digest) = 32),
    CHECK (state IN ('attached', 'released', 'burnt', 'exchanging', 'exchanged')),
    CHECK ((mailbox IS NULL) = (envelope_digest IS NULL)),
    CHECK (mailbox IS NOT NULL OR state IN ('exchanging', 'exchanged')),
    CHECK ((blinded_digest IS NOT NULL) = (state IN ('exchanging', 'exchanged'))),
    CHECK ((new_key_id IS NOT NULL) = (state IN ('exchanging', 'exchanged'))),
    CHECK ((blind_signature IS NOT NULL) = (state = 'exchanged'))
);

-- The rows of a key, to be dropped with it.
CREATE INDEX ledger_by_key ON ledger (key_id);

-- The issuer's token keys as last heard, so that a relay can start while the issuer is down.
CREATE TABLE token_keys (
    key_id          BYTEA   NOT NULL,           -- immutable: SHA-256 of `spki`
    spki            BYTEA   NOT NULL,           -- immutable: SubjectPublicKeyInfo, DER
    state           TEXT    NOT NULL,           -- active or retiring
    not_before      BIGINT,                     -- Unix seconds; null: at once
    not_after       BIGINT,                     -- Unix seconds, on retiring keys: accepted until here; null: not known yet
    PRIMARY KEY (key_id),
    CHECK (length(key_id) = 32),
    CHECK (state IN ('active', 'retiring'))
);

-- Keys whose ledger rows have been dropped, with what the rows said: conservation is still to be counted, and such a key
-- must never be accepted again, whatever a clock or the issuer says.
CREATE TABLE retired_keys (
    key_id          BYTEA   NOT NULL,           -- immutable: 32 bytes
    attached        BIGINT  NOT NULL DEFAULT 0, -- rows dropped in each state
    released        BIGINT  NOT NULL DEFAULT 0,
    burnt           BIGINT  NOT NULL DEFAULT 0,
    exchanging      BIGINT  NOT NULL DEFAULT 0,
    exchanged       BIGINT  NOT NULL DEFAULT 0,
    PRIMARY KEY (key_id),
    CHECK (length(key_id) = 32)
);
