"""Features specific to S3: folder markers, parts, versions, server-side encryption, proxies."""

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from intent_core.errors import ConfigError
from tasks.storage.objects import download_folder, upload_folder
from tasks.storage.s3.checksums import find_check, is_md5
from tasks.storage.s3.store import S3Options, S3Store
from tests.support.servers.seaweedfs import REGION, Seaweed

pytestmark = pytest.mark.service

MIB = 1 << 20


@pytest.fixture
def client(server: Seaweed) -> Any:
    return server.client()


@pytest.fixture
def store(server: Seaweed) -> S3Store:
    return open_store(server, server.bucket, "p")


def open_store(server: Seaweed, bucket: str, prefix: str) -> S3Store:
    os.environ.update(server.full.environment())
    return S3Store(bucket, prefix, S3Options(server.url, REGION, "path"))


def put_parts(client: Any, bucket: str, key: str, *sizes: int) -> bytes:
    """Upload an object like other tools do, in parts of these sizes."""
    at = {"Bucket": bucket, "Key": key}
    upload = {**at, "UploadId": client.create_multipart_upload(**at)["UploadId"]}
    bodies = [os.urandom(size) for size in sizes]
    parts = [
        {
            "PartNumber": number,
            "ETag": client.upload_part(**upload, PartNumber=number, Body=body)["ETag"],
        }
        for number, body in enumerate(bodies, start=1)
    ]
    client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    return b"".join(bodies)


@pytest.mark.parametrize("prefix", ["", "/", "deep/er", "/deep/er/"])
def test_a_prefix_may_be_deep_or_empty(server: Seaweed, client: Any, prefix: str) -> None:
    store = open_store(server, server.bucket, prefix)
    stored = store.put("a/b", b"x")
    key = f"{prefix.strip('/')}/a/b".lstrip("/")
    assert stored.uri == f"s3://{server.bucket}/{key}"
    assert client.head_object(Bucket=server.bucket, Key=key)["ContentLength"] == 1
    assert "a/b" in [found.key for found in store.list()]
    store.delete("a/b")


def test_a_folder_of_the_console_is_no_object(
    server: Seaweed, client: Any, store: S3Store, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "manifest.json").write_bytes(b"x")
    client.put_object(Bucket=server.bucket, Key="p/m1/")
    client.put_object(Bucket=server.bucket, Key="p/m1/empty/")
    upload_folder(store, tmp_path / "model", "m1")
    assert [found.key for found in store.list()] == ["m1/manifest.json"]
    assert len(download_folder(store, "m1", tmp_path / "copy")) == 1
    store.delete("m1/manifest.json")


@pytest.mark.parametrize(
    "sizes", [(5 * MIB, 5 * MIB, 7), (6 * MIB, 7 * MIB, 1), (5 * MIB, 6 * MIB, 4 * MIB), (9,)]
)
def test_what_others_uploaded_in_parts_comes_whole(
    server: Seaweed, client: Any, store: S3Store, tmp_path: Path, sizes: tuple[int, ...]
) -> None:
    body = put_parts(client, server.bucket, "p/parts", *sizes)
    stored = store.download("parts", tmp_path / "target")
    assert stored.etag.endswith(f"-{len(sizes)}")
    assert (tmp_path / "target").read_bytes() == body == store.read("parts")


def test_a_large_object_that_came_in_one_step_comes_whole(
    server: Seaweed, client: Any, store: S3Store, tmp_path: Path
) -> None:
    body = os.urandom(20 * MIB)
    client.put_object(Bucket=server.bucket, Key="p/single", Body=body)
    assert store.download("single", tmp_path / "target").etag == hashlib.md5(body).hexdigest()
    assert (tmp_path / "target").read_bytes() == body


def test_the_best_checksum_there_is_is_used(
    server: Seaweed, client: Any, store: S3Store, tmp_path: Path
) -> None:
    (tmp_path / "source").write_bytes(os.urandom(20 * MIB))
    store.upload(tmp_path / "source", "ours")
    store.put("small", b"x")
    put_parts(client, server.bucket, "p/equal", 5 * MIB, 5 * MIB, 1)
    put_parts(client, server.bucket, "p/more", 5 * MIB, 5 * MIB + 1, 5 * MIB, 1)
    found = {}
    for key in ("ours", "small", "equal", "more"):
        at = {"Bucket": server.bucket, "Key": f"p/{key}"}
        found[key] = find_check(client, at, client.head_object(**at))
    assert (found["ours"].part_size, len(found["ours"].expected)) == (16 * MIB, 8)
    assert found["small"].expected == hashlib.md5(b"x").hexdigest()
    assert (found["equal"].part_size, found["equal"].expected[-2:]) == (5 * MIB, "-3")
    assert found["more"].expected.endswith("-4")  # unequal parts are detected only on a mismatch


@pytest.mark.parametrize(
    "more", [{"ServerSideEncryption": "aws:kms"}, {"SSECustomerAlgorithm": "AES256"}]
)
def test_an_etag_under_a_customers_key_is_no_md5(more: dict[str, str]) -> None:
    head = {"ETag": f'"{"0" * 32}"', "ContentLength": 3}
    assert is_md5(head)
    assert not is_md5({**head, **more})
    assert not find_check(None, {}, {**head, **more}).expected
    assert not find_check(None, {}, {**head, **more, "ETag": f'"{"0" * 32}-2"'}).expected


def test_a_version_is_told_where_the_bucket_keeps_them(
    server: Seaweed, client: Any, tmp_path: Path
) -> None:
    client.put_bucket_versioning(
        Bucket=server.other_bucket, VersioningConfiguration={"Status": "Enabled"}
    )
    store = open_store(server, server.other_bucket, "versions")
    first, second = store.put("key", b"one"), store.put("key", b"two")
    assert first.version and second.version and first.version != second.version
    assert store.stat("key") == second == store.download("key", tmp_path / "target")
    assert [found.key for found in store.list()] == ["key"]
    store.delete("key")
    assert store.stat("key") is None
    assert store.put_if_absent("key", b"three")


def test_a_proxy_for_the_internet_is_not_asked_for_this_machine(
    server: Seaweed, closed_port: int
) -> None:
    for name in ("HTTP_PROXY", "http_proxy"):
        os.environ[name] = f"http://127.0.0.1:{closed_port}"
    for name in ("NO_PROXY", "no_proxy"):
        os.environ.pop(name, None)
    assert open_store(server, server.bucket, "proxy").put("key", b"x").size == 1


def test_the_older_signature_works_where_a_server_wants_it(server: Seaweed) -> None:
    os.environ.update(server.full.environment())
    options = S3Options(server.url, REGION, "path", signature_version="s3")
    store = S3Store(server.bucket, "v2", options)
    assert store.put("有 空格", b"x").size == 1
    assert store.read("有 空格") == b"x"


def test_a_profile_that_does_not_exist_is_named(server: Seaweed) -> None:
    os.environ.update(server.full.environment(), AWS_PROFILE="nobody")
    with pytest.raises(ConfigError, match="nobody"):
        S3Store(server.bucket, "p", S3Options(server.url, REGION, "path"))
