"""Find objects and files that still contain a text. Their bytes are searched, except weights."""

import contextlib
import gzip
import html
import json
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

import orjson

from intent_core.errors import IntentError
from tasks.datasets.row_index import list_datasets
from tasks.settings import Settings
from tasks.storage.objects import MissingObjectError, ObjectStore, is_partial
from tasks.storage.open import open_store, split_uri
from tasks.storage.step_results import get_store

_LONG_ENOUGH = 12
"""Bytes. A shorter text occurs by chance, so it must match a whole value."""
_NO_TEXTS = (".safetensors", ".gguf", ".bin", ".pt", ".png", "tokenizer.json", "vocab.json")
_GZIP = b"\x1f\x8b"
_PIECE = 4 << 20


class SupportsRead(Protocol):
    """A binary stream."""

    def read(self, size: int, /) -> bytes: ...


def find_holders(
    settings: Settings, texts: Iterable[str], exports: Iterable[str] = ()
) -> list[str]:
    """Return the URIs of objects in the store, exports and files below the home with a text.

    `exports` are searched in addition to the exports from which the datasets were made.
    """
    needles = {needle for text in texts for needle in _write_needles(text)}
    store = get_store(settings)
    held: list[str] = []
    seen: set[str] = set()
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "object"
        for stored in store.list():
            seen.add(stored.uri)
            if not stored.key.endswith(_NO_TEXTS) and _holds(store, stored.key, path, needles):
                held.append(stored.uri)
        outside = {*exports, *(dataset.source for dataset in list_datasets(store))}
        for uri in sorted(outside - seen - {""}):
            seen.add(uri)
            # It may have been deleted, or may not be readable from this machine.
            with contextlib.suppress(IntentError):
                root, key = split_uri(uri)
                if _holds(open_store(root), key, path, needles):
                    held.append(uri)
    held += _search_home(settings, lambda file: _file_holds(file, needles), seen)
    return held


def _write_needles(text: str) -> Iterator[bytes]:
    """Return the encodings of a text in JSON, plain text and HTML."""
    for quoted in (orjson.dumps(text), json.dumps(text).encode()):
        yield quoted if len(quoted) < _LONG_ENOUGH else quoted[1:-1]
    if len(text.encode()) >= _LONG_ENOUGH:
        yield text.encode()
        yield html.escape(text).encode()
    else:
        yield f">{html.escape(text)}<".encode()


def _holds(store: ObjectStore, key: str, path: Path, needles: Iterable[bytes]) -> bool:
    try:
        store.download(key, path)
    except MissingObjectError:
        return False  # deleted since it was listed
    return _file_holds(path, needles)


def _file_holds(path: Path, needles: Iterable[bytes]) -> bool:
    with path.open("rb") as file:
        is_zipped = file.read(2) == _GZIP
        file.seek(0)
        if not is_zipped:
            return _stream_holds(file, needles)
        try:
            with gzip.open(file) as unzipped:
                return _stream_holds(unzipped, needles)
        except (gzip.BadGzipFile, EOFError, zlib.error):
            return False


def _stream_holds(stream: SupportsRead, needles: Iterable[bytes]) -> bool:
    """Search piece by piece, because files of running servers may shrink during the read."""
    longest = max(map(len, needles))
    rest = b""
    while piece := stream.read(_PIECE):
        content = rest + piece
        if any(needle in content for needle in needles):
            return True
        rest = content[-longest:]
    return False


def _search_home(settings: Settings, holds: Callable[[Path], bool], seen: set[str]) -> list[str]:
    held = []
    for path in sorted(settings.layout.root.rglob("*")):
        is_text = path.is_file() and not path.is_symlink() and not path.name.endswith(_NO_TEXTS)
        if is_text and not is_partial(path.name) and path.as_uri() not in seen:
            try:
                if holds(path):
                    held.append(path.as_uri())
            except OSError:
                continue  # deleted since it was listed
    return held
