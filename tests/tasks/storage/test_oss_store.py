import errno
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from intent_core.errors import ConfigError, StorageError
from tasks.storage.objects import MissingObjectError
from tasks.storage.oss import store as oss_store
from tasks.storage.oss.client import OssOptions
from tasks.storage.oss.store import OssStore
from tests.support.alibaba.oss_emulator import REGION, Asked, Facade, Fault
from tests.support.storage.store_drivers import failing_sync

pytestmark = pytest.mark.service


@pytest.fixture
def store(facade: Facade, request: pytest.FixtureRequest) -> OssStore:
    options = OssOptions(facade.url, REGION)
    return OssStore(facade.backend.bucket, f"tests/{request.node.name}", options)


def methods(facade: Facade) -> list[str]:
    return [asked.method for asked in facade.asked]


@pytest.mark.parametrize("kind", ["refuse", "drop", "lose"])
def test_what_may_pass_is_tried_again(facade: Facade, store: OssStore, kind: str) -> None:
    for method in ("PUT", "GET", "HEAD", "DELETE"):
        facade.faults.append(Fault(method, kind, times=2))
    store.put("key", b"x")
    assert store.read("key") == b"x"
    assert store.stat("key") is not None
    assert [found.key for found in store.list()] == ["key"]
    store.delete("key")
    assert [methods(facade).count(m) for m in ("PUT", "GET", "HEAD", "DELETE")] == [3, 4, 3, 3]


def test_what_does_not_pass_is_told_after_a_few_tries(
    facade: Facade, store: OssStore, closed_port: int
) -> None:
    facade.faults.append(Fault("PUT", "refuse", times=99))
    with pytest.raises(StorageError, match=r"OSS failed \(503 ServiceUnavailable") as caught:
        store.put("key", b"x")
    assert methods(facade) == ["PUT"] * 4
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    silent = OssStore("models", "", OssOptions(f"http://127.0.0.1:{closed_port}", REGION))
    with pytest.raises(StorageError, match="check INTENT_OSS_ENDPOINT"):
        silent.stat("key")


def test_a_broken_download_goes_on_where_it_broke(
    facade: Facade, store: OssStore, tmp_path: Path
) -> None:
    data = os.urandom(5_000_000)
    stored = store.put("key", data)
    facade.faults.append(Fault("GET", "truncate", times=3))
    assert store.download("key", tmp_path / "target") == stored
    assert (tmp_path / "target").read_bytes() == data
    gets = [asked.headers for asked in facade.asked if asked.method == "GET"]
    assert [get.get("range", "")[:14] for get in gets[:2]] == ["", "bytes=2500000-"]
    assert {get["if-match"] for get in gets} == {f'"{stored.etag}"'}
    facade.faults.append(Fault("GET", "truncate", times=1))
    assert store.read("key") == data


def test_an_object_that_changes_under_way_is_refused(
    facade: Facade, store: OssStore, tmp_path: Path
) -> None:
    store.put("key", b"a" * 5_000_000)

    def replace(asked: Asked) -> None:
        if "range" in asked.headers:
            name = f"{store.prefix}key"
            facade.backend.client().put_object(Bucket="models", Key=name, Body=b"b" * 5_000_000)

    facade.before = replace
    facade.faults.append(Fault("GET", "truncate"))
    with pytest.raises(StorageError, match="changed under way"):
        store.download("key", tmp_path / "target")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_body_is_refused(facade: Facade, store: OssStore, tmp_path: Path) -> None:
    store.put("key", b"0123456789")
    (tmp_path / "target").write_bytes(b"old")
    facade.faults.append(Fault("GET", "corrupt", times=2))
    with pytest.raises(StorageError, match="CRC64 differs"):
        store.download("key", tmp_path / "target")
    with pytest.raises(StorageError, match="CRC64 differs"):
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


def test_a_large_file_goes_up_in_parts(
    facade: Facade, store: OssStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oss_store, "PART", 5 << 20)
    source = tmp_path / "source"
    source.write_bytes(os.urandom(12 << 20))
    gone = Fault("POST", "refuse", having="uploadId", status=404, code="NoSuchUpload")
    facade.faults += [Fault("PUT", "drop"), Fault("POST", "lose", having="uploadId"), gone]
    stored = store.upload(source, "key")
    assert stored == store.download("key", tmp_path / "target") == store.stat("key")
    assert (tmp_path / "target").read_bytes() == source.read_bytes()
    completions = [a for a in facade.asked if a.method == "POST" and "uploadId" in a.query]
    assert len(completions) == 2
    assert stored.etag == store.put("again", source.read_bytes()).etag
    puts = [asked for asked in facade.asked if asked.method == "PUT"]
    assert all("partNumber" in put.query and "content-md5" in put.headers for put in puts)


def test_an_upload_that_fails_leaves_no_parts_behind(
    facade: Facade, store: OssStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oss_store, "PART", 5 << 20)
    source = tmp_path / "source"
    source.write_bytes(b"x" * (11 << 20))
    store.put("key", b"old")

    def grow(asked: Asked) -> None:
        if "uploads" in asked.query:
            source.write_bytes(b"y" * (12 << 20))

    facade.before = grow
    with pytest.raises(StorageError, match="changed while it was uploaded"):
        store.upload(source, "key")
    facade.before = lambda asked: None
    facade.faults.append(Fault("PUT", "refuse", times=99))
    with pytest.raises(StorageError, match="503"):
        store.upload(source, "key")
    facade.faults[0] = Fault("POST", "refuse", having="uploadId", status=404, code="NoSuchUpload")
    with pytest.raises(StorageError, match="NoSuchUpload"):
        store.upload(source, "key")
    uploads = facade.backend.client().list_multipart_uploads(Bucket="models")
    assert "Uploads" not in uploads
    assert store.read("key") == b"old"


def test_of_several_writers_one_wins(facade: Facade, store: OssStore) -> None:
    barrier = threading.Barrier(8)

    def write(number: int) -> bool:
        barrier.wait()
        return store.put_if_absent("claim", str(number).encode())

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(write, range(8)))
    assert won.count(True) == 1
    assert store.read("claim") == str(won.index(True)).encode()
    refused = [a for a in facade.asked if a.headers.get("x-oss-forbid-overwrite") == "true"]
    assert len(refused) == 8


def test_a_claim_whose_answer_is_lost_is_still_ours(facade: Facade, store: OssStore) -> None:
    facade.faults.append(Fault("PUT", "lose"))
    assert store.put_if_absent("claim", b"x")
    assert methods(facade) == ["PUT", "PUT", "HEAD"]
    assert not store.put_if_absent("claim", b"x")


def test_an_answer_without_a_body_still_says_what_is_missing(
    facade: Facade, store: OssStore
) -> None:
    facade.faults.append(Fault("HEAD", "bare", times=2))
    assert store.stat("key") is None
    absent = OssStore("absent-bucket", "", OssOptions(facade.url, REGION))
    with pytest.raises(ConfigError, match="no such bucket"):
        absent.stat("key")


def test_folders_of_the_console_are_no_objects(facade: Facade, store: OssStore) -> None:
    facade.backend.client().put_object(Bucket="models", Key=f"{store.prefix}folder/", Body=b"")
    store.put("folder/key", b"x")
    assert [found.key for found in store.list()] == ["folder/key"]
    with pytest.raises(MissingObjectError, match="nearest: 'folder/key'"):
        store.read("folder/kez")
