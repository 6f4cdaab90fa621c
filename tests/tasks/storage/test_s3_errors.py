"""The S3 driver's errors for wrong settings, permissions, server and network, on a real server.

Each fault asserts the class of the error, which decides whether a task retries; that the message
states what to do; and that nothing was changed. Large objects: `test_s3_transfers.py`.
"""

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from intent_core.errors import ConfigError, IntentError, StorageError
from tasks.storage.objects import download_folder, upload_folder
from tasks.storage.s3.store import S3Options, S3Store
from tests.support.faults.http_fault_proxy import (
    Fault,
    Proxy,
    answer_with,
    lose_answer,
    reset,
    rewrite,
)
from tests.support.servers.seaweedfs import REGION, Seaweed
from tests.support.storage.s3_client import is_retried, open_s3

pytestmark = pytest.mark.service


@pytest.fixture
def store(server: Seaweed, proxy: Proxy) -> S3Store:
    return open_s3(server, server.full, proxy.url)


def every_operation(store: S3Store, folder: Path) -> list[Callable[[], object]]:
    (folder / "small").write_bytes(b"new")
    return [
        lambda: store.stat("key"),
        lambda: store.read("key"),
        lambda: store.put("key", b"new"),
        lambda: store.put_if_absent("key", b"new"),
        lambda: store.delete("key"),
        lambda: list(store.list()),
        lambda: store.download("key", folder / "target"),
        lambda: store.upload(folder / "small", "key"),
    ]


def expect_config_errors(store: S3Store, folder: Path, advice: str) -> None:
    for operation in every_operation(store, folder):
        with pytest.raises(ConfigError, match=advice) as caught:
            operation()
        assert not is_retried(caught.value)
        assert "s3://" in str(caught.value)
    assert not (folder / "target").exists()


# Failures that the user must fix


def test_a_wrong_secret_is_named(server: Seaweed, proxy: Proxy, tmp_path: Path) -> None:
    wrong = server.full._replace(secret_key="wrong-secret-Zq81")
    store = open_s3(server, wrong, proxy.url)
    expect_config_errors(store, tmp_path, "secret key is wrong: check AWS_ACCESS_KEY_ID")
    assert len(proxy.requests) <= 10  # one each; a HEAD has no body, so one more GET


def test_an_unknown_access_key_is_named(server: Seaweed, tmp_path: Path) -> None:
    store = open_s3(server, server.full._replace(access_key="NOBODYSKEY"))
    expect_config_errors(
        store, tmp_path, "access key is unknown to the server: check AWS_ACCESS_KEY_ID"
    )


def test_missing_credentials_are_named(server: Seaweed, tmp_path: Path) -> None:
    os.environ.update(server.full.environment(), HOME=str(tmp_path))
    del os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
    store = S3Store(server.bucket, "faults", S3Options(server.url, REGION, "path"))
    expect_config_errors(store, tmp_path, "no credentials found: set AWS_ACCESS_KEY_ID")


def test_a_key_for_another_bucket_gets_nowhere(server: Seaweed, tmp_path: Path) -> None:
    expect_config_errors(open_s3(server, server.other), tmp_path, "allow it s3:GetObject")


def test_a_reader_reads_and_changes_nothing(server: Seaweed, tmp_path: Path) -> None:
    open_s3(server, server.full).put("key", b"old")
    reader = open_s3(server, server.reader)
    assert reader.read("key") == b"old"
    assert reader.download("key", tmp_path / "t").size == 3
    changes: list[Callable[[], object]] = [
        lambda: reader.put("key", b"new"),
        lambda: reader.put_if_absent("new", b"new"),
        lambda: reader.upload(tmp_path / "t", "key"),
        lambda: reader.delete("key"),
    ]
    for change in changes:
        with pytest.raises(ConfigError, match=r"lacks a permission: allow it .*s3:PutObject"):
            change()
    assert reader.read("key") == b"old"
    assert reader.stat("new") is None


def test_a_missing_bucket_is_named(server: Seaweed, tmp_path: Path) -> None:
    store = open_s3(server, server.full, bucket="nowhere")
    expect_config_errors(store, tmp_path, "bucket does not exist: create it, or correct INTENT_STO")


def test_a_wrong_clock_is_named(store: S3Store, proxy: Proxy, tmp_path: Path) -> None:
    for method in ("GET", "PUT", "DELETE", "HEAD"):
        proxy.inject(method, "/models", answer_with(403, "RequestTimeTooSkewed"), times=50)
    expect_config_errors(store, tmp_path, "clock of this machine is wrong: synchronize it")


@pytest.mark.parametrize("code", ["ExpiredToken", "PermanentRedirect", "AllAccessDisabled"])
def test_other_refusals_of_settings_are_not_tried_again(
    store: S3Store, proxy: Proxy, code: str
) -> None:
    proxy.inject("GET", "/key", answer_with(403, code), times=9)
    with pytest.raises(ConfigError, match=code):
        store.read("key")


@pytest.mark.parametrize("url", ["127.0.0.1:9000", "ftp://host", "http://", "http://me:pw@host"])
def test_a_wrong_endpoint_is_refused_at_once(server: Seaweed, url: str) -> None:
    with pytest.raises(ConfigError, match="INTENT_S3_ENDPOINT_URL must be") as caught:
        open_s3(server, server.full, url)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize(("bucket", "prefix"), [("", "p"), ("no such/name", "p"), ("b", "../p")])
def test_a_wrong_root_is_refused_at_once(server: Seaweed, bucket: str, prefix: str) -> None:
    os.environ.update(server.full.environment())
    with pytest.raises(ConfigError, match="s3://"):
        S3Store(bucket, prefix, S3Options(server.url, REGION, "path")).stat("key")


def test_a_server_that_does_not_know_conditional_writes_is_refused(
    store: S3Store, proxy: Proxy
) -> None:
    proxy.inject("PUT", "/ignored", answer_with(200), times=2)
    with pytest.raises(ConfigError, match="ignores If-None-Match") as caught:
        store.put_if_absent("ignored", b"x")
    assert not is_retried(caught.value)


# Transient failures


def test_nobody_at_the_address_is_worth_a_retry(
    server: Seaweed, closed_port: int, tmp_path: Path
) -> None:
    store = open_s3(server, server.full, f"http://127.0.0.1:{closed_port}")
    with pytest.raises(
        StorageError, match="could not connect: check INTENT_S3_ENDPOINT_URL"
    ) as caught:
        store.download("key", tmp_path / "target")
    assert is_retried(caught.value)


def test_a_server_that_fails_on_is_worth_a_retry(store: S3Store, proxy: Proxy) -> None:
    store.put("key", b"old")
    proxy.inject("PUT", "/key", answer_with(503, "SlowDown"), times=9)
    with pytest.raises(StorageError, match="SlowDown: the server is overloaded") as caught:
        store.put("key", b"new")
    assert is_retried(caught.value)
    assert len([one for one in proxy.requests if one[0] == "PUT"]) == 4
    assert store.read("key") == b"old"


def test_a_full_server_is_named(store: S3Store, proxy: Proxy) -> None:
    proxy.inject("PUT", "/key", answer_with(507, "InsufficientStorage"), times=9)
    with pytest.raises(StorageError, match="server's disk is full") as caught:
        store.put("key", b"new")
    assert is_retried(caught.value)


PASSING = {
    "503": answer_with(503, "ServiceUnavailable"),
    "500": answer_with(500, "InternalError"),
    "reset": reset(),
    "answer lost": lose_answer(),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_what_passes_is_not_seen(store: S3Store, proxy: Proxy, fault: Fault) -> None:
    for method in ("PUT", "HEAD", "GET", "DELETE"):
        proxy.inject(method, "/", fault)
    store.put("key", b"x")
    stored = store.stat("key")
    assert stored is not None and stored.size == 1
    assert store.read("key") == b"x"
    store.delete("key")
    assert store.stat("key") is None


def test_a_claim_whose_answer_was_lost_is_still_won(store: S3Store, proxy: Proxy) -> None:
    proxy.inject("PUT", "/claim", lose_answer())
    assert store.put_if_absent("claim", b"mine")
    proxy.inject("PUT", "/claim", reset())
    assert not store.put_if_absent("claim", b"mine")


def test_a_conflict_is_tried_again_until_somebody_has_won(store: S3Store, proxy: Proxy) -> None:
    proxy.inject("PUT", "/conflict", answer_with(409, "ConditionalRequestConflict"), times=2)
    assert store.put_if_absent("conflict", b"x")
    proxy.inject("PUT", "/conflict", answer_with(409, "ConditionalRequestConflict"))
    assert not store.put_if_absent("conflict", b"x")


# Hostile keys in a listing


def test_a_listed_key_that_leads_out_of_the_folder_is_refused(
    store: S3Store, proxy: Proxy, tmp_path: Path
) -> None:
    folder, target = tmp_path / "model", tmp_path / "deep" / "copy"
    folder.mkdir()
    for name in ("goodgood", "manifest.json"):
        (folder / name).write_bytes(b"x")
    upload_folder(store, folder, "m1")
    for evil in (b"../../x", b"%2Fetc/x", b"a%5C..%5C", b"a/../x", b"."):
        proxy.inject("GET", "list-type=2", rewrite(b"goodgood", evil))
        with pytest.raises(StorageError, match="invalid key"):
            download_folder(store, "m1", target)
        assert not (tmp_path / "deep").exists()
    download_folder(store, "m1", target)
    assert (target / "goodgood").read_bytes() == b"x"


# Secrets


def test_no_secret_stands_in_a_message_or_log(
    server: Seaweed, proxy: Proxy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("tasks", "intent_core", "flows"):
        caplog.set_level(logging.DEBUG, logger=name)
    told: list[str] = []
    wrong = server.full._replace(secret_key="wrong-secret-Zq81")
    for keys in (server.full, server.reader, wrong):
        store = open_s3(server, keys, proxy.url)
        proxy.inject("GET", "/key", answer_with(400, "Odd"), times=2)
        for operation in every_operation(store, tmp_path):
            try:
                operation()
            except IntentError as error:
                is_retried(error)
                told += [str(error), str(error.__cause__)]
    ours = ("tasks", "intent_core", "flows")
    logged = [one.getMessage() for one in caplog.records if one.name.startswith(ours)]
    assert told and logged
    told += logged
    secrets = [server.full.secret_key, server.reader.secret_key, wrong.secret_key]
    for hidden in (*secrets, "Signature=", "X-Amz-", "AWS4-HMAC", "Credential="):
        assert not [line for line in told if hidden in line]
