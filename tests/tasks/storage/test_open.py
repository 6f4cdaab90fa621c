"""Store URIs: directories, buckets and invalid values."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from intent_core.errors import ConfigError
from tasks.storage.directory import DirectoryStore
from tasks.storage.open import open_store, split_uri


def test_split_uri_gives_a_root_that_opens_and_a_key_in_it(tmp_path: Path) -> None:
    stored = DirectoryStore(tmp_path).put("deep/导出 1.jsonl", b"x")
    root, key = split_uri(stored.uri)
    assert (root, key) == ((tmp_path / "deep").as_uri(), "导出 1.jsonl")
    assert open_store(root).read(key) == b"x"
    assert split_uri("/srv/store/folder/") == ("file:///srv/store", "folder")


@pytest.mark.parametrize("uri", ["http://h/k", "", "file://host/x", "file://x"])
def test_other_stores_are_refused(uri: str) -> None:
    with pytest.raises(ConfigError, match="file://"):
        open_store(uri)


@pytest.mark.parametrize("uri", ["s3://", "oss:///key"])
def test_a_store_without_a_bucket_is_refused(uri: str) -> None:
    with pytest.raises(ConfigError, match="has no bucket name"):
        open_store(uri)


@pytest.mark.parametrize(
    ("uri", "root", "key"),
    [
        ("s3://b/a/odd key?#%.manifest", "s3://b/a", "odd key?#%.manifest"),
        ("oss://b/杭州.manifest", "oss://b", "杭州.manifest"),
    ],
)
def test_keys_of_buckets_are_not_unquoted(uri: str, root: str, key: str) -> None:
    assert split_uri(uri) == (root, key)


@pytest.mark.parametrize("uri", ["s3://b", "s3://b/", "", "file://x"])
def test_what_is_no_object_is_refused(uri: str) -> None:
    with pytest.raises(ConfigError):
        split_uri(uri)


def test_a_root_is_no_object() -> None:
    with pytest.raises(ConfigError, match="has no object key"):
        split_uri("file:///")


def test_a_client_is_imported_only_for_a_store_of_its_scheme() -> None:
    program = (
        "import sys\n"
        "from tasks.storage import open, step_results\n"
        "loaded = lambda: sorted({'boto3', 'oss2'} & set(sys.modules))\n"
        "open.open_store('/tmp/x'), print(loaded())\n"
        "open.open_store('s3://b/x'), print(loaded())\n"
        "open.open_store('oss://bucket/x'), print(loaded())\n"
    )
    environment = {
        **os.environ,
        "INTENT_S3_REGION": "us-east-1",
        "INTENT_OSS_ENDPOINT": "https://oss-cn-hangzhou.aliyuncs.com",
        "INTENT_OSS_REGION": "cn-hangzhou",
    }
    process = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert process.stdout.splitlines() == ["[]", "['boto3']", "['boto3', 'oss2']"]
