#!/usr/bin/env python3
"""What Postern costs at N accounts, from unit costs that were measured and a day that is assumed.

`python3 docs/scaling/costs.py` prints the tables of docs/scaling.md and writes the plots beside this file; `--out DIR` writes them there
instead. All that goes in is in the five tables that follow, each with where it comes from. Only look-ups are elsewhere: lookups.py.
"""

import argparse
import math
import pathlib

import lookups
from plot import Plot, size as size_tick

# Measured by `docs/scaling/operations.py` on two shared cores (AMD EPYC, Zen 4), PostgreSQL 15, 64 at a time: microseconds of one core at
# issuer, relay, and both databases; syncs of both databases' logs; bytes of both logs, whole pages left out; bytes that cross the network
# both ways, TCP's headers included and TLS not. A first message is a token's whole life, a reply is also fetched and acknowledged.
OPERATIONS = {
    # piece of work: (CPU of issuer, relay, issuer's database, relay's; syncs of issuer's, relay's; log of issuer's, relay's; line)
    "registration": (2827, 260, 2760, 233, 2.91, 0.95, 22_142, 334, 7070),
    "first message": (1020, 1190, 1175, 1990, 1.02, 3.39, 2302, 8258, 16_372),
    "reply": (0, 698, 2, 870, 0, 0.91, 0, 7961, 12_296),
    "card": (0, 74, 0, 76, 0, 0, 0, 0, 4445),
    "JWT": (198, 2, 273, 0, 0.67, 0, 150, 0, 942),
}
# Measured by `docs/scaling/rows.py`: bytes of a row with its share of indexes and free space, PostgreSQL 15 and SQLite 3.40.
ROWS = {
    "mailboxes": (172, 94),
    "cards": (5699, 4655),
    "ledger, attached": (300, 279),
    "ledger, exchanged": (675, 606),  # on PostgreSQL after all its states, vacuumed
    "message of 4 KiB": (6133, 4779),  # a reply; a first message takes 184 less
    "message of 16 KiB": (17_714, 17_072),
    "reply_keys": (247, 167),
    "reply_nullifiers": (401, 278),
    "prekey_supplies": (195, 121),
    "prekeys": (351, 242),
    "prekey_claims": (518, 401),
    "accounts": (824, 730),
    "issuances": (570, 542),
    "relay_exchanges": (522, 503),
    "sessions": (357, 261),
    "lookup_allowance": (172, 94),
    "lookup_issuances": (248, 175),
    "lookup_spent": (210, 135),
}
# Measured by `cargo bench --bench readers` on PostgreSQL, ten thousand readers at one relay, the machine not quiet: bytes of memory, and
# microseconds of a core a second, of one who waits; before ADR 18, so each look is at all of them, as at a relay of several busy processes
# it still is. A heartbeat's bytes are TCP's, TLS's and its own, every 15 seconds; counted.
READER = {"memory": 65_000, "relay": 5.0, "database": 5.8, "heartbeat": 75}
# From elsewhere.
KNOWN = {
    "handshake": 152.0,  # µs of TLS for a new connection, at a proxy: measured once on such a machine
    "handshake_bytes": 5000,  # assumed: a short chain of certificates
    "lookup": 2 * 273.0,  # µs of the issuer's database for issuing and spending a look-up token: taken to be a JWT's each
    "index": 90,  # bytes of an entry of 32 bytes in a B-tree that is two thirds full; 130 of one of 64
    "checkpoint": 300,  # seconds between two of them: PostgreSQL's default. Within them a page is written, and put into the log whole, once
}
# Assumed.
DAY = {
    "first": 0.2,  # first messages an account sends
    "returned": 0.9,  # of their tokens come back
    "replies": 40.0,  # messages to contacts
    "online": 0.15,  # of all accounts wait at a relay at a time, on the average of a day; half as many more at the peak
    "new": lookups.ASSUMED["new_a_day"],
    "waits": 0.25,  # days that a message waits for its recipient
    "large": 0.05,  # of all envelopes have 16 KiB, the others 4
    "sessions": 1.3,  # of an account
    "rotation": 180,  # days from one token key to the next; its rows stay 30 days longer
    "overlap": 30,
}
PEAK = 3.0  # the busiest second beside the average one
# What a machine bears, assumed: half of its cores, so that another one may fail.
MACHINE = {"cores": 16 * 0.5, "memory": 48e9, "network": 5e9 / 8}
DATABASE = {"cores": 32 * 0.5, "storage": 8e12, "pages": 100_000, "log": 400e6}
CLUSTER = 2.0  # work of a statement on more than one database machine, beside one; assumed
ONE_ROW = 1000  # updates of one row a second: a commit of 1 ms each
PARTS = 64  # rows of one counter (issuer/src/db/parts.rs)
BUILDER = {"memory": 512e9, "seconds": 86_400}

SECONDS = 86_400
ACCOUNTS = [round(10 ** (n / 4)) for n in range(16, 37)]
SHOWN = [10**6, 10**8, 10**9]


def each_day():
    """Pieces of work a day, of one account."""
    messages = DAY["first"] + DAY["replies"]
    return {
        "registration": DAY["new"],
        "first message": DAY["first"],
        "reply": DAY["replies"],
        # Before every message; a question after a token that is not back yet costs about the same, and there are two of them a token.
        "card": messages + 2 * DAY["first"],
        "JWT": DAY["online"] * 144,
    }


def a_second(accounts):
    return {work: n * accounts * PEAK / SECONDS for work, n in each_day().items()}


def anonymous(accounts):
    """Requests a second on connections of their own: a message, its card, a prekey, an exchange, a question, a look-up in two steps."""
    day = 2 * (DAY["first"] + DAY["replies"]) + 5 * DAY["first"] + 2 * lookups.ASSUMED["lookups_a_day"]
    return day * accounts * PEAK / SECONDS


def online(accounts):
    """Readers that wait, at the peak."""
    return min(1.0, DAY["online"] * 1.5) * accounts


def storage(accounts, engine=0):
    """Bytes by database and what they are for."""
    rows = {name: both[engine] for name, both in ROWS.items()}
    kept = DAY["rotation"] + DAY["overlap"]
    waiting = (DAY["first"] + DAY["replies"]) * DAY["waits"]
    envelope = DAY["large"] * rows["message of 16 KiB"] + (1 - DAY["large"]) * rows["message of 4 KiB"]
    spent = DAY["first"] * kept
    ledger = DAY["returned"] * rows["ledger, exchanged"] + (1 - DAY["returned"]) * rows["ledger, attached"]
    a_window = 25 / 24 * lookups.ASSUMED["lookups_a_day"]
    files = lookups.UNITS["record"] + lookups.UNITS["fingerprint"]
    of_one = {
        "relay": {
            "one-time prekeys": 100 * rows["prekeys"] + rows["prekey_supplies"] + DAY["first"] * rows["prekey_claims"],
            "messages that wait": waiting * envelope,
            "ledger of tokens": spent * ledger,
            "mailbox, card, keys": rows["mailboxes"] + rows["cards"] + rows["reply_keys"],
            "used reply slots": DAY["replies"] * 1.2 / 24 * rows["reply_nullifiers"],
        },
        "issuer": {
            "exchanged tokens": spent * DAY["returned"] * rows["relay_exchanges"],
            "accounts, sessions": rows["accounts"] + DAY["sessions"] * rows["sessions"] + rows["lookup_allowance"],
            "directory, 8 builds": 8 * files,
            "tokens of new accounts": 5 * min(1.0, DAY["new"] * kept) * rows["issuances"],
            "look-ups": a_window * (rows["lookup_spent"] + rows["lookup_issuances"]),
        },
    }
    return {server: {name: n * accounts for name, n in parts.items()} for server, parts in of_one.items()}


def cores(accounts):
    """Cores that are busy at the peak, by party."""
    rates, waiting = a_second(accounts), online(accounts)
    of = [sum(rates[work] * OPERATIONS[work][n] for work in rates) / 1e6 for n in range(4)]
    units, lookups_a_second = lookups.UNITS, accounts * lookups.ASSUMED["lookups_a_day"] * PEAK / SECONDS
    build = accounts * (units["output"] + units["build"]) / 1e6 / SECONDS
    return {
        "issuer": of[0] + lookups_a_second * (units["evaluate"] + units["token_issue"] + units["token_verify"]) / 1e6 + build,
        "relay": of[1] + waiting * READER["relay"] / 1e6,
        "issuer's database": of[2] + lookups_a_second * KNOWN["lookup"] / 1e6,
        "relay's database": of[3] + waiting * READER["database"] / 1e6,
        "TLS, at proxies": anonymous(accounts) * KNOWN["handshake"] / 1e6,
    }


AT_ISSUER = {"registration", "JWT"}


def places():
    """What is written at random places: of one account, bytes that are touched and touches a day. Counted in the migrations; whatever is
    written at the end of a table or an index is not in it."""
    messages, kept = DAY["first"] + DAY["replies"], DAY["rotation"] + DAY["overlap"]
    spent, index = DAY["first"] * kept, KNOWN["index"]
    return {
        "relay": {
            "mailboxes": (ROWS["mailboxes"][0], 2 * messages),
            "index of messages": (messages * DAY["waits"] * 130, 2 * messages),
            "reply slots": (DAY["replies"] * 1.2 / 24 * 2 * 130, 4 * DAY["replies"]),
            "index of the ledger": (spent * index, DAY["first"]),
            "ledger": (spent * ROWS["ledger, exchanged"][0], 2 * DAY["first"] * DAY["returned"]),
            "prekeys": (100 * ROWS["prekeys"][0], 2 * DAY["first"]),
        },
        "issuer": {
            "sessions": (DAY["sessions"] * ROWS["sessions"][0], each_day()["JWT"]),
            "index of exchanges": (spent * DAY["returned"] * index, DAY["first"] * DAY["returned"]),
            "look-up tokens": (index, 2 * lookups.ASSUMED["lookups_a_day"]),
        },
    }


def disk(accounts):
    """Of both databases, at the peak: syncs a second, pages written a second, bytes of log a second without and with whole pages."""
    rates, out = a_second(accounts), {}
    for n, server in enumerate(("issuer", "relay")):
        pages = 0.0
        for held, touches in places()[server].values():
            all_pages, between = held * accounts / 8192, touches * accounts * PEAK / SECONDS * KNOWN["checkpoint"]
            # Each touch falls on any of them: so many are touched at all.
            pages += all_pages * -math.expm1(-between / all_pages) / KNOWN["checkpoint"]
        log = sum(rate * OPERATIONS[work][6 + n] for work, rate in rates.items())
        syncs = sum(rate * OPERATIONS[work][4 + n] for work, rate in rates.items())
        out[server] = {"syncs": syncs, "pages": pages, "log": log, "log_most": log + 8192 * pages}
    return out


def network(accounts):
    """Bytes a second at the peak, both directions, by party."""
    rates = a_second(accounts)
    issuer = sum(rates[work] * OPERATIONS[work][8] for work in AT_ISSUER)
    relay = sum(rate * OPERATIONS[work][8] for work, rate in rates.items() if work not in AT_ISSUER)
    lookups_a_second = accounts * lookups.ASSUMED["lookups_a_day"] * PEAK / SECONDS
    shake = KNOWN["handshake_bytes"]
    return {
        "issuer": issuer + lookups_a_second * (lookups.UNITS["exchange"] + 2 * shake),
        "relay": relay + online(accounts) * READER["heartbeat"] / 15 + (anonymous(accounts) - 2 * lookups_a_second) * shake,
        "cache of buckets": lookups_a_second * bucket(accounts),
    }


def bucket(accounts):
    return accounts / lookups.buckets(accounts) * (lookups.UNITS["record"] + lookups.UNITS["fingerprint"])


def client(accounts):
    """Bytes of one client a day."""
    work = each_day()
    sent = sum(n * OPERATIONS[w][8] for w, n in work.items() if w != "registration")
    connections = anonymous(1) * SECONDS / PEAK * KNOWN["handshake_bytes"]
    beats = DAY["online"] * SECONDS / 15 * READER["heartbeat"]
    return {"messages": sent, "handshakes": connections, "heartbeats": beats, "look-ups": bucket(accounts) * lookups.ASSUMED["lookups_a_day"]}


def one_place(accounts):
    """What is in one place only, as a share of what that place bears."""
    units, rates = lookups.UNITS, a_second(accounts)
    counted = rates["registration"] + rates["first message"] * DAY["returned"]
    return {
        "build: memory": accounts * units["build_memory"] / BUILDER["memory"],
        "build: time": accounts * (units["output"] + units["build"]) / 1e6 / BUILDER["seconds"],
        "a part of key_counts": counted / PARTS / ONE_ROW,
    }


def on_database(server, accounts, factor):
    """Database machines of a server, as a fraction: whatever is scarcest decides."""
    load, held, disks = cores(accounts)[f"{server}'s database"], sum(storage(accounts)[server].values()), disk(accounts)[server]
    work = max(load / DATABASE["cores"], disks["pages"] / DATABASE["pages"], disks["log_most"] / DATABASE["log"])
    return max(factor * work, held / DATABASE["storage"])


def whole(share):
    return max(1, math.ceil(share))


def machines(accounts):
    """Machines at the peak, by party; at least one."""
    busy, lines = cores(accounts), network(accounts)
    waiting = online(accounts) * READER["memory"] / MACHINE["memory"]
    out = {
        "issuer": whole(max(busy["issuer"] / MACHINE["cores"], lines["issuer"] / MACHINE["network"])),
        "relay": whole(max(busy["relay"] / MACHINE["cores"], lines["relay"] / MACHINE["network"], waiting)),
    }
    for server in ("issuer", "relay"):
        alone = whole(on_database(server, accounts, 1.0))
        out[f"{server}'s database"] = alone if alone == 1 else whole(on_database(server, accounts, CLUSTER))
    out["TLS, at proxies"] = whole(busy["TLS, at proxies"] / MACHINE["cores"])
    return out


def relays(accounts):
    """Relays with one database machine each that do the same, each with mailboxes and tokens of its own."""
    return whole(on_database("relay", accounts, 1.0))


def size(n):
    return lookups.size(n)


def number(n):
    if n >= 100:
        return f"{n:,.0f}"
    return f"{n:.3g}" if n >= 0.001 else "< 0.001" if n else "–"


def table(head, rows):
    """Markdown."""
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def over_accounts(name, rows, value):
    """A table with a column for each number of accounts; rows are functions of it."""
    return table([name, *(f"10^{len(str(n)) - 1}" for n in SHOWN)], [[label, *(value(of(n)) for n in SHOWN)] for label, of in rows])


def tables():
    yield table(["assumed, of an account", "a day"], [[work, number(n)] for work, n in each_day().items()]
                + [["look-ups of numbers", number(lookups.ASSUMED["lookups_a_day"])], ["accounts that wait at a relay at a time", f"{DAY['online']:.0%}"]])
    heads = ["measured, of one", "issuer, µs", "relay, µs", "issuer's database, µs", "relay's database, µs"]
    heads += ["syncs of each", "log of each, bytes", "on the line, bytes"]
    pair = lambda a, b: f"{number(a)}, {number(b)}"
    yield table(heads, [[work, *map(number, n[:4]), pair(*n[4:6]), pair(*n[6:8]), number(n[8])] for work, n in OPERATIONS.items()])
    yield table(["a row of", "PostgreSQL, bytes", "SQLite, bytes"], [[f"{name}", f"{a:,}", f"{b:,}"] for name, (a, b) in ROWS.items()])
    kept = lambda server, name: lambda n: storage(n)[server][name]
    for server in ("relay", "issuer"):
        parts = [(name, kept(server, name)) for name in storage(1)[server]]
        parts += [(f"**together**{words}", lambda n, s=server, e=engine: sum(storage(n, e)[s].values())) for engine, words in ((0, ""), (1, ", on SQLite"))]
        yield over_accounts(f"{server}'s database", parts, size)
    yield over_accounts("cores busy at the peak", [(name, lambda n, name=name: cores(n)[name]) for name in cores(1)], number)
    of_disk = [(f"{server}: {words}", lambda n, s=server, k=key: disk(n)[s][k])
               for server in ("relay", "issuer") for key, words in (("syncs", "syncs a second, in groups as measured"), ("pages", "pages written a second"))]
    yield over_accounts("databases at the peak", of_disk, number)
    of_log = [(f"{server}: {words}", lambda n, s=server, k=key: disk(n)[s][k])
              for server in ("relay", "issuer") for key, words in (("log", "log a second, rows alone"), ("log_most", "log a second, with whole pages"))]
    yield over_accounts("log of the databases", of_log, size)
    yield over_accounts("a second at the peak, both directions", [(name, lambda n, name=name: network(n)[name]) for name in network(1)], size)
    yield over_accounts("a client, a day", [(name, lambda n, name=name: client(n)[name]) for name in client(1)], size)
    yield over_accounts("share of what one place bears", [(name, lambda n, name=name: one_place(n)[name]) for name in one_place(1)], number)
    of_machines = [(name, lambda n, name=name: machines(n)[name]) for name in machines(1)]
    yield over_accounts("machines", [*of_machines, ("or so many relays, of one database machine each", relays)], number)


def plots():
    """File names and what is in them."""
    def lines(plot, of):
        for name in of(1):
            plot.line(name, [(n, of(n)[name]) for n in ACCOUNTS])
        return plot

    for server in ("relay", "issuer"):
        yield f"storage-{server}.svg", lines(Plot(f"What the {server}'s database holds", "bytes, indexes included", size_tick), lambda n: storage(n)[server]).svg(1e6)
    yield "cores.svg", lines(Plot("Cores that are busy at the peak", "cores"), cores).svg(0.01)
    io = Plot("The databases' disks at the peak", "a second")
    for server in ("issuer", "relay"):
        io.line(f"{server}: pages written", [(n, disk(n)[server]["pages"]) for n in ACCOUNTS])
        io.line(f"{server}: syncs", [(n, disk(n)[server]["syncs"]) for n in ACCOUNTS])
    io.limit("one machine: 100,000 pages", DATABASE["pages"])
    yield "disks.svg", io.svg(1)
    wire = lines(Plot("Bandwidth at the peak, both directions", "bytes a second", size_tick), network)
    wire.limit("one machine: 5 Gbit/s", MACHINE["network"])
    yield "bandwidth.svg", wire.svg(1e4)
    alone = lines(Plot("What is in one place only", "share of what that place bears"), one_place)
    alone.limit("no more than this", 1.0)
    yield "one-place.svg", alone.svg(1e-4)
    yield "machines.svg", lines(Plot("Machines that follow from all this", "machines"), machines).svg(1)


def main():
    parser = argparse.ArgumentParser(description="Prints the tables of docs/scaling.md and writes its plots.")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent, help="where the plots go")
    out = parser.parse_args().out
    print("\n\n".join(tables()))
    for name, svg in plots():
        (out / name).write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
