"""A private PostgreSQL server for tests, on a free loopback port, removed afterwards.

with running_postgres() as server:
    settings = Settings(prefect_database_url=server.create("prefect"))
"""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.servers.seaweedfs import free_ports

USER, PASSWORD = "intent", "database-secret-Zt7wQ2"


class Postgres(NamedTuple):
    programs: Path
    port: int

    def url(self, database: str) -> str:
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """Create a database and return its URL."""
        self._run("createdb", database)
        return self.url(database)

    def ask(self, database: str, query: str) -> str:
        """Return the result of a query, one row per line."""
        return self._run("psql", "-d", database, "-Atc", query)

    def _run(self, program: str, *arguments: str) -> str:
        where = ("-h", "127.0.0.1", "-p", str(self.port), "-U", USER)
        done = subprocess.run(
            [self.programs / program, *where, *arguments],
            env={**os.environ, "PGPASSWORD": PASSWORD},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


def find_programs() -> Path | None:
    """Return the folder of PostgreSQL's programs: from PATH, else Debian's newest version."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return debian[-1].parent if debian else None


@contextlib.contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Run a server with one user; skip the test if PostgreSQL is not installed."""
    programs = find_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed; run requirements/postgres.sh")
    # Not below pytest's folder, which other users cannot read.
    made = tempfile.TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True)
    with made as name, _started(programs, Path(name)) as server:
        yield server


@contextlib.contextmanager
def _started(programs: Path, folder: Path) -> Iterator[Postgres]:
    owner = _choose_owner()
    data, (port,) = folder / "data", free_ports(1)
    secret = folder / "password"
    secret.write_text(PASSWORD)
    for path in (folder, secret):
        os.chown(path, owner.pw_uid, owner.pw_gid)
    initdb = ["initdb", "-D", data, "-U", USER, "--pwfile", secret, "-A", "scram-sha-256"]
    _as_owner(owner, programs, [*initdb, "--no-sync", "-E", "UTF8", "--locale=C"])
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
    start = ["pg_ctl", "-D", data, "-l", folder / "log", "-w", "-t", "120", "-o", options, "start"]
    _as_owner(owner, programs, start)
    try:
        yield Postgres(programs, port)
    finally:
        _as_owner(owner, programs, ["pg_ctl", "-D", data, "-w", "-m", "immediate", "stop"])


def _choose_owner() -> pwd.struct_passwd:
    """Return the current user; for root, which PostgreSQL refuses, an unprivileged user."""
    if os.getuid() != 0:
        return pwd.getpwuid(os.getuid())
    with contextlib.suppress(KeyError):
        return pwd.getpwnam("postgres")
    return pwd.getpwnam("nobody")


def _as_owner(owner: pwd.struct_passwd, programs: Path, command: list[str | Path]) -> None:
    them = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
    done = subprocess.run(
        [programs / command[0], *command[1:]],
        cwd="/",
        env={"PATH": os.defpath, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        # The server inherits open files: with a pipe, this call would wait until the server ends.
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
        **({} if os.getuid() else them),  # type: ignore[call-overload]
    )
    assert done.returncode == 0, f"{command[0]} exited with code {done.returncode}"
