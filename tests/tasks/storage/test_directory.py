import errno
import hashlib
import os
import pickle
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from intent_core.errors import DataError, StorageError
from tasks.storage.directory import MOST_COMPARED
from tasks.storage.objects import (
    MissingObjectError,
    ObjectStore,
    download_folder,
    require_readable,
    upload_folder,
)
from tasks.storage.open import open_store
from tests.support.processes.unprivileged import run_unprivileged
from tests.support.storage.store_drivers import failing_sync

TEXT = "杭州".encode()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> ObjectStore:
    return open_store(root.as_uri())


def files_below(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_what_is_put_can_be_read_and_is_described(store: ObjectStore, root: Path) -> None:
    stored = store.put("训练/a.json", TEXT)
    assert store.read("训练/a.json") == TEXT
    assert (stored.key, stored.size) == ("训练/a.json", 6)
    assert stored.etag == hashlib.sha256(TEXT).hexdigest()
    assert stored.uri == (root / "训练/a.json").as_uri()
    assert store.stat("训练/a.json") == stored


def test_put_replaces_and_leaves_nothing_beside(store: ObjectStore, root: Path) -> None:
    store.put("a", b"one")
    store.put("a", b"two")
    assert store.read("a") == b"two"
    assert files_below(root) == ["a"]


def test_list_is_by_prefix_in_key_order(store: ObjectStore) -> None:
    assert list(store.list("")) == []
    for key in ("b/2", "a/1", "b.txt", "b/1"):
        store.put(key, b"x")
    assert [found.key for found in store.list("")] == ["a/1", "b.txt", "b/1", "b/2"]
    assert [found.key for found in store.list("b/")] == ["b/1", "b/2"]
    assert [found.key for found in store.list("b")] == ["b.txt", "b/1", "b/2"]
    assert list(store.list("c/")) == list(store.list("b.txt/")) == []


def test_unfinished_writes_are_no_objects(store: ObjectStore, root: Path) -> None:
    store.put("a", b"x")
    (root / ".0123.partial").write_bytes(b"half")
    assert [found.key for found in store.list("")] == ["a"]
    with pytest.raises(StorageError, match="unfinished"):
        store.read(".0123.partial")


def test_upload_and_download_carry_the_bytes(
    store: ObjectStore, root: Path, tmp_path: Path
) -> None:
    source, target = tmp_path / "source", tmp_path / "new" / "target"
    source.write_bytes(b"x" * 3_000_000)
    stored = store.upload(source, "deep/key")
    assert stored == store.download("deep/key", target)
    assert stored.etag == hashlib.sha256(target.read_bytes()).hexdigest()
    assert files_below(target.parent) == ["target"]
    assert files_below(root) == ["deep/key"]


def test_a_copy_that_comes_out_short_is_refused(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("a", b"0123456789")
    monkeypatch.setattr(
        "tasks.storage.transfers.copy", lambda source, sink: (sink.write(b"012"), "etag")
    )
    with pytest.raises(StorageError, match="3 of 10 bytes"):
        store.download("a", tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_a_failed_write_leaves_the_old_object(
    store: ObjectStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("a", b"old")
    monkeypatch.setattr(os, "fsync", failing_sync(errno.EIO))
    with pytest.raises(StorageError, match="Input/output error") as caught:
        store.put("a", b"new")
    assert isinstance(caught.value.__cause__, OSError)
    assert files_below(root) == ["a"]
    assert store.read("a") == b"old"


def test_a_full_disk_is_named_with_the_need(
    store: ObjectStore, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x" * 1234)
    store.put("there", b"x" * 77)
    monkeypatch.setattr(os, "fsync", failing_sync(errno.ENOSPC))
    with pytest.raises(StorageError, match=f"{root}/deep is full and 1234 bytes are needed"):
        store.upload(source, "deep/key")
    with pytest.raises(StorageError, match=f"{root} is full and 5 bytes are needed"):
        store.put("key", b"12345")
    with pytest.raises(StorageError, match=f"{tmp_path} is full and 77 bytes are needed"):
        store.download("there", tmp_path / "target")
    assert files_below(root) == ["there"]


def test_put_if_absent_keeps_the_first(store: ObjectStore, root: Path) -> None:
    assert store.put_if_absent("ledger/1", b"first")
    assert not store.put_if_absent("ledger/1", b"second")
    assert store.read("ledger/1") == b"first"
    assert files_below(root) == ["ledger/1"]


def test_put_if_absent_has_one_winner(store: ObjectStore) -> None:
    barrier, won = threading.Barrier(8), list[int]()

    def write(number: int) -> None:
        barrier.wait()
        if store.put_if_absent("claim", str(number).encode()):
            won.append(number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    assert len(won) == 1
    assert store.read("claim") == str(won[0]).encode()


def test_put_if_absent_does_not_take_a_folder_for_a_winner(store: ObjectStore) -> None:
    store.put("a/b", b"x")
    with pytest.raises(StorageError, match="exists"):
        store.put_if_absent("a", b"x")


def test_delete_is_done_when_nothing_is_left(store: ObjectStore) -> None:
    store.put("a", b"x")
    store.delete("a")
    store.delete("a")
    assert store.stat("a") is None


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/etc/passwd",
        "..",
        "../x",
        "a/../../x",
        "a\\b",
        "a\0b",
        "a//b",
        "a/",
        "./a",
        ".",
        "\ud800",
        "\udcff",
    ],
)
def test_keys_that_could_leave_the_store_are_refused(
    store: ObjectStore, tmp_path: Path, key: str
) -> None:
    operations: list[Callable[[], object]] = [
        lambda: store.stat(key),
        lambda: store.read(key),
        lambda: store.put(key, b"x"),
        lambda: store.put_if_absent(key, b"x"),
        lambda: store.delete(key),
        lambda: store.download(key, tmp_path / "target"),
        lambda: store.upload(tmp_path, key),
    ]
    for operation in operations:
        with pytest.raises(StorageError) as caught:
            operation()
        assert repr(key) in str(caught.value)
        assert not isinstance(caught.value, MissingObjectError)


def test_a_prefix_cannot_leave_the_store_either(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"x")
    for prefix in ("../", "/", "a/../../"):
        with pytest.raises(StorageError, match="invalid key"):
            list(store.list(prefix))


def test_symlinks_that_lead_out_are_refused(store: ObjectStore, root: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    store.put("inside", b"x")
    (root / "file").symlink_to(secret)
    (root / "folder").symlink_to(tmp_path)
    (root / "alias").symlink_to(root / "inside")
    for key in ("file", "folder/secret", "folder/new"):
        with pytest.raises(StorageError, match=f"'{key}' leads out"):
            store.put(key, b"changed")
        with pytest.raises(StorageError, match=f"'{key}' leads out"):
            store.read(key)
    assert secret.read_bytes() == b"secret"
    assert store.read("alias") == b"x"


def make_odd_names(root: Path, outside: Path) -> dict[str, str]:
    """Create names that are not those of objects; return why each is skipped."""
    (root / "in/a\\folder").mkdir()
    (root / "in/a\\folder/file").write_bytes(b"x")
    (root / "in/back\\slash").write_bytes(b"x")
    (root / os.fsdecode(b"in/\xff\xfe")).write_bytes(b"x")
    (root / "in/dangling").symlink_to(root / "nothing")
    (root / "in/circle").symlink_to(root / "in/circle")
    (root / "in/out").symlink_to(outside)
    (root / "in/outer").symlink_to(outside.parent)
    (root / "in/inner").symlink_to(root / "in")
    os.mkfifo(root / "in/pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.getcwd()
        os.chdir(root / "in")  # a socket's path holds 107 bytes
        listener.bind("socket")
        os.chdir(here)
    return {
        "in/a\\folder": "backslash",
        "in/back\\slash": "backslash",
        "in/\udcff\udcfe": "Unicode",
        "in/dangling": "leads nowhere",
        "in/circle": "leads nowhere",
        "in/out": "leads out",
        "in/outer": "leads out",
        "in/inner": "not a file",
        "in/pipe": "not a file",
        "in/socket": "not a file",
    }


def test_a_listing_skips_and_reports_odd_names(
    store: ObjectStore, root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "secret").write_bytes(b"x")
    for key in ("in/a.manifest", "in/z.manifest"):
        store.put(key, b"x")
    (root / "in/alias").symlink_to(root / "in/a.manifest")
    reasons = make_odd_names(root, tmp_path / "secret")
    for _ in range(2):
        keys = ["in/a.manifest", "in/alias", "in/z.manifest"]
        assert [found.key for found in store.list("in/")] == keys
        assert [found.key for found in store.scan("")] == keys
        assert list(store.list("in/outer/")) == []
    assert store.list_unfinished("in/") == ()
    skipped = dict(store.list_skipped(""))
    assert skipped.keys() == reasons.keys()
    assert all(reasons[name] in skipped[name] for name in skipped)
    assert len(caplog.messages) == len(set(caplog.messages)) >= len(reasons)
    with pytest.raises(MissingObjectError, match=r"'in/a\.manifest'"):
        store.read("in/b.manifest")


def test_what_this_user_cannot_read_is_skipped_but_never_taken_for_absent(
    store: ObjectStore, root: Path
) -> None:
    for key in ("in/a", "in/folder/b", "in/file", "closed/c"):
        store.put(key, b"x")
    for name in ("in/folder", "in/file", "closed"):
        (root / name).chmod(0)

    def list_all() -> tuple[list[str], list[str], list[str]]:
        keys = [found.key for found in store.list("")]
        with pytest.raises(StorageError, match=r"'in/f(older|ile)' in the store cannot be read"):
            require_readable(store, "in/")
        return keys, sorted(name for name, _ in store.list_skipped("")), [*store.list("closed/")]

    keys, skipped, closed = run_unprivileged(list_all)
    assert (keys, skipped, closed) == (["in/a"], ["closed", "in/file", "in/folder"], [])
    root.chmod(0)
    with pytest.raises(StorageError, match="Permission denied"):
        raise run_unprivileged(lambda: _fault_of(store)) or AssertionError
    for path in (root, root / "in/folder", root / "in/file", root / "closed"):
        path.chmod(0o700)


def _fault_of(store: ObjectStore) -> Exception | None:
    try:
        list(store.list(""))
    except StorageError as error:
        return error
    return None


def test_a_missing_object_is_named_with_its_neighbours(
    store: ObjectStore, root: Path, tmp_path: Path
) -> None:
    with pytest.raises(MissingObjectError, match="no similar keys"):
        store.read("exports/2024-05-02.manifest")
    store.put("exports/2024-05-01.manifest", b"x")
    with pytest.raises(MissingObjectError) as caught:
        store.read("exports/2024-05-02.manifest")
    assert (root / "exports/2024-05-02.manifest").as_uri() in str(caught.value)
    assert "'exports/2024-05-01.manifest'" in str(caught.value)
    with pytest.raises(MissingObjectError):
        store.download("exports", tmp_path / "target")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_missing_file_does_not_read_the_whole_disk(
    store: ObjectStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store of an export that is given by its path can be `/`."""
    for folder in map(str, range(50)):
        (root / folder).mkdir(parents=True)
        for name in range(MOST_COMPARED // 10):
            (root / folder / f"{name}.manifest").touch()
    listed: list[object] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(path) or scandir(path))
    with pytest.raises(MissingObjectError, match=r"similar keys: '7/5\.manifest'"):
        store.read("7/5.manifes")
    assert listed == [str(root / "7")]
    with pytest.raises(MissingObjectError, match=r"similar keys: '\d+/\d+\.manifest'"):
        store.read("nowhere/5.manifest")
    assert len(listed) < 20


def test_other_faults_are_storage_errors(store: ObjectStore) -> None:
    store.put("a", b"x")
    with pytest.raises(StorageError, match="a/b"):
        store.put("a/b", b"x")
    with pytest.raises(StorageError, match="too long"):
        store.put("x" * 300, b"x")


def test_a_folder_goes_up_with_its_manifest_last_and_comes_back(
    store: ObjectStore, tmp_path: Path
) -> None:
    folder, target = tmp_path / "model", tmp_path / "copy"
    (folder / "sub").mkdir(parents=True)
    for name in ("z.bin", "manifest.json", "sub/manifest.json"):
        (folder / name).write_bytes(name.encode())
    uploaded = upload_folder(store, folder, "models/m1/")
    assert [stored.key for stored in uploaded] == [
        "models/m1/sub/manifest.json",
        "models/m1/z.bin",
        "models/m1/manifest.json",
    ]
    store.put("models/m10/other", b"x")
    assert download_folder(store, "models/m1", target) == uploaded
    assert files_below(target) == ["manifest.json", "sub/manifest.json", "z.bin"]
    assert (target / "sub/manifest.json").read_bytes() == b"sub/manifest.json"


def test_a_folder_without_its_manifest_is_not_a_folder(
    store: ObjectStore, root: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "z.bin").write_bytes(b"x")
    with pytest.raises(DataError, match=r"does not contain manifest\.json"):
        upload_folder(store, folder, "m1")
    assert not root.exists()
    store.put("m1/z.bin", b"x")
    with pytest.raises(MissingObjectError, match="'m1' is missing or incomplete"):
        download_folder(store, "m1", tmp_path / "copy")
    assert [s.key for s in upload_folder(store, folder, "m2", last="z.bin")] == ["m2/z.bin"]


def test_roots_are_uris_or_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = tmp_path / "有 空格 100%25"
    open_store(odd.as_uri()).put("a", b"x")
    assert (odd / "a").read_bytes() == b"x"
    assert open_store(str(odd)).read("a") == b"x"
    assert open_store(f"file://localhost{tmp_path}").stat("b") is None
    monkeypatch.chdir(tmp_path)
    open_store("relative").put("a", b"y")
    assert (tmp_path / "relative/a").read_bytes() == b"y"
