"""The erasure list in the store: a salt and one object per entry."""

import secrets
from datetime import UTC, datetime

from pydantic import ValidationError

from intent_core.datasets.erasure import ErasedRow, ErasureList
from intent_core.errors import StorageError
from intent_core.recipe.config import fingerprint
from tasks.storage.layout import FORGOTTEN_ROWS, FORGOTTEN_SALT
from tasks.storage.objects import MissingObjectError, ObjectStore


def read_erasure_list(store: ObjectStore) -> ErasureList:
    """Load the erasure list.

    Raises `StorageError` for an unreadable entry: a dataset made without it would contain data that
    must be erased.
    """
    rows = []
    for entry in store.list(FORGOTTEN_ROWS):
        try:
            rows.append(ErasedRow.model_validate_json(store.read(entry.key)))
        except ValidationError as error:
            raise StorageError(
                f"{entry.uri} is not a valid entry of the erasure list; another program wrote it. "
                "Repeat the erasure request and delete this object"
            ) from error
    return ErasureList(_read_salt(store) if rows else b"", rows)


def add_entries(store: ObjectStore, utterance: str, mark_result: str) -> list[str]:
    """Add an utterance, an answer's id, or both to the list; "" means unknown.

    Returns the names of the new entries.
    """
    entries = _make_entries(store, utterance, mark_result)
    return [
        entry.name
        for entry in entries
        if store.put_if_absent(_key(entry), entry.model_dump_json().encode())
    ]


def remove_entries(store: ObjectStore, utterance: str, mark_result: str) -> list[str]:
    """Remove an utterance, an answer's id, or both; return the names of the removed entries."""
    entries = [e for e in _make_entries(store, utterance, mark_result) if store.stat(_key(e))]
    for entry in entries:
        store.delete(_key(entry))
    return [entry.name for entry in entries]


def _make_entries(store: ObjectStore, utterance: str, mark_result: str) -> list[ErasedRow]:
    now, entries = datetime.now(UTC), []
    if utterance:
        digest = ErasureList(_make_salt(store)).digest(utterance)
        entries.append(ErasedRow(name=fingerprint(digest), utterance=digest, since=now))
    if mark_result:
        name = fingerprint("mark-result", mark_result)
        entries.append(ErasedRow(name=name, mark_result=mark_result, since=now))
    return entries


def _key(entry: ErasedRow) -> str:
    return f"{FORGOTTEN_ROWS}{entry.name}.json"


def _make_salt(store: ObjectStore) -> bytes:
    store.put_if_absent(FORGOTTEN_SALT, secrets.token_hex(16).encode())
    return _read_salt(store)


def _read_salt(store: ObjectStore) -> bytes:
    try:
        return store.read(FORGOTTEN_SALT)
    except MissingObjectError as error:
        raise StorageError(
            f"the salt of the erasure list ({FORGOTTEN_SALT}) is missing from the store. Restore "
            "it from a backup; without it no utterance on the list can be recognized"
        ) from error
