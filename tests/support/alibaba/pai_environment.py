"""An emulated PAI environment on loopback: keys, settings, and a directory instead of OSS."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from alibabacloud_credentials.utils import auth_util

from intent_core.datasets.manifest import DatasetManifest, Split
from intent_core.models.artifact import ModelArtifact
from tasks.serving.fleet import eas
from tasks.settings import Settings
from tasks.settings.pai import PaiSettings
from tasks.storage import step_results
from tasks.storage.directory import DirectoryStore
from tests.support.alibaba.acs_signatures import KEY, SECRET, TOKEN
from tests.support.alibaba.pai_emulator import GROUP, REGION, WORKSPACE, PaiPlane, run_plane

ROLE = "acs:ram::1234567890:role/intent"


class Scene(NamedTuple):
    plane: PaiPlane
    settings: Settings
    pai: PaiSettings
    store: DirectoryStore

    def with_pai(self, **change: Any) -> "Scene":
        return self._replace(pai=self.pai.model_copy(update=change))


def describe_dataset() -> DatasetManifest:
    """Return a dataset whose only file is its manifest."""
    split = Split(file="train.jsonl", num_examples=1, sha256="c" * 64)
    return DatasetManifest(
        uri="datasets/fedcba9876543210",
        fingerprint="fedcba9876543210",
        test_fingerprint="t1",
        source="exports/music.manifest",
        source_sha256="e" * 64,
        splits={"train": split},
        intents=(),
        num_records=1,
        num_rejections=0,
        num_duplicates=0,
        num_conflicts=0,
        num_near_duplicates=0,
        num_left_out=0,
        findings=(),
    )


def describe_artifact(name: str) -> ModelArtifact:
    return ModelArtifact(
        name=name,
        digest=name.removeprefix("intent-") * 5,
        uri=f"models/{name}",
        method="lora",
        base_model="oss://bases/qwen",
        base_model_digest="0" * 16,
        dataset_fingerprint="1" * 16,
        train_fingerprint="2" * 16,
        system_prompt="Recognize.",
    )


@contextmanager
def running_scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr(auth_util, "environment_access_key_id", KEY)
    monkeypatch.setattr(auth_util, "environment_access_key_secret", SECRET)
    monkeypatch.setattr(auth_util, "environment_security_token", TOKEN)
    for name in ("HTTP_PROXY", "http_proxy"):  # the SDK would use the proxy for loopback
        monkeypatch.delenv(name, raising=False)
    store = DirectoryStore(tmp_path / "store")
    secrets = DirectoryStore(tmp_path / "secrets")
    monkeypatch.setattr(step_results, "open_store", lambda uri: store)
    monkeypatch.setattr(eas, "open_store", lambda uri: secrets)
    settings = Settings(
        home=tmp_path / "home",
        store="oss://ours/intent",
        oss_endpoint="https://oss-cn-hangzhou.aliyuncs.com",
        fleet="intent",
    )
    with run_plane() as plane:
        pai = PaiSettings(
            region=REGION,
            workspace=WORKSPACE,
            role_arn=ROLE,
            dlc_endpoint=plane.endpoint,
            eas_endpoint=plane.endpoint,
            train_image="registry/intent-train:1",
            train_spec="ecs.gn7i-c8g1.2xlarge",
            service=GROUP,
            serve_image="registry/intent-serve:1",
            serve_spec="ecs.gn7i-c8g1.2xlarge",
            secrets="oss://ours/keys",
            poll_s=0.01,
            patience_s=0.2,
        )
        yield Scene(plane, settings, pai, store)
