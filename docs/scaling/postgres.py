"""A throw-away PostgreSQL with the settings of a fresh installation, for the measuring scripts beside this file. Standard library only."""

import os
import pathlib
import pwd
import shutil
import subprocess
import tempfile
import time


class Postgres:
    """A running server; `with Postgres() as server:` ends it and removes all it wrote. It listens on a Unix socket alone."""

    def __init__(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="postern-pg-"))
        # The server refuses to be root.
        self.owner = next((user for user in ("postgres", "nobody") if is_user(user)), None) if os.getuid() == 0 else None
        if self.owner:
            shutil.chown(self.directory, self.owner, pwd.getpwnam(self.owner).pw_gid)
        self.binaries = binaries()
        data = self.directory / "data"
        self.run(["initdb", "--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C", "-U", "postern", "-D", str(data)])
        arguments = ["-D", str(data), "-k", str(self.directory), "-c", "listen_addresses=", "-c", "max_connections=400"]
        log = open(self.directory / "log", "w")
        self.process = subprocess.Popen([self.binaries / "postgres", *arguments], stdout=log, stderr=log, **self.as_owner())
        for _ in range(300):
            if self.psql("postgres", "select 1", check=False) == "1":
                return
            time.sleep(0.1)
        raise SystemExit(f"PostgreSQL does not start: {(self.directory / 'log').read_text()}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(2)
        self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def as_owner(self):
        user = pwd.getpwnam(self.owner) if self.owner else None
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "cwd": "/"} if user else {"cwd": "/"}

    def run(self, command):
        subprocess.run([self.binaries / command[0], *command[1:]], check=True, stdout=subprocess.DEVNULL, **self.as_owner())

    def psql(self, database, sql, data=None, check=True):
        """What a statement answers, as text. With `data`, `sql` is a COPY and the lines go to it."""
        command = ["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-h", str(self.directory), "-U", "postern", "-d", database]
        command += ["-c", sql] if sql else ["-f", "-"]
        answer = subprocess.run(command, input=data, capture_output=True, text=True, check=False)
        if check and answer.returncode:
            raise SystemExit(f"{sql}: {answer.stderr}")
        return answer.stdout.strip()

    def url(self, database):
        return f"postgres://postern@localhost:5432/{database}?host={self.directory}"


def is_user(name):
    try:
        return bool(pwd.getpwnam(name))
    except KeyError:
        return False


def binaries():
    """Where `postgres` and `initdb` are: the newest of Debian's places, or the path."""
    debian = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    for place in [*debian, *map(pathlib.Path, os.environ["PATH"].split(os.pathsep))]:
        if (place / "postgres").is_file() and (place / "initdb").is_file():
            return place
    raise SystemExit("PostgreSQL is not on this machine (on Debian: apt-get install postgresql)")
