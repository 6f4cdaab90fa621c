"""Copy Prefect's and MLflow's databases while their servers run, and restore them."""

import contextlib
import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import unquote, urlsplit, urlunsplit

from intent_core.errors import ConfigError, ServiceError
from tasks.settings import Settings
from tasks.settings.children import child_environment

Server = Literal["prefect", "mlflow"]
SERVERS: tuple[Server, ...] = ("prefect", "mlflow")


class Database(NamedTuple):
    """A server's database: a SQLite file in this home, or PostgreSQL."""

    server: Server
    path: Path | None
    url: str = ""

    @property
    def member(self) -> str:
        """The database's file name in a backup."""
        return f"{self.server}/{self.server}.db" if self.path else f"dumps/{self.server}.dump"


def find_database(settings: Settings, server: Server) -> Database:
    """Return the database of the embedded or external server.

    Raises `ConfigError` if the external server's database is not PostgreSQL or not configured.
    """
    is_prefect = server == "prefect"
    secret = settings.prefect_database_url if is_prefect else settings.mlflow_database_url
    theirs = settings.prefect_url if is_prefect else settings.mlflow_url
    if secret is not None:
        url = secret.get_secret_value()
        if urlsplit(url).scheme.partition("+")[0] not in ("postgresql", "postgres"):
            raise ConfigError(
                f"INTENT_{server.upper()}_DATABASE_URL is not a PostgreSQL URL: back up that "
                f"database with its own tools, and exclude it here with --without {server}"
            )
        return Database(server, None, url)
    if theirs:
        raise ConfigError(
            f"the database of {server} ({theirs}) is unknown: set "
            f"INTENT_{server.upper()}_DATABASE_URL to its PostgreSQL URL; or back it up with "
            f"`pg_dump --format=custom` and exclude it here with --without {server}"
        )
    layout = settings.layout
    return Database(server, layout.prefect_database if is_prefect else layout.mlflow_database)


def copy_database(database: Database, target: Path) -> None:
    """Write a consistent snapshot to `target`; other processes may write meanwhile."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if database.path is None:
        _run("pg_dump", database, "--format=custom", "--no-owner", f"--file={target}")
        return
    try:
        source = sqlite3.connect(f"{database.path.as_uri()}?mode=ro", uri=True, timeout=60)
        with contextlib.closing(source), contextlib.closing(sqlite3.connect(target)) as copy:
            source.backup(copy)
            # Without this the copy would need a write-ahead log file next to it.
            copy.execute("PRAGMA journal_mode=DELETE")
            (verdict,) = copy.execute("PRAGMA quick_check").fetchone()
    except sqlite3.Error as error:
        raise ServiceError(f"could not copy {database.path}: {error}") from error
    if verdict != "ok":
        raise ServiceError(f"{database.path} is damaged: {verdict}")


def has_content(database: Database) -> bool:
    """Whether the database contains anything that a restore would replace."""
    if database.path is not None:
        return database.path.exists()
    tables = "select count(*) from information_schema.tables where table_schema = 'public'"
    return _run("psql", database, "--no-psqlrc", "-tAc", tables).strip() != "0"


def load_dump(database: Database, dump: Path) -> None:
    """Replace the database's content with the dump, in one transaction; safe to repeat."""
    options = ("--clean", "--if-exists", "--no-owner", "--single-transaction", "--exit-on-error")
    _run("pg_restore", database, *options, str(dump))


def _run(program: str, database: Database, *arguments: str) -> str:
    if shutil.which(program) is None:
        raise ConfigError(
            f"{program} is not installed: install PostgreSQL's client programs (apt-get install "
            f"postgresql-client), or exclude the database with --without {database.server}"
        )
    address, password = _split(database.url)
    # In the environment, because every user of the machine can read a command line.
    environment = child_environment("postgres", **({"PGPASSWORD": password} if password else {}))
    done = subprocess.run(
        [program, f"--dbname={address}", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"code {done.returncode}"]
        raise ServiceError(f"{program} failed on {database.server}'s database: {lines[0][:300]}")
    return done.stdout


def _split(url: str) -> tuple[str, str]:
    """Split a URL into the address, without driver and password, and the password."""
    parts = urlsplit(url)
    user, host = parts.username or "", parts.netloc.rpartition("@")[2]
    netloc = f"{user}@{host}" if user else host
    return urlunsplit(("postgresql", netloc, parts.path, parts.query, "")), unquote(
        parts.password or ""
    )
