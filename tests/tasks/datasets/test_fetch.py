"""Exports on this machine: a copy is downloaded once, and reused only if its SHA-256 matches."""

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from intent_core.errors import DataError
from tasks.datasets.fetch import copy_to_store, fetch_export
from tasks.settings import Settings, get_settings
from tasks.storage.objects import ObjectStore
from tasks.storage.step_results import get_store, work_folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    monkeypatch.setenv("INTENT_HOME", str(tmp_path / "home"))
    get_settings.cache_clear()
    yield get_settings()
    get_settings.cache_clear()


def take(home: Settings, name: str, content: bytes) -> tuple[ObjectStore, str, Path]:
    """Copy an export; return the store, the key of the copy, and its path on this machine."""
    store = get_store(home)
    store.put(f"exports/{name}", content)
    taken = fetch_export(f"exports/{name}", work_folder(home), allow_paths=False)
    key = copy_to_store(home, taken)
    assert not taken.path.exists()
    digest = hashlib.sha256(content).hexdigest()[:16]
    return store, key, home.layout.exports / f"{digest}-{name}"


def test_the_machine_that_took_an_export_reads_its_file(home: Settings) -> None:
    store, key, kept = take(home, "a.manifest", b"rows")
    identity = kept.stat().st_ino
    export = fetch_export(key, home.layout.exports)
    assert export.path == kept and kept.stat().st_ino == identity
    stored = store.stat(key)
    assert stored is not None
    assert export.source.sha256 == hashlib.sha256(b"rows").hexdigest()
    assert (export.source.uri, export.source.etag) == (stored.uri, stored.etag)


def test_a_file_with_other_content_is_downloaded_again(home: Settings) -> None:
    _, key, kept = take(home, "a.manifest", b"rows")
    kept.write_bytes(b"rowz")
    export = fetch_export(key, home.layout.exports)
    assert export.path.read_bytes() == b"rows"
    assert export.source.sha256 == hashlib.sha256(b"rows").hexdigest()
    kept.unlink()
    assert fetch_export(key, home.layout.exports).path.read_bytes() == b"rows"


def test_a_copy_that_is_gone_from_the_store_is_no_export(home: Settings) -> None:
    store, key, _ = take(home, "a.manifest", b"rows")
    store.delete(key)
    with pytest.raises(DataError, match=r"export 'snapshots/.*' not found"):
        fetch_export(key, home.layout.exports)


def test_few_files_stay_and_none_that_a_run_may_read(home: Settings) -> None:
    names = [f"{number}.manifest" for number in range(8)]
    files = [take(home, name, name.encode())[2] for name in names]
    assert all(file.exists() for file in files)
    for age, file in enumerate(reversed(files)):
        then = time.time() - 3600 * (age + 1)
        os.utime(file, (then, then))
    *_, newest = take(home, "new.manifest", b"new")
    assert [file for file in files if file.exists()] == files[-3:]
    assert newest.exists()


@pytest.mark.parametrize("around", ["", " ", "\n", "\t "])
def test_blanks_around_a_pasted_key_are_ignored(home: Settings, around: str) -> None:
    get_store(home).put("exports/music/a.manifest", b"rows")
    uri = f"{around}exports/music/a.manifest{around}"
    assert fetch_export(uri, work_folder(home)).path.read_bytes() == b"rows"


@pytest.mark.parametrize("text", ["", "  ", "\n"])
def test_no_export_is_asked_for_with_an_example(home: Settings, text: str) -> None:
    with pytest.raises(DataError, match="the export is empty: give a URI, a path, or a key"):
        fetch_export(text, work_folder(home))


@pytest.mark.parametrize("folder", ["exports/music/", "exports/music", " exports/music/\n"])
def test_a_folder_of_the_store_is_answered_with_its_files(home: Settings, folder: str) -> None:
    get_store(home).put("exports/music/a.manifest", b"rows")
    get_store(home).put("exports/music/old/b.manifest", b"rows")
    message = (
        "'exports/music/?' is a folder: give one file in it, such as exports/music/a.manifest$"
    )
    with pytest.raises(DataError, match=message):
        fetch_export(folder, work_folder(home))


def test_a_folder_of_this_machine_is_called_one(home: Settings, tmp_path: Path) -> None:
    for uri in (str(tmp_path), f"{tmp_path}/", tmp_path.as_uri(), f"{tmp_path.as_uri()}/"):
        with pytest.raises(DataError, match=r"is a folder: give one file in it$"):
            fetch_export(uri, work_folder(home))


@pytest.mark.parametrize("uri", ["C:\\Users\\li\\导出.manifest", "exports//a.manifest", "../a"])
def test_a_key_that_no_store_has_is_bad_data_and_not_retried(home: Settings, uri: str) -> None:
    with pytest.raises(DataError, match="cannot be in a store"):
        fetch_export(uri, work_folder(home))
