#!/usr/bin/env python3
"""What one piece of work costs issuer, relay and PostgreSQL: `python3 docs/scaling/operations.py`, after
`cargo build --release --bin postern-load --bin postern-issuer --bin postern-relay`; some minutes on a machine that does nothing else.

Each scenario of `postern-load` (docs/load.md) runs twice against servers and databases of its own, a few times and many times. Processor
time is what the generator reports for the larger run. All else is the difference of the two divided by that of the counts, so preparations
do not count: syncs of the log, its bytes, and the page images in them, from `pg_stat_wal`; and the bytes of the loopback device, both
directions with TCP's headers (PostgreSQL is behind Unix sockets and not in them). docs/scaling/costs.py has the numbers that this printed.
"""

import json
import pathlib
import subprocess
import tempfile
import time

from postgres import Postgres

PROGRAMS = pathlib.Path(__file__).parents[2] / "target" / "release"
# scenario: few, many, arguments
SCENARIOS = {
    "register": (100, 1500, ["--accounts", "2000"]),
    "cold-sends": (500, 6000, ["--accounts", "200", "--mailboxes", "64", "--tokens-per-account", "40"]),
    "round-trip": (200, 2000, ["--accounts", "64"]),
    "replies": (500, 6000, ["--mailboxes", "64"]),
    "chat": (500, 4000, ["--mailboxes", "64"]),
    "cards": (1000, 20_000, ["--mailboxes", "64"]),
    "jwts": (500, 6000, ["--accounts", "64"]),
}
IN_FLIGHT = 64
COUNTERS = """select (select wal_bytes from pg_stat_wal), (select wal_fpi from pg_stat_wal), (select wal_sync from pg_stat_wal)"""
SERVERS = ("issuer", "relay")


def loopback():
    line = next(line for line in open("/proc/net/dev") if line.strip().startswith("lo:"))
    return int(line.split(":")[1].split()[0])


def counters(databases):
    """Of each database, and of the loopback device."""
    out = []
    for name in SERVERS:
        # What the server's processes have not told yet is told within a second of their next idleness.
        out += [float(n) for n in databases[name].psql("postgres", COUNTERS).split("|")]
    return out + [loopback()]


def run(databases, scenario, count, arguments):
    """The report, and by how much each counter grew."""
    for name in SERVERS:
        databases[name].psql("postgres", f"drop database if exists {name} with (force)")
        databases[name].psql("postgres", f"create database {name}")
        databases[name].psql("postgres", "checkpoint")
        arguments = [*arguments, f"--{name}-database", databases[name].url(name), "--server-pid", str(databases[name].process.pid)]
    with tempfile.TemporaryDirectory() as directory:
        report = pathlib.Path(directory) / "report.json"
        before = counters(databases)
        command = [PROGRAMS / "postern-load", scenario, "--spawn", "--programs", PROGRAMS, "--json", report, "--count", str(count)]
        subprocess.run([*command, "--in-flight", str(IN_FLIGHT), *arguments], check=True, stdout=subprocess.DEVNULL)
        # Its connections are gone, and with them whatever was not told.
        time.sleep(1)
        after = counters(databases)
        return json.loads(report.read_text()), [b - a for a, b in zip(before, after)]


def main():
    print("| one of | a second | CPU, µs: issuer | relay | issuer's database | relay's database "
          "| syncs, log bytes, page images: issuer's database | relay's | line, bytes |")
    print("|---" * 9 + "|")
    with Postgres() as one, Postgres() as other:
        databases = dict(zip(SERVERS, (one, other)))
        for scenario, (few, many, arguments) in SCENARIOS.items():
            _, small = run(databases, scenario, few, arguments)
            report, large = run(databases, scenario, many, arguments)
            done = report["work"]["done"]
            assert done == many and report["unexpected"] == 0, report
            cpu = [(s["user_seconds"] + s["system_seconds"]) * 1e6 / done for s in report["servers"]]
            each = [(b - a) / (many - few) for a, b in zip(small, large)]
            of_disk = [f"{syncs:.3f}, {log:,.0f}, {images:.2f}" for log, images, syncs in (each[0:3], each[3:6])]
            rate = report["work"]["per_second"]
            print(f"| `{scenario}` | {rate:,.0f} | " + " | ".join([*(f"{us:.0f}" for us in cpu), *of_disk]) + f" | {each[6]:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
