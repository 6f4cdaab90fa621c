import dataclasses
import errno
import itertools
import os
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from intent_core.errors import ConfigError, StorageError
from tasks.storage.objects import MissingObjectError, is_partial
from tasks.storage.oss.store import OssStore
from tests.support.alibaba.oss_emulator import REGION, Asked, Fault, OssEmulator
from tests.support.storage.store_drivers import failing_sync

pytestmark = pytest.mark.service

LARGE = 40 << 20  # three parts


@pytest.fixture
def store(emulator: OssEmulator, request: pytest.FixtureRequest) -> OssStore:
    options = emulator.options()
    return OssStore(emulator.backend.bucket, f"tests/{request.node.name}", options)


def methods(emulator: OssEmulator) -> list[str]:
    return [asked.method for asked in emulator.asked]


@pytest.mark.parametrize("kind", ["refuse", "drop", "lose"])
def test_what_may_pass_is_tried_again(emulator: OssEmulator, store: OssStore, kind: str) -> None:
    for method in ("PUT", "GET", "HEAD", "DELETE"):
        emulator.faults.append(Fault(method, kind, times=2))
    store.put("key", b"x")
    assert store.read("key") == b"x"
    assert store.stat("key") is not None
    assert [found.key for found in store.list()] == ["key"]
    store.delete("key")
    assert [methods(emulator).count(m) for m in ("PUT", "GET", "HEAD", "DELETE")] == [3, 4, 3, 3]


def test_what_does_not_pass_is_told_after_a_few_tries(
    emulator: OssEmulator, store: OssStore, closed_port: int
) -> None:
    emulator.faults.append(Fault("PUT", "refuse", times=99))
    with pytest.raises(StorageError, match=r"OSS failed \(503 ServiceUnavailable") as caught:
        store.put("key", b"x")
    assert methods(emulator) == ["PUT"] * 4
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    silent = OssStore(
        "models", "", emulator.options()._replace(endpoint=f"http://127.0.0.1:{closed_port}")
    )
    with pytest.raises(StorageError, match="Check INTENT_OSS_ENDPOINT"):
        silent.stat("key")


@pytest.fixture
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "source"
    path.write_bytes(os.urandom(LARGE))
    return path


def test_a_broken_download_goes_on_where_it_broke(
    emulator: OssEmulator, store: OssStore, source: Path, tmp_path: Path
) -> None:
    stored = store.upload(source, "key")
    emulator.faults.append(Fault("GET", "truncate", times=3))
    emulator.asked.clear()
    assert store.download("key", tmp_path / "target") == stored
    assert (tmp_path / "target").read_bytes() == source.read_bytes()
    gets = [asked.headers for asked in emulator.asked if asked.method == "GET"]
    assert len(gets) == 6, "three ranges, and a retry of each incomplete one"
    assert {get["if-match"] for get in gets} == {stored.etag}
    emulator.faults.append(Fault("GET", "truncate", times=1))
    assert store.read("key") == source.read_bytes()
    assert list(emulator.folder.iterdir()) == []


@pytest.mark.parametrize("ranges_before", [0, 1])
def test_an_object_that_changes_under_way_is_refused(
    emulator: OssEmulator, store: OssStore, source: Path, tmp_path: Path, ranges_before: int
) -> None:
    store.upload(source, "key")
    (tmp_path / "target").write_bytes(b"old")
    ranges = itertools.count()

    def replace(asked: Asked) -> None:
        if "range" in asked.headers and next(ranges) == ranges_before:
            name = f"{store.prefix}key"
            emulator.backend.client().put_object(Bucket="models", Key=name, Body=b"b" * LARGE)

    emulator.before = replace
    emulator.faults.append(Fault("GET", "truncate"))
    with pytest.raises(StorageError, match="changed during the transfer"):
        store.download("key", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
    assert list(emulator.folder.iterdir()) == []


def test_a_damaged_body_is_refused(
    emulator: OssEmulator, store: OssStore, source: Path, tmp_path: Path
) -> None:
    store.put("key", b"0123456789")
    store.upload(source, "large")
    (tmp_path / "target").write_bytes(b"old")
    emulator.faults.append(Fault("GET", "corrupt", times=99))
    for key in ("key", "large"):
        with pytest.raises(StorageError, match="CRC64 mismatch"):
            store.download(key, tmp_path / "target")
    with pytest.raises(StorageError, match="CRC64 mismatch"):
        store.read("key")
    assert (tmp_path / "target").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_a_full_disk_is_named_with_the_need(
    store: OssStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("key", b"x" * 77)
    monkeypatch.setattr(os, "fsync", failing_sync(errno.ENOSPC))
    with pytest.raises(StorageError, match=f"{tmp_path} is full and 77 bytes are needed"):
        store.download("key", tmp_path / "target")
    assert list(tmp_path.iterdir()) == []


def parts(emulator: OssEmulator) -> list[str]:
    """Return the numbers of the uploaded parts, sorted."""
    puts = [asked.query for asked in emulator.asked if asked.method == "PUT"]
    return sorted(query["partNumber"] for query in puts)


@pytest.mark.filterwarnings("ignore:The 'warn' method:DeprecationWarning")  # oss2's own
def test_a_large_file_goes_up_in_parts(
    emulator: OssEmulator, store: OssStore, source: Path, tmp_path: Path
) -> None:
    emulator.faults.append(Fault("PUT", "drop"))
    stored = store.upload(source, "key")
    assert len(parts(emulator)) == 4, "only the failed part is sent again"
    assert stored == store.download("key", tmp_path / "target") == store.stat("key")
    assert (tmp_path / "target").read_bytes() == source.read_bytes()
    assert list(emulator.folder.iterdir()) == []
    emulator.asked.clear()
    emulator.faults.append(Fault("POST", "lose", having="uploadId"))
    assert store.upload(source, "key") == stored
    assert parts(emulator) == sorted("112233"), "the writer of the object is unknown"


@pytest.mark.parametrize("size", [1, LARGE + 1, LARGE], ids=["shorter", "longer", "other bytes"])
def test_a_file_that_changes_while_it_is_sent_is_refused(
    emulator: OssEmulator, store: OssStore, source: Path, size: int
) -> None:
    store.put("key", b"old")

    def change(asked: Asked) -> None:
        if "uploads" in asked.query:
            source.write_bytes(b"y" * size)

    emulator.before = change
    with pytest.raises(StorageError, match="changed during the upload"):
        store.upload(source, "key")
    assert store.read("key") == b"old"
    assert "Uploads" not in emulator.backend.client().list_multipart_uploads(Bucket="models")


@pytest.mark.parametrize(
    "fault",
    [
        Fault("PUT", "refuse", times=99),
        Fault("POST", "refuse", having="uploadId", status=403, code="AccessDenied"),
    ],
    ids=["a part", "the end"],
)
def test_an_upload_that_fails_leaves_no_parts_behind(
    emulator: OssEmulator, store: OssStore, source: Path, fault: Fault
) -> None:
    store.put("key", b"old")
    emulator.faults.append(dataclasses.replace(fault))
    with pytest.raises((StorageError, ConfigError), match=fault.code):
        store.upload(source, "key")
    assert "Uploads" not in emulator.backend.client().list_multipart_uploads(Bucket="models")
    assert list(emulator.folder.iterdir()) == []
    assert store.read("key") == b"old"


KILLED = """
import sys
from pathlib import Path
from tasks.storage.oss.client import OssOptions
from tasks.storage.oss.store import OssStore

_, bucket, prefix, url, region, folder, action, path = sys.argv
store = OssStore(bucket, prefix, OssOptions(url, region, Path(folder)))
if action == "GET":
    store.download("key", Path(path))
else:
    store.upload(Path(path), "key")
"""


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_transfer_that_is_killed_leaves_what_was(
    emulator: OssEmulator, store: OssStore, source: Path, tmp_path: Path, method: str
) -> None:
    """A partial object or file never has the name of a complete one."""
    target, requests = tmp_path / "target", itertools.count()
    store.upload(source, "key")
    if method == "PUT":
        store.put("key", b"old")
    target.write_bytes(b"old")
    reached = threading.Event()

    def halt(asked: Asked) -> None:
        if asked.method == method and asked.key and next(requests):
            reached.set()
            time.sleep(5)

    emulator.before = halt
    path = str(target if method == "GET" else source)
    where = [emulator.backend.bucket, store.prefix, emulator.url, REGION, str(emulator.folder)]
    process = subprocess.Popen([sys.executable, "-c", KILLED, *where, method, path])
    assert reached.wait(60)
    process.kill()
    process.wait()
    emulator.before = lambda asked: None
    assert target.read_bytes() == b"old"
    assert [path for path in tmp_path.iterdir() if not is_partial(path.name)] == [target]
    if method == "PUT":
        assert store.read("key") == b"old"
        store.upload(source, "key")
    store.download("key", target)
    assert target.read_bytes() == source.read_bytes()


def test_of_several_writers_one_wins(emulator: OssEmulator, store: OssStore) -> None:
    barrier = threading.Barrier(8)

    def write(number: int) -> bool:
        barrier.wait()
        return store.put_if_absent("claim", str(number).encode())

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(write, range(8)))
    assert won.count(True) == 1
    assert store.read("claim") == str(won.index(True)).encode()
    refused = [a for a in emulator.asked if a.headers.get("x-oss-forbid-overwrite") == "true"]
    assert len(refused) == 8


def test_a_claim_whose_answer_is_lost_is_still_ours(emulator: OssEmulator, store: OssStore) -> None:
    emulator.faults.append(Fault("PUT", "lose"))
    assert store.put_if_absent("claim", b"x")
    assert methods(emulator) == ["PUT", "PUT", "HEAD"]
    assert not store.put_if_absent("claim", b"x")


def test_an_answer_without_a_body_still_says_what_is_missing(
    emulator: OssEmulator, store: OssStore
) -> None:
    emulator.faults.append(Fault("HEAD", "bare", times=2))
    assert store.stat("key") is None
    absent = OssStore("absent-bucket", "", emulator.options())
    with pytest.raises(ConfigError, match="bucket does not exist"):
        absent.stat("key")


def test_folders_of_the_console_are_no_objects(emulator: OssEmulator, store: OssStore) -> None:
    emulator.backend.client().put_object(Bucket="models", Key=f"{store.prefix}folder/", Body=b"")
    store.put("folder/key", b"x")
    assert [found.key for found in store.list()] == ["folder/key"]
    with pytest.raises(MissingObjectError, match="similar keys: 'folder/key'"):
        store.read("folder/kez")
