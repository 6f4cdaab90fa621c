"""Prefect's and MLflow's databases: copied while their servers run, and brought back."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import unquote, urlsplit, urlunsplit

from intent_core.errors import ConfigError, ServiceError
from tasks.settings import Settings, child_environment

Server = Literal["prefect", "mlflow"]
SERVERS: tuple[Server, ...] = ("prefect", "mlflow")


class Database(NamedTuple):
    """Where a server keeps its state: a SQLite file of this home, or PostgreSQL."""

    server: Server
    path: Path | None
    url: str = ""

    @property
    def member(self) -> str:
        """Its name in a backup."""
        return f"{self.server}/{self.server}.db" if self.path else f"dumps/{self.server}.dump"


def find_database(settings: Settings, server: Server) -> Database:
    """The database of the embedded server, or of yours. Raises `ConfigError` for one unknown."""
    is_prefect = server == "prefect"
    secret = settings.prefect_database_url if is_prefect else settings.mlflow_database_url
    theirs = settings.prefect_url if is_prefect else settings.mlflow_url
    if secret is not None:
        url = secret.get_secret_value()
        if urlsplit(url).scheme.partition("+")[0] not in ("postgresql", "postgres"):
            raise ConfigError(
                f"INTENT_{server.upper()}_DATABASE_URL is no PostgreSQL URL: back that database up "
                f"with its own tools, and leave it out here with --without {server}"
            )
        return Database(server, None, url)
    if theirs:
        raise ConfigError(
            f"{server} is a server of yours ({theirs}), and its database is not known here: set "
            f"INTENT_{server.upper()}_DATABASE_URL to its PostgreSQL URL; or run `pg_dump "
            f"--format=custom` beside it, and leave it out here with --without {server}"
        )
    layout = settings.layout
    return Database(server, layout.prefect_database if is_prefect else layout.mlflow_database)


def copy_database(database: Database, target: Path) -> None:
    """A consistent copy of one moment, whoever writes meanwhile."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if database.path is None:
        _run("pg_dump", database, "--format=custom", "--no-owner", f"--file={target}")
        return
    try:
        source = sqlite3.connect(f"{database.path.as_uri()}?mode=ro", uri=True, timeout=60)
        with contextlib.closing(source), contextlib.closing(sqlite3.connect(target)) as copy:
            source.backup(copy)
            # A copy of its own: nothing beside it, and nothing to replay.
            copy.execute("PRAGMA journal_mode=DELETE")
            (verdict,) = copy.execute("PRAGMA quick_check").fetchone()
    except sqlite3.Error as error:
        raise ServiceError(f"{database.path} cannot be copied: {error}") from error
    if verdict != "ok":
        raise ServiceError(f"{database.path} is damaged: {verdict}")


def has_content(database: Database) -> bool:
    """Is there anything that a restore would replace?"""
    if database.path is not None:
        return database.path.exists()
    tables = "select count(*) from information_schema.tables where table_schema = 'public'"
    return _run("psql", database, "--no-psqlrc", "-tAc", tables).strip() != "0"


def load_dump(database: Database, dump: Path) -> None:
    """The dump in place of what is there, in one transaction; done again it does the same."""
    options = ("--clean", "--if-exists", "--no-owner", "--single-transaction", "--exit-on-error")
    _run("pg_restore", database, *options, str(dump))


def _run(program: str, database: Database, *arguments: str) -> str:
    if shutil.which(program) is None:
        raise ConfigError(
            f"{program} is missing here: install PostgreSQL's client programs "
            f"(apt-get install postgresql-client), or leave it out with --without {database.server}"
        )
    address, password = _split(database.url)
    # By environment, not by argument: a command line is readable by everybody.
    environment = child_environment(PGPASSWORD=password) if password else dict(os.environ)
    done = subprocess.run(
        [program, f"--dbname={address}", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"code {done.returncode}"]
        raise ServiceError(f"{program} of {database.server}'s database failed: {lines[0][:300]}")
    return done.stdout


def _split(url: str) -> tuple[str, str]:
    """The address without a driver's name and without the password; the password."""
    parts = urlsplit(url)
    user, host = parts.username or "", parts.netloc.rpartition("@")[2]
    netloc = f"{user}@{host}" if user else host
    return urlunsplit(("postgresql", netloc, parts.path, parts.query, "")), unquote(
        parts.password or ""
    )
