"""The embedded Prefect server's encryption key: in `secrets`, not in the database it protects.

Prefect generates a key in its database unless it is given one. A home of an older version, and a
restored backup of one, still has that key there.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

from cryptography.fernet import Fernet, InvalidToken
from prefect.client.orchestration import get_client
from sqlalchemy import inspect, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from intent_core.errors import ConfigError, ServiceError
from intent_core.files import write_atomically
from tasks.settings import Settings
from tasks.settings.api_keys import create_once

ResultT = TypeVar("ResultT")

_KEY = "ENCRYPTION_KEY"


class _Stored(NamedTuple):
    """What the database has: Prefect's own key, or "", and the encrypted blocks."""

    key: str
    blocks: list[str]


def ensure_encryption_key(settings: Settings, database_url: str) -> str:
    """Return the key; the first call takes it from the database, or generates it (mode 0600).

    Of two keys it is the one that reads more blocks: a restored database may be of another key.
    """
    path = settings.layout.prefect_encryption_key
    stored = _with_database(database_url, _read)
    kept = path.read_text("utf-8").strip() if path.exists() else ""
    keys = [key for key in (kept, stored.key) if key]
    if not keys:
        create_once(path, Fernet.generate_key().decode())
    elif (best := max(keys, key=lambda key: _count_readable(key, stored.blocks))) != kept:
        write_atomically(path, best, mode=0o600)
    return path.read_text("utf-8").strip()


def forget_stored_key(settings: Settings, database_url: str) -> None:
    """Delete the key in the database once the server has read a block with the one in `secrets`.

    Raises `ConfigError` for blocks that this key cannot read; the database's key then stays.
    """
    stored = _with_database(database_url, _read)
    path = settings.layout.prefect_encryption_key
    readable = _count_readable(path.read_text("utf-8").strip(), stored.blocks)
    if readable < len(stored.blocks):
        raise ConfigError(
            f"{len(stored.blocks) - readable} of {len(stored.blocks)} Prefect blocks cannot be "
            f"read with the key in {path}: they were encrypted with another one, e.g. that of the "
            "home that was backed up. Copy that home's file to this path and restart with `intent "
            "down` and `intent up`, or delete these blocks and create them again"
        )
    if stored.key:
        with get_client(sync_client=True) as client:
            client.read_block_documents(limit=1, include_secrets=True)
        _with_database(database_url, _forget)


def _count_readable(key: str, blocks: list[str]) -> int:
    return sum(_can_read(key, block) for block in blocks)


def _can_read(key: str, block: str) -> bool:
    try:
        Fernet(key.encode()).decrypt(block.encode())
    except (InvalidToken, ValueError):
        return False
    return True


async def _read(connection: AsyncConnection) -> _Stored:
    if not await connection.run_sync(lambda sync: inspect(sync).has_table("block_document")):
        return _Stored("", [])
    value = await connection.scalar(
        text("SELECT value FROM configuration WHERE key = :key"), {"key": _KEY}
    )
    blocks = (await connection.scalars(text("SELECT data FROM block_document"))).all()
    key = _parse(value)["fernet_key"] if value else ""
    return _Stored(key, [_parse(block) for block in blocks])


def _parse(value: Any) -> Any:
    """Read a JSON column: PostgreSQL's driver may have done so."""
    return json.loads(value) if isinstance(value, str) and value[:1] in '{"' else value


async def _forget(connection: AsyncConnection) -> None:
    is_sqlite = connection.dialect.name == "sqlite"
    if is_sqlite:  # otherwise the bytes stay in the file
        await connection.execute(text("PRAGMA secure_delete = ON"))
    await connection.execute(text("DELETE FROM configuration WHERE key = :key"), {"key": _KEY})
    await connection.commit()
    if is_sqlite:
        await connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))


def _with_database(url: str, step: Callable[[AsyncConnection], Awaitable[ResultT]]) -> ResultT:
    async def connect() -> ResultT:
        engine = create_async_engine(url)
        try:
            async with engine.connect() as connection:
                return await step(connection)
        finally:
            await engine.dispose()

    try:
        return asyncio.run(connect())
    except (SQLAlchemyError, OSError) as error:
        # Not `error` itself, which may contain the URL with its password.
        problem = getattr(error, "orig", None) or type(error).__name__
        raise ServiceError(
            f"Prefect's database cannot be read ({problem}): restore a backup with `intent restore`"
        ) from None
