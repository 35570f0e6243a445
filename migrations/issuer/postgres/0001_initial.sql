-- The issuer's tables. Times are milliseconds since 1970. The first column of every primary key is what the table would be
-- sharded by. No table names a message, a spent token or another person: the issuer knows who registered and who logs in.

create table accounts (
    account             BYTEA   not null primary key, -- 32 bytes: HMAC of the number under a key derived from secret.key; immutable
    phone               TEXT    not null,             -- E.164, in the clear: the certificate and the directory of numbers need it; immutable, and in no other table
    identity_key        BYTEA   not null,             -- 32 bytes, Ed25519: the key that the current certificate is for
    certificate         BYTEA   not null,             -- X.509 DER, as handed out
    certificate_expires BIGINT  not null,             -- end of its validity
    login_salt          BYTEA   not null,             -- 16 bytes, from the client; sent with every challenge
    login_verifier      BYTEA   not null,             -- c_N of the login chain (K7), sealed
    mailbox             BYTEA   not null,             -- 32 random bytes: the mailbox that the last grant was for
    relay               TEXT    not null,             -- name of the relay of that mailbox
    tokens_issued       BIGINT  not null,             -- tokens signed for this account, ever; only grows (M6)
    setup_until         BIGINT  not null,             -- until when the rest of the tokens may be asked for; immutable
    created             BIGINT  not null,             -- first registration; immutable
    registered          BIGINT  not null              -- last registration: what was given out before it is void
);

-- Makes a registration idempotent: the same request gets the same answer, another one with the same cookie is refused.
create table registrations (
    cookie_digest BYTEA   not null primary key, -- SHA-256 of the cookie
    body_digest   BYTEA   not null,             -- SHA-256 of the request as it came
    answer        BYTEA   not null,             -- the response body, sealed
    expires       BIGINT  not null              -- when the row is dropped; never before the cookie has expired
);
create index registrations_expires on registrations (expires);

-- Every token that an account was given a blind signature for. A retry is answered from here and is not counted. No times:
-- they would only help to link.
create table issuances (
    account         BYTEA   not null, -- whose
    blinded_digest  BYTEA   not null, -- SHA-256 of the blinded message
    key_id          BYTEA   not null, -- signed by; the row is dropped with the key
    blind_signature BYTEA   not null, -- 256 bytes
    primary key (account, blinded_digest, key_id)
);
create index issuances_key on issuances (key_id);

-- The live keys for `send` tokens. A state only moves from 'active' to 'retiring'; at not_after the row is deleted.
create table token_keys (
    key_id      BYTEA   not null primary key, -- 32 bytes: SHA-256 of spki; immutable
    state       TEXT    not null,             -- 'active' (signs) or 'retiring' (its tokens are still accepted)
    private_key BYTEA   not null,             -- PKCS#8, sealed; immutable
    spki        BYTEA   not null,             -- public key, 342 bytes; immutable
    created     BIGINT  not null,             -- immutable
    not_after   BIGINT                        -- when its tokens end; null while active
);
create unique index token_keys_one_active on token_keys (state) where state = 'active';

-- What was signed under each key, in the open (design 2.2). Rows outlive their key.
create table key_counters (
    key_id  BYTEA   not null, -- the key
    relay   TEXT    not null, -- '' counts tokens for accounts, a relay's name counts exchanges there
    count   BIGINT  not null, -- only grows
    created BIGINT  not null, -- first use; for the order of the list
    primary key (key_id, relay)
);

-- Blind signatures for exchanges at relays: the same blinded message gets the same signature and is counted once. No times:
-- beside the sessions' they would hint at who exchanged.
create table relay_exchanges (
    blinded_digest  BYTEA   not null, -- SHA-256 of the blinded message
    key_id          BYTEA   not null, -- signed by; the row is dropped with the key
    relay           TEXT    not null, -- who asked first
    blind_signature BYTEA   not null, -- 256 bytes
    primary key (blinded_digest, key_id)
);
create index relay_exchanges_key on relay_exchanges (key_id);

-- Login nonces that were used: a nonce opens at most one session.
create table login_nonces (
    nonce_digest BYTEA   not null primary key, -- SHA-256 of the nonce
    expires      BIGINT  not null              -- when the nonce expires, and the row with it
);
create index login_nonces_expires on login_nonces (expires);

create table sessions (
    session     BYTEA   not null primary key, -- 16 random bytes; immutable
    account     BYTEA   not null,             -- whose; immutable
    session_key BYTEA   not null,             -- 32 bytes, sealed; signs the session's calls; immutable
    label       TEXT    not null,             -- as the owner named it; immutable
    created     BIGINT  not null,             -- immutable
    last_used   BIGINT  not null,             -- last accepted call
    expires     BIGINT  not null,             -- immutable
    seq         BIGINT  not null              -- number of the last accepted call; only grows
);
create index sessions_account on sessions (account);
create index sessions_expires on sessions (expires);

-- Bounded counters (M35): texts sent, codes tried, passwords guessed. A bucket is a keyed hash cut to 20 bits, so the table
-- cannot be filled, and no number or cookie can be read off it.
create table attempts (
    bucket       BIGINT  not null, -- 0 to 2^20 - 1
    scope        TEXT    not null, -- what is counted
    window_start BIGINT  not null, -- the window that the count is for
    count        BIGINT  not null, -- never above the scope's limit
    expires      BIGINT  not null, -- when the window is over and the row is dropped
    primary key (bucket, scope, window_start)
);
create index attempts_expires on attempts (expires);
