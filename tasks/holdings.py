"""Which objects and files still hold a text: looked for in their bytes, weights left out."""

import gzip
import html
import json
import mmap
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import orjson

from intent_core.errors import ServiceError
from tasks.settings import Settings
from tasks.snapshots import list_datasets
from tasks.steps import get_store
from tasks.storage import ObjectStore, is_partial, open_store, split_uri

_LONG_ENOUGH = 12
"""Bytes: what is shorter occurs by chance, so it must be all of a text."""
_NO_TEXTS = (".safetensors", ".gguf", ".bin", ".pt", ".png", "tokenizer.json", "vocab.json")
_GZIP = b"\x1f\x8b"


def find_holders(settings: Settings, texts: Iterable[str]) -> list[str]:
    """URIs in the store, of exports outside it, and of files below this machine's home."""
    needles = {needle for text in texts for needle in _write_needles(text)}
    store = get_store(settings)
    held = []
    seen = set()
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "object"
        for found in store.list():
            seen.add(found.uri)
            if not found.key.endswith(_NO_TEXTS) and _holds(store, found.key, path, needles):
                held.append(found.uri)
        for uri in sorted({dataset.source for dataset in list_datasets(store)} - seen):
            try:
                root, key = split_uri(uri)
                if _holds(open_store(root), key, path, needles):
                    held.append(uri)
            except ServiceError:
                continue  # it is gone, or cannot be read from here
    held += _search_home(settings, lambda file: _file_holds(file, needles), seen)
    return held


def _write_needles(text: str) -> Iterator[bytes]:
    """How a text may stand in JSON, in plain files and in pages."""
    for quoted in (orjson.dumps(text), json.dumps(text).encode()):
        yield quoted if len(quoted) < _LONG_ENOUGH else quoted[1:-1]
    if len(text.encode()) >= _LONG_ENOUGH:
        yield text.encode()
        yield html.escape(text).encode()
    else:
        yield f">{html.escape(text)}<".encode()


def _holds(store: ObjectStore, key: str, path: Path, needles: Iterable[bytes]) -> bool:
    store.download(key, path)
    return _file_holds(path, needles)


def _file_holds(path: Path, needles: Iterable[bytes]) -> bool:
    if not path.stat().st_size:
        return False
    with path.open("rb") as file:
        if file.read(2) == _GZIP:
            try:
                with gzip.open(path) as lines:
                    return any(needle in line for line in lines for needle in needles)
            except (OSError, EOFError):
                return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return any(content.find(needle) >= 0 for needle in needles)


def _search_home(settings: Settings, holds: Callable[[Path], bool], seen: set[str]) -> list[str]:
    held = []
    for path in sorted(settings.home.resolve().rglob("*")):
        is_text = path.is_file() and not path.is_symlink() and not path.name.endswith(_NO_TEXTS)
        if is_text and not is_partial(path.name) and path.as_uri() not in seen:
            try:
                if holds(path):
                    held.append(path.as_uri())
            except OSError:
                continue  # it went away meanwhile
    return held
