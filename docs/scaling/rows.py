#!/usr/bin/env python3
"""What a row takes with its indexes, in bytes, on PostgreSQL and on SQLite: `python3 docs/scaling/rows.py`, some minutes.

The tables are those of the migrations, filled with rows as the servers write them: random keys in random order, real lengths. On PostgreSQL
it is `pg_total_relation_size` after VACUUM, so pages, TOAST and half-full index pages count; on SQLite the pages of `dbstat`. docs/scaling/costs.py
has the numbers that this printed.
"""

import os
import pathlib
import random
import sqlite3
import tempfile

from postgres import Postgres

MIGRATIONS = pathlib.Path(__file__).parents[2] / "migrations"
MANY, FEW = 200_000, 20_000
MONTH = 30 * 86_400

# Lengths of what is opaque, as two people with the command wrote it to real servers: bytes.
CARD = 4096
CERTIFICATE = 388
REGISTRATION_ANSWER = 2859
SEALED_VERIFIER = 73

KEYS = [os.urandom(32) for _ in range(2)]


def blob(length):
    return os.urandom(length)


def now():
    return 1_790_000_000 + random.randrange(MONTH)


# server, table, what the row is, how many, columns, one row
ROWS = [
    ("relay", "mailboxes", "", MANY, "mailbox queued_messages queued_bytes arrivals", lambda: [blob(32), 3, 12_288, 900]),
    ("relay", "cards", "", FEW, "mailbox card", lambda: [blob(32), blob(CARD)]),
    ("relay", "ledger", "attached", MANY, "nullifier key_id token_digest state mailbox envelope_digest",
     lambda: [blob(32), KEYS[0], blob(32), "attached", blob(32), blob(32)]),
    ("relay", "ledger", "exchanged", MANY,
     "nullifier key_id token_digest state mailbox envelope_digest blinded_digest new_key_id blind_signature",
     lambda: [blob(32), KEYS[0], blob(32), "exchanged", blob(32), blob(32), blob(32), KEYS[1], blob(256)]),
    ("relay", "messages", "first, 4 KiB", FEW, "mailbox message position arrived_at size envelope",
     lambda: [blob(32), blob(32), 17, now(), 4096, blob(4096)]),
    ("relay", "messages", "reply, 4 KiB", FEW,
     "mailbox message position arrived_at size envelope reply_key_version reply_epoch presentation",
     lambda: [blob(32), blob(32), 17, now(), 4096, blob(4096), 1, 500_000, blob(160)]),
    ("relay", "messages", "reply, 16 KiB", FEW // 4,
     "mailbox message position arrived_at size envelope reply_key_version reply_epoch presentation",
     lambda: [blob(32), blob(32), 17, now(), 16_384, blob(16_384), 1, 500_000, blob(160)]),
    ("relay", "reply_keys", "", MANY, "mailbox key_version sealed", lambda: [blob(32), 1, blob(74)]),
    ("relay", "reply_nullifiers", "", MANY, "mailbox epoch nullifier request_digest message",
     lambda: [blob(32), 500_000 + random.randrange(2), blob(8), blob(32), blob(32)]),
    ("relay", "reply_strikes", "", MANY, "mailbox epoch nullifier", lambda: [blob(32), 500_000 + random.randrange(2), blob(8)]),
    ("relay", "prekey_supplies", "", MANY, "mailbox batch digest", lambda: [blob(32), 3, blob(32)]),
    ("relay", "prekeys", "a hundred a mailbox", MANY, "mailbox batch position sealed", None),
    ("relay", "prekey_claims", "", MANY, "mailbox claim sealed kept_until", lambda: [blob(32), blob(32), blob(138), now() // 3600 * 3600]),
    ("issuer", "accounts", "", MANY,
     "account phone identity_key certificate certificate_expires login_salt login_verifier mailbox relay tokens_issued setup_until created registered",
     lambda: [blob(32), f"+4179{random.randrange(10**7):07}", blob(32), blob(CERTIFICATE), now() * 1000, blob(16), blob(SEALED_VERIFIER), blob(32),
              "relay.example", 5, now() * 1000, now() * 1000, now() * 1000]),
    ("issuer", "issuances", "", MANY, "account blinded_digest key_id blind_signature", lambda: [blob(32), blob(32), KEYS[0], blob(256)]),
    ("issuer", "registrations", "", FEW, "cookie_digest body_digest answer expires",
     lambda: [blob(32), blob(32), blob(REGISTRATION_ANSWER), now() * 1000]),
    ("issuer", "relay_exchanges", "", MANY, "blinded_digest key_id relay blind_signature",
     lambda: [blob(32), KEYS[0], "relay.example", blob(256)]),
    ("issuer", "login_nonces", "", MANY, "nonce_digest expires", lambda: [blob(32), now() * 1000]),
    ("issuer", "sessions", "", MANY, "session account session_key label created last_used expires seq",
     lambda: [blob(16), blob(32), blob(73), "postern", now() * 1000, now() * 1000, now() * 1000, 200]),
    ("issuer", "lookup_allowance", "", MANY, "account first_window time_window issued", lambda: [blob(32), 20_000, 20_600, 50]),
    ("issuer", "lookup_issuances", "", MANY, "account request_digest time_window count", lambda: [blob(32), blob(32), 20_600, 50]),
    ("issuer", "lookup_spent", "", MANY, "nullifier time_window request_digest oprf_epoch", lambda: [blob(32), 20_600, blob(32), 1]),
]


def rows(entry):
    _, _, _, count, _, one = entry
    if one:
        return [one() for _ in range(count)]
    boxes = [blob(32) for _ in range(count // 100)]
    return [[box, 3, position, blob(138)] for box in boxes for position in range(100)]


def literal(value):
    return "\\\\x" + value.hex() if isinstance(value, bytes) else str(value)


def on_postgres(server, entry, filled):
    database, table, _, count, columns, _ = entry
    server.psql("postgres", "drop database if exists fill")
    server.psql("postgres", "create database fill")
    for file in sorted((MIGRATIONS / database / "postgres").glob("*.sql")):
        server.psql("fill", None, data=file.read_text())
    lines = "\n".join("\t".join(map(literal, row)) for row in filled)
    server.psql("fill", f"copy {table} ({', '.join(columns.split())}) from stdin", data=lines + "\n")
    server.psql("fill", f"vacuum analyze {table}")
    return postgres_size(server, table) / count


def postgres_size(server, table):
    return int(server.psql("fill", f"select pg_total_relation_size('{table}')"))


def lived(server):
    """The ledger on PostgreSQL after each row has gone from state to state, a tenth of them at a time, and was vacuumed after each tenth."""
    entry = next(entry for entry in ROWS if entry[1:3] == ("ledger", "attached"))
    on_postgres(server, entry, rows(entry))
    steps = ["state = 'released'", "state = 'exchanging', blinded_digest = sha256(nullifier), new_key_id = key_id",
             "state = 'exchanged', blind_signature = decode(repeat('5a', 256), 'hex')"]
    for tenth in range(10):
        for step in steps:
            server.psql("fill", f"update ledger set {step} where get_byte(nullifier, 31) % 10 = {tenth}")
        server.psql("fill", "vacuum analyze ledger")
    return postgres_size(server, "ledger") / entry[3]


def on_sqlite(entry, filled):
    database, table, _, count, columns, _ = entry
    with tempfile.TemporaryDirectory() as directory:
        db = sqlite3.connect(pathlib.Path(directory) / "fill.db")
        for file in sorted((MIGRATIONS / database / "sqlite").glob("*.sql")):
            db.executescript(file.read_text())
        size = f"select sum(pgsize) from dbstat where name in (select name from sqlite_schema where tbl_name = '{table}')"
        names = columns.split()
        db.executemany(f"insert into {table} ({', '.join(names)}) values ({', '.join('?' * len(names))})", filled)
        db.commit()
        bytes_in_all = db.execute(size).fetchone()[0]
        db.close()
        return bytes_in_all / count


def main():
    random.seed(1)
    print("| server | a row of | PostgreSQL, bytes | SQLite, bytes |\n|---|---|---|---|")
    with Postgres() as server:
        for entry in ROWS:
            filled = rows(entry)
            name = f"`{entry[1]}`" + (f", {entry[2]}" if entry[2] else "")
            print(f"| {entry[0]} | {name} | {on_postgres(server, entry, filled):,.0f} | {on_sqlite(entry, filled):,.0f} |", flush=True)
        print(f"| relay | `ledger`, exchanged, after its life | {lived(server):,.0f} | – |")


if __name__ == "__main__":
    main()
