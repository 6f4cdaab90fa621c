"""Transfers of large objects while the connection, the object, the file or the disk fails.

In every case the object and the target are either complete or unchanged.
"""

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from intent_core.errors import StorageError
from intent_core.files import PARTIAL
from tasks.storage.s3.store import S3Store
from tests.support.faults.http_fault_proxy import (
    Fault,
    Proxy,
    answer_with,
    cut_after,
    lose_answer,
    meanwhile,
    reset,
    rewrite,
    stall,
)
from tests.support.servers.seaweedfs import Seaweed
from tests.support.storage.s3_client import is_retried, open_s3
from tests.support.storage.store_drivers import failing_sync

pytestmark = pytest.mark.service

LARGE = 40 << 20  # three parts


@pytest.fixture
def store(server: Seaweed, proxy: Proxy) -> S3Store:
    return open_s3(server, server.full, proxy.url)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(os.urandom(LARGE))
    return path


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.endswith(PARTIAL)]


BREAKS = {"cut": cut_after(5_000_000), "stalled": stall(1.5), "reset": reset()}


@pytest.mark.parametrize("fault", BREAKS.values(), ids=BREAKS)
def test_a_download_goes_on_where_it_broke(
    store: S3Store, proxy: Proxy, source: Path, tmp_path: Path, fault: Fault
) -> None:
    store.upload(source, "large")
    proxy.inject("GET", "/large", fault, times=3)
    store.download("large", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == source.read_bytes()


def test_a_read_that_broke_is_done_again(store: S3Store, proxy: Proxy) -> None:
    store.put("text", b"0123456789")
    proxy.inject("GET", "/text", cut_after(4), times=2)
    assert store.read("text") == b"0123456789"


def test_a_download_that_keeps_breaking_leaves_nothing(
    store: S3Store, proxy: Proxy, source: Path, tmp_path: Path
) -> None:
    store.upload(source, "large")
    (tmp_path / "target").write_bytes(b"old")
    proxy.inject("GET", "/large", cut_after(1000), times=99)
    with pytest.raises(StorageError, match="connection failed or was lost") as caught:
        store.download("large", tmp_path / "target")
    with pytest.raises(StorageError, match="connection failed or was lost"):
        store.read("large")
    assert is_retried(caught.value)
    assert (tmp_path / "target").read_bytes() == b"old"
    assert leftovers(tmp_path) == []


def test_a_server_that_stands_still_is_given_up(
    server: Seaweed, proxy: Proxy, tmp_path: Path
) -> None:
    store = open_s3(server, server.full, proxy.url, timeout_s=0.3)
    store.put("slow", b"0123456789")
    proxy.inject("GET", "/slow", stall(1), times=99)
    for ask in (lambda: store.read("slow"), lambda: store.download("slow", tmp_path / "target")):
        started = time.monotonic()
        with pytest.raises(StorageError, match="did not answer within the timeout") as caught:
            ask()
        assert time.monotonic() - started < 10
        assert is_retried(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_bytes_that_changed_on_the_way_are_refused(
    store: S3Store, proxy: Proxy, server: Seaweed, tmp_path: Path, source: Path
) -> None:
    body = b"0123456789" * 10
    store.put("small", body)
    store.upload(source, "ours")
    server.client().upload_file(str(source), server.bucket, "faults/theirs")
    middle = source.read_bytes()[20_000_000:20_000_100]
    for key, old in {"small": b"5", "ours": middle, "theirs": middle}.items():
        proxy.inject("GET", f"/{key}", rewrite(old, b"#" * len(old)), times=20)
        with pytest.raises(StorageError, match="checksum mismatch") as caught:
            store.download(key, tmp_path / "target")
        assert is_retried(caught.value)
        assert not (tmp_path / "target").exists()
    with pytest.raises(StorageError, match="checksum mismatch"):
        store.read("small")
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("ranges_before", [0, 1])
def test_an_object_replaced_under_way_is_no_mixture(
    store: S3Store, proxy: Proxy, source: Path, tmp_path: Path, ranges_before: int
) -> None:
    store.upload(source, "changing")
    proxy.inject("GET", "/changing", meanwhile(lambda: None), times=ranges_before)

    def replace() -> None:
        store.put("changing", b"other")

    proxy.inject("GET", "/changing", meanwhile(replace))
    with pytest.raises(StorageError, match="replaced during the download") as caught:
        store.download("changing", tmp_path / "target")
    assert is_retried(caught.value)
    assert not (tmp_path / "target").exists()
    assert leftovers(tmp_path) == []


def test_an_upload_that_keeps_breaking_leaves_the_old_object(
    store: S3Store, proxy: Proxy, server: Seaweed, source: Path
) -> None:
    store.put("large", b"old")
    proxy.inject("PUT", "partNumber=2", reset(), times=9)
    with pytest.raises(StorageError, match="connection failed or was lost") as caught:
        store.upload(source, "large")
    assert is_retried(caught.value)
    assert store.read("large") == b"old"
    listed = server.client().list_multipart_uploads(Bucket=server.bucket)
    assert listed.get("Uploads", []) == []


def test_an_upload_survives_what_passes(store: S3Store, proxy: Proxy, source: Path) -> None:
    proxy.inject("PUT", "partNumber=2", reset())
    proxy.inject("PUT", "partNumber=3", lose_answer())
    proxy.inject("POST", "uploads", answer_with(503, "SlowDown"))
    store.upload(source, "large")
    assert store.read("large") == source.read_bytes()


def change(path: Path, size: int) -> None:
    path.write_bytes(b"x" * size)


@pytest.mark.parametrize("size", [1, 6 << 24], ids=["shorter", "other bytes"])
def test_a_file_that_changes_while_it_is_sent_is_refused(
    store: S3Store, proxy: Proxy, server: Seaweed, tmp_path: Path, size: int
) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(6 << 24))  # more parts than are read ahead
    store.put("large", b"old")
    proxy.inject("POST", "uploads", meanwhile(lambda: change(source, size)))
    with pytest.raises(StorageError, match="changed during the upload") as caught:
        store.upload(source, "large")
    assert is_retried(caught.value)
    assert store.read("large") == b"old"
    assert "Uploads" not in server.client().list_multipart_uploads(Bucket=server.bucket)


def test_an_upload_is_of_one_state_of_the_file(store: S3Store, proxy: Proxy, source: Path) -> None:
    before = source.read_bytes()
    store.put("large", b"old")
    proxy.inject("PUT", "partNumber=1", meanwhile(lambda: change(source, LARGE)))
    try:
        store.upload(source, "large")
    except StorageError:
        assert store.read("large") == b"old"
    else:
        assert store.read("large") == before


KILLED = """
import sys
from pathlib import Path
from tasks.storage.s3.store import S3Options, S3Store

_, bucket, url, action, path = sys.argv
store = S3Store(bucket, "faults", S3Options(url, "us-east-1", "path"))
if action == "GET":
    store.download("large", Path(path))
else:
    store.upload(Path(path), "large")
"""


@pytest.mark.parametrize(("method", "part"), [("GET", "/large"), ("PUT", "partNumber=2")])
def test_a_transfer_that_is_killed_leaves_what_was(
    store: S3Store, proxy: Proxy, server: Seaweed, source: Path, method: str, part: str
) -> None:
    """A partial object or file never has the name of a complete one."""
    target = source.with_name("target")
    store.upload(source, "large")
    if method == "PUT":
        store.put("large", b"old")
    target.write_bytes(b"old")
    reached = threading.Event()
    proxy.inject(method, part, meanwhile(lambda: reached.set() or time.sleep(5)))
    path = str(target if method == "GET" else source)
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, server.bucket, proxy.url, method, path]
    )
    assert reached.wait(60)
    process.kill()
    process.wait()
    assert target.read_bytes() == b"old"
    assert len(leftovers(source.parent)) == len(list(source.parent.iterdir())) - 2
    if method == "PUT":
        assert store.read("large") == b"old"
        store.upload(source, "large")
    store.download("large", target)
    assert target.read_bytes() == source.read_bytes()


def test_a_full_disk_is_named_with_the_need(
    store: S3Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("key", b"x" * 77)
    monkeypatch.setattr(os, "fsync", failing_sync(errno.ENOSPC))
    with pytest.raises(StorageError, match=f"{tmp_path} is full and 77 bytes are needed") as caught:
        store.download("key", tmp_path / "target")
    assert is_retried(caught.value)
    assert list(tmp_path.iterdir()) == []


LIMITED = """
import resource, sys
from pathlib import Path
from intent_core.errors import StorageError
from tasks.storage.s3.store import S3Options, S3Store

resource.setrlimit(resource.RLIMIT_FSIZE, (20 << 20, 20 << 20))
store = S3Store(sys.argv[1], "faults", S3Options(sys.argv[2], "us-east-1", "path"))
try:
    store.download("large", Path(sys.argv[3]))
except StorageError as error:
    sys.exit(str(error))
"""


def test_a_disk_that_takes_no_more_leaves_nothing(
    store: S3Store, server: Seaweed, source: Path, tmp_path: Path
) -> None:
    store.upload(source, "large")
    target = tmp_path / "there" / "target"
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, server.bucket, server.url, str(target)],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert f"cannot download to {target} s3://models/faults/large: File too large" in done.stderr
    assert done.returncode == 1
    assert list(target.parent.iterdir()) == []
