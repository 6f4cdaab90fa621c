import logging
import os
import sys
import types
from pathlib import Path

import pytest

from intent_core.errors import ConfigError, StorageError
from tasks.storage.oss.client import OssOptions
from tasks.storage.oss.store import OssStore
from tests.support.alibaba.oss_emulator import (
    FULL_KEY,
    READER_KEY,
    REGION,
    SECRET,
    Fault,
    OssEmulator,
)

pytestmark = pytest.mark.service

TOKEN = "sts-token-Gk3vB8sQ"
KEYS = ("OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET", "OSS_SESSION_TOKEN")


@pytest.fixture
def store(emulator: OssEmulator, request: pytest.FixtureRequest) -> OssStore:
    options = emulator.options()
    return OssStore(emulator.backend.bucket, f"tests/{request.node.name}", options)


def test_requests_are_signed_by_version_4_and_carry_the_token(
    emulator: OssEmulator, store: OssStore
) -> None:
    emulator.token = os.environ["OSS_SESSION_TOKEN"] = TOKEN
    store.put("key", b"x")
    assert store.read("key") == b"x"
    assert {a.headers["authorization"].partition(" ")[0] for a in emulator.asked} == {
        "OSS4-HMAC-SHA256"
    }
    os.environ["OSS_SESSION_TOKEN"] = "old"
    with pytest.raises(ConfigError, match="renew OSS_SESSION_TOKEN"):
        store.read("key")


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("OSS_ACCESS_KEY_SECRET", "wrong-secret-Yt6", "correct OSS_ACCESS_KEY_SECRET"),
        ("OSS_ACCESS_KEY_ID", "LTAI5tNobody", "correct OSS_ACCESS_KEY_ID"),
    ],
)
def test_wrong_keys_are_for_a_person_to_correct(
    emulator: OssEmulator, store: OssStore, tmp_path: Path, variable: str, value: str, message: str
) -> None:
    os.environ[variable] = value
    (tmp_path / "source").write_bytes(b"x")
    for request in (
        lambda: store.stat("key"),
        lambda: store.read("key"),
        lambda: list(store.list()),
        lambda: store.put("key", b"x"),
        lambda: store.put_if_absent("key", b"x"),
        lambda: store.upload(tmp_path / "source", "key"),
        lambda: store.download("key", tmp_path / "target"),
        lambda: store.delete("key"),
    ):
        with pytest.raises(ConfigError, match=message):
            request()
    assert len(emulator.asked) == 8, "no request is retried"


def test_other_things_a_person_must_settle(emulator: OssEmulator, store: OssStore) -> None:
    absent = OssStore("absent-bucket", "", emulator.options())
    for request in (
        lambda: absent.stat("k"),
        lambda: absent.read("k"),
        lambda: absent.put("k", b""),
    ):
        with pytest.raises(ConfigError, match="bucket does not exist: create it"):
            request()
    elsewhere = OssStore(emulator.backend.bucket, "", emulator.options("cn-beijing"))
    with pytest.raises(ConfigError, match="correct INTENT_OSS_REGION"):
        elsewhere.read("key")
    os.environ.update(emulator.environment(READER_KEY))
    with pytest.raises(ConfigError, match="allow it oss:ListObjects, oss:GetObject"):
        store.put("key", b"x")
    for offset in (-1000, 1000):
        emulator.clock_offset_s = offset
        with pytest.raises(ConfigError, match="clock of this machine is wrong"):
            store.stat("key")


@pytest.mark.parametrize(
    ("bucket", "endpoint", "region", "message"),
    [
        ("models", "", REGION, "Set INTENT_OSS_ENDPOINT"),
        ("models", "https://me:secret@host", REGION, "without user name or password"),
        ("models", "https://oss-cn-hangzhou.aliyuncs.com", "", "Set INTENT_OSS_REGION"),
        ("models", "https://oss-cn-hangzhou.aliyuncs.com", "oss-cn-hangzhou", "e.g. cn-hangzhou"),
        ("models", "https://ex ample", REGION, "an endpoint is https://host"),
        ("M", "https://oss-cn-hangzhou.aliyuncs.com", REGION, "3 to 63"),
    ],
)
def test_settings_are_asked_for(bucket: str, endpoint: str, region: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        OssStore(bucket, "", OssOptions(endpoint, region, Path()))


def test_an_endpoint_without_a_scheme_is_encrypted() -> None:
    store = OssStore("models", "", OssOptions("oss-cn-hangzhou.aliyuncs.com", REGION, Path()))
    assert store.bucket.endpoint == "https://oss-cn-hangzhou.aliyuncs.com"


def test_without_credentials_the_message_says_what_to_set(
    emulator: OssEmulator, store: OssStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in KEYS:
        os.environ.pop(name)
    monkeypatch.setitem(sys.modules, "alibabacloud_credentials.client", None)
    with pytest.raises(
        ConfigError, match=r"set OSS_ACCESS_KEY_ID .* or `pip install alibabacloud-"
    ):
        store.read("key")
    assert emulator.asked == []


class RoleClient:
    """`alibabacloud_credentials` with a role's temporary keys; fails once `works` is False."""

    works = True

    def get_credential(self) -> types.SimpleNamespace:
        if not self.works:
            raise TimeoutError("the metadata server is silent")
        return types.SimpleNamespace(
            access_key_id=FULL_KEY, access_key_secret=SECRET, security_token=TOKEN
        )


def test_a_role_gives_credentials_where_no_variables_do(
    emulator: OssEmulator, store: OssStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in KEYS:
        os.environ.pop(name)
    module = types.ModuleType("alibabacloud_credentials.client")
    module.Client = RoleClient  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "alibabacloud_credentials.client", module)
    emulator.token = TOKEN
    store.put("key", b"x")
    monkeypatch.setattr(RoleClient, "works", False)
    with pytest.raises(
        StorageError, match="could not renew the OSS credentials: the metadata server is silent"
    ):
        store.read("key")


def test_no_secret_is_told_or_logged(
    emulator: OssEmulator, store: OssStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    emulator.token = os.environ["OSS_SESSION_TOKEN"] = TOKEN
    emulator.faults.append(Fault("PUT", "refuse"))
    store.put("key", b"x")
    os.environ["OSS_ACCESS_KEY_SECRET"] = "wrong-secret-Yt6"
    with pytest.raises(ConfigError) as caught:
        store.read("key")
    told, error = caplog.text, caught.value
    while error is not None:
        told += str(error) + repr(error) + repr(getattr(error, "body", ""))
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    assert "Retrying in" in caplog.text
    signatures = [asked.headers["authorization"][-64:] for asked in emulator.asked]
    for secret in (SECRET, "wrong-secret-Yt6", TOKEN, "x-oss-security-token", *signatures):
        assert secret not in told
