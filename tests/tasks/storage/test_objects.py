"""The contract of every `ObjectStore` driver, on real servers. Drivers: `support/storage`."""

import os
import pickle
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from intent_core.errors import DataError, StorageError
from tasks.storage.objects import (
    MissingObjectError,
    ObjectStore,
    SkippedName,
    download_folder,
    list_invalid,
    skip_invalid,
    upload_folder,
)
from tests.support.storage.store_drivers import DRIVERS, Driver

pytestmark = pytest.mark.service

TEXT = "杭州".encode()
ODD_KEYS = ("训练/导出 1.jsonl", "a b/ c", "100%25/é&?#+=;@,'()!$*~.json", '<"quoted">', "é", "🙂")
OUTSIDE = ("", "/etc/passwd", ".", "..", "./a", "../x", "a/../../x")
UNSAFE_KEYS = (*OUTSIDE, "a\\b", "a\0b", "a//b", "a/", "a/.0123.partial")


@pytest.fixture(scope="module", params=DRIVERS)
def driver(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Driver]:
    with DRIVERS[request.param](tmp_path_factory.mktemp(request.param)) as driver:
        yield driver


@pytest.fixture
def prefix() -> str:
    return f"run {uuid.uuid4().hex}/数据"


@pytest.fixture
def store(driver: Driver, prefix: str) -> ObjectStore:
    os.environ.update(driver.environment)
    return driver.open(prefix)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    for name in ("z.bin", "manifest.json", "sub/manifest.json", "sub/权 重.bin"):
        (folder / name).write_bytes(name.encode())
    return folder


def keys_of(store: ObjectStore, prefix: str = "") -> list[str]:
    return [found.key for found in store.list(prefix)]


def files_below(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_what_is_put_can_be_read_and_is_described(
    driver: Driver, store: ObjectStore, prefix: str
) -> None:
    stored = store.put("训练/a.json", TEXT)
    assert store.read("训练/a.json") == TEXT
    assert (stored.key, stored.size) == ("训练/a.json", 6)
    assert stored.uri == driver.uri(prefix, "训练/a.json")
    assert store.stat("训练/a.json") == stored
    (listed,) = store.list()
    assert listed.changed is not None and abs(listed.changed - time.time()) < 60
    assert listed.model_copy(update={"changed": None}) == stored


def test_equal_bytes_have_equal_etags(store: ObjectStore) -> None:
    assert store.put("a", b"one").etag == store.put("b", b"one").etag
    assert store.put("a", b"two").etag != store.put("b", b"one").etag


def test_a_write_replaces(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"three")
    store.put("a", b"one")
    store.put("a", b"two")
    assert store.read("a") == b"two"
    store.upload(tmp_path / "source", "a")
    assert store.read("a") == b"three"
    assert keys_of(store) == ["a"]


@pytest.mark.parametrize("key", ODD_KEYS)
def test_keys_may_be_in_any_script(
    driver: Driver, store: ObjectStore, prefix: str, key: str, tmp_path: Path
) -> None:
    stored = store.put(key, TEXT)
    assert stored.uri == driver.uri(prefix, key)
    assert store.read(key) == TEXT
    assert store.stat(key) == stored
    assert keys_of(store) == keys_of(store, key) == [key]
    assert store.download(key, tmp_path / "target").etag == stored.etag
    store.delete(key)
    assert keys_of(store) == []


def test_an_object_may_be_empty(store: ObjectStore, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.touch()
    assert store.put("a", b"").size == store.upload(source, "b").size == 0
    assert store.read("a") == b""
    assert store.stat("b") == store.download("b", target)
    assert target.read_bytes() == b""
    assert keys_of(store) == ["a", "b"]


@pytest.mark.parametrize("size", [3_000_000, 20 << 20, (32 << 20) + 1])
def test_files_go_up_and_come_back(store: ObjectStore, tmp_path: Path, size: int) -> None:
    source, target = tmp_path / "source", tmp_path / "new" / "target"
    source.write_bytes(os.urandom(size))
    stored = store.upload(source, "deep/key")
    assert stored.size == size
    target.parent.mkdir()
    target.write_bytes(b"in its place before")
    assert stored == store.download("deep/key", target) == store.stat("deep/key")
    assert target.read_bytes() == source.read_bytes() == store.read("deep/key")
    assert files_below(target.parent) == ["target"]
    assert keys_of(store) == ["deep/key"]


def test_list_is_by_prefix_in_key_order(driver: Driver, store: ObjectStore, prefix: str) -> None:
    assert keys_of(store) == []
    for key in ("b/2", "a/1", "b.txt", "b-1", "b/1", "é", "Z"):
        store.put(key, b"x")
    driver.open(f"{prefix}2").put("other", b"x")
    assert keys_of(store) == ["Z", "a/1", "b-1", "b.txt", "b/1", "b/2", "é"]
    assert keys_of(store, "b/") == ["b/1", "b/2"]
    assert keys_of(store, "b") == ["b-1", "b.txt", "b/1", "b/2"]
    assert keys_of(store, "b/1") == ["b/1"]
    assert keys_of(store, "c/") == keys_of(store, "b.txt/") == []


def test_a_listing_of_several_pages_is_whole(driver: Driver, store: ObjectStore) -> None:
    keys = [f"many/{number:05}" for number in range(driver.page + 25)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda key: store.put(key, b"x"), reversed(keys)))
    store.put("more", b"x")
    assert keys_of(store, "many/") == keys
    assert keys_of(store) == [*keys, "more"]


def test_put_if_absent_keeps_the_first(store: ObjectStore) -> None:
    assert store.put_if_absent("ledger/1", b"first")
    assert not store.put_if_absent("ledger/1", b"second")
    assert store.read("ledger/1") == b"first"
    store.delete("ledger/1")
    assert store.put_if_absent("ledger/1", b"")
    assert not store.put_if_absent("ledger/1", b"third")


def test_put_if_absent_has_one_winner(store: ObjectStore) -> None:
    barrier = threading.Barrier(16)

    def write(number: int) -> bool:
        barrier.wait()
        return store.put_if_absent("claim", str(number).encode())

    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(write, range(16)))
    assert won.count(True) == 1
    assert store.read("claim") == str(won.index(True)).encode()


def test_delete_is_done_when_nothing_is_left(store: ObjectStore) -> None:
    store.put("a", b"x")
    store.put("ab", b"x")
    store.delete("a")
    store.delete("a")
    assert (store.stat("a"), keys_of(store)) == (None, ["ab"])


def test_a_missing_object_is_named_with_its_neighbours(
    driver: Driver, store: ObjectStore, prefix: str, tmp_path: Path
) -> None:
    assert store.stat("exports/2024-05-02.manifest") is None
    with pytest.raises(MissingObjectError, match="no similar keys"):
        store.read("exports/2024-05-02.manifest")
    store.put("exports/2024-05-01.manifest", b"x")
    with pytest.raises(MissingObjectError) as caught:
        store.read("exports/2024-05-02.manifest")
    assert driver.uri(prefix, "exports/2024-05-02.manifest") in str(caught.value)
    assert "'exports/2024-05-01.manifest'" in str(caught.value)
    with pytest.raises(MissingObjectError, match=r"'exports/2024-05-01\.manifest'"):
        store.download("export/2024-05-01.manifest", tmp_path / "target")
    with pytest.raises(MissingObjectError):
        store.download("exports", tmp_path / "target")
    assert files_below(tmp_path) == []
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize("key", UNSAFE_KEYS)
def test_keys_that_could_leave_the_store_are_refused(
    store: ObjectStore, tmp_path: Path, key: str
) -> None:
    (tmp_path / "source").write_bytes(b"x")
    operations: list[Callable[[], object]] = [
        lambda: store.stat(key),
        lambda: store.read(key),
        lambda: store.put(key, b"x"),
        lambda: store.put_if_absent(key, b"x"),
        lambda: store.delete(key),
        lambda: store.download(key, tmp_path / "target"),
        lambda: store.upload(tmp_path / "source", key),
    ]
    for operation in operations:
        with pytest.raises(StorageError) as caught:
            operation()
        assert repr(key) in str(caught.value)
        assert not isinstance(caught.value, MissingObjectError)


@pytest.mark.parametrize("unsafe", ["../", "/", "a/../../", "a\\b", "a//"])
def test_a_prefix_cannot_leave_the_store_either(store: ObjectStore, unsafe: str) -> None:
    with pytest.raises(StorageError, match="invalid key"):
        list(store.list(unsafe))


def test_a_source_that_is_not_there_is_named(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"gone.*No such file"):
        store.upload(tmp_path / "gone", "a")
    assert keys_of(store) == []


def test_a_folder_goes_up_with_its_manifest_last_and_comes_back(
    driver: Driver, store: ObjectStore, folder: Path, prefix: str, tmp_path: Path
) -> None:
    uploaded = upload_folder(store, folder, "models/m1/")
    assert [stored.key for stored in uploaded] == [
        "models/m1/sub/manifest.json",
        "models/m1/sub/权 重.bin",
        "models/m1/z.bin",
        "models/m1/manifest.json",
    ]
    store.put("models/m10/other", b"x")
    assert download_folder(store, "models/m1", tmp_path / "copy") == uploaded
    assert files_below(tmp_path / "copy") == files_below(folder)
    assert (tmp_path / "copy/sub/权 重.bin").read_bytes() == "sub/权 重.bin".encode()
    elsewhere = driver.open(f"{prefix}/models")
    assert [s.etag for s in download_folder(elsewhere, "m1", tmp_path / "again")] == [
        stored.etag for stored in uploaded
    ]


def test_a_folder_without_its_manifest_is_not_a_folder(
    store: ObjectStore, folder: Path, tmp_path: Path
) -> None:
    (folder / "manifest.json").unlink()
    with pytest.raises(DataError, match=r"does not contain manifest\.json"):
        upload_folder(store, folder, "m1")
    assert keys_of(store) == []
    store.put("m1/z.bin", b"x")
    with pytest.raises(MissingObjectError, match="'m1' is missing or incomplete"):
        download_folder(store, "m1", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_who_reads_while_others_write_gets_one_state_or_an_error(
    store: ObjectStore, tmp_path: Path
) -> None:
    size, states = 20 << 20, (b"a", b"b")
    for state in states:
        (tmp_path / state.decode()).write_bytes(state * size)
    store.upload(tmp_path / "a", "changing")
    stop = threading.Event()

    def write() -> None:
        for number in range(50):
            store.upload(tmp_path / "ab"[number % 2], "changing")
            if stop.is_set():
                return

    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(write)
        for number in range(6):
            target = tmp_path / f"target{number}"
            try:
                store.download("changing", target)
            except StorageError:
                assert not target.exists()
            else:
                assert target.read_bytes() in [state * size for state in states]
        stop.set()
        writer.result()


def test_threads_may_share_a_store(store: ObjectStore, tmp_path: Path) -> None:
    def walk(number: int) -> None:
        body, target = str(number).encode() * 1000, tmp_path / str(number)
        store.put(f"shared/{number}", body)
        store.download(f"shared/{number}", target)
        store.upload(target, f"again/{number}")
        assert store.read(f"again/{number}") == body

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(walk, range(40)))
    assert len(keys_of(store)) == 80


def test_a_bucket_s_listing_skips_keys_that_are_no_paths(caplog: pytest.LogCaptureFixture) -> None:
    # S3 and OSS accept such keys; the test server does not, so the entries are given.
    entries = [("a/b", 1), ("a\\b", 2), ("a//b", 3), ("../a", 4), ("c", 5)]
    logged = set[SkippedName]()
    for _ in range(2):
        assert list(skip_invalid(entries, "s3://bucket", logged)) == [("a/b", 1), ("c", 5)]
    assert [name for name, _ in list_invalid(entries)] == ["a\\b", "a//b", "../a"]
    assert len(caplog.messages) == 3
