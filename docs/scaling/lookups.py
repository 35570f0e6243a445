#!/usr/bin/env python3
"""What look-ups cost at N accounts, from unit costs that `cargo bench --bench discovery` measured.

`python3 docs/scaling/lookups.py` prints the table of docs/scaling.md. Every number that goes in is in UNITS (measured) or ASSUMED.
"""

# Measured: microseconds of one core and bytes; see docs/discovery.md §8.
UNITS = {
    "evaluate": 72.0,  # a number, in batches of 64
    "token_issue": 73.0,
    "token_verify": 41.0,
    "output": 40.0,  # F_k, for the directory
    "build": 2.7,  # all else of a build, an account
    "record": 121,  # sealed, bytes
    "fingerprint": 4,
    "delta_entry": 12,
    "exchange": 301,  # evaluation on the line, a number
    "build_memory": 300,
    "spent_row": 135,  # of lookup_spent with its index, SQLite
}
# Assumed: what people do.
ASSUMED = {"lookups_a_day": 1.0, "book": 200, "book_hits": 0.3, "new_a_day": 0.001}
BUCKET = 1024
ROUND = 128
FULLY_COVERED = 16


def buckets(accounts):
    """As credentials::directory::bits_for: the least power of two with at most 1,024 accounts a bucket."""
    n = 1
    while n * BUCKET < accounts:
        n *= 2
    return n


def next_power_of_two(n):
    p = 1
    while p < n:
        p *= 2
    return p


def book_buckets(accounts):
    """Distinct buckets that an address book fetches, in rounds, as protocol::lookup::buckets_to_fetch."""
    left, draws = ASSUMED["book"], 0
    while left > 0:
        numbers = min(left, ROUND)
        left -= numbers
        hits = round(numbers * ASSUMED["book_hits"])
        draws += numbers if numbers <= FULLY_COVERED else max(FULLY_COVERED, next_power_of_two(hits))
    n = buckets(accounts)
    return n * (1 - (1 - 1 / n) ** draws)


def row(accounts):
    u, a = UNITS, ASSUMED
    day = 86_400e6
    per_bucket = accounts / buckets(accounts)
    page = per_bucket * (u["record"] + u["fingerprint"])
    lookups = accounts * a["lookups_a_day"]
    new = accounts * a["new_a_day"]
    filter_bytes = accounts * 4.5 if accounts <= 1e6 else 0
    return [
        f"10^{len(str(accounts)) - 1}",
        f"{buckets(accounts):,}",
        size(page),
        size(accounts * (u["record"] + u["fingerprint"])),
        size(filter_bytes) if filter_bytes else "–",
        duration(accounts * (u["output"] + u["build"])),
        size(accounts * u["build_memory"]),
        size(new * u["delta_entry"]),
        f"{lookups * (u['evaluate'] + u['token_issue'] + u['token_verify']) / day:.4f}",
        f"{lookups / 86_400:,.1f}",
        size(lookups * 25 / 24 * u["spent_row"]),
        size(page + u["exchange"]),
        size(book_buckets(accounts) * page + filter_bytes + a["book"] * u["exchange"]),
        f"{lookups * page * 8 / 86_400 / 1e9:.3f}",
    ]


def size(n):
    for unit in ["B", "KB", "MB", "GB", "TB"]:
        if n < 1000 or unit == "TB":
            return f"{n:.3g} {unit}"
        n /= 1000


def duration(us):
    s = us / 1e6
    return f"{s:.0f} s" if s < 120 else f"{s / 60:.0f} min" if s < 7200 else f"{s / 3600:.1f} h"


NAMES = [
    "accounts",
    "buckets",
    "a bucket, both files",
    "all files of a build",
    "filter",
    "one build, time of one core",
    "memory of one build",
    "delta of a day",
    "issuer, cores busy with look-ups",
    "tokens spent a second",
    "`lookup_spent`",
    "on the line, one look-up",
    "on the line, a book of 200",
    "cache, Gbit/s of buckets",
]


def main():
    columns = [row(n) for n in (10**4, 10**5, 10**6, 10**8, 10**9)]
    for name, *cells in zip(NAMES, *columns):
        print(f"| {name} | " + " | ".join(cells) + " |")
        if name == "accounts":
            print("|---" * (len(columns) + 1) + "|")


if __name__ == "__main__":
    main()
