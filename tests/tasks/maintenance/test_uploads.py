"""Unfinished writes in every kind of store: found, aborted when old, and nothing else touched."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.maintenance.checks import Diagnosis, Examination
from tasks.maintenance.doctor import CHECKS
from tasks.settings import Settings, get_settings
from tasks.storage.step_results import get_store
from tests.support.alibaba.oss_emulator import REGION as OSS_REGION
from tests.support.alibaba.oss_emulator import Facade
from tests.support.servers.seaweedfs import REGION, Seaweed

NAME, OTHER = "models/intent-0123456789ab", "models/qwen"


def look(settings: Settings, check: str, *, dry_run: bool = False) -> list[Diagnosis]:
    return list(CHECKS[check](Examination(settings, dry_run=dry_run)))


@pytest.fixture
def s3(server: Seaweed, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    for name, value in server.full.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("INTENT_STORE", f"s3://{server.bucket}/upkeep")
    monkeypatch.setenv("INTENT_S3_ENDPOINT_URL", server.url)
    monkeypatch.setenv("INTENT_S3_REGION", REGION)
    monkeypatch.setenv("INTENT_S3_ADDRESSING_STYLE", "path")
    get_settings.cache_clear()
    yield get_settings()
    get_settings.cache_clear()


@pytest.fixture
def oss(facade: Facade, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    monkeypatch.setenv("INTENT_STORE", f"oss://{facade.backend.bucket}/upkeep")
    monkeypatch.setenv("INTENT_OSS_ENDPOINT", facade.url)
    monkeypatch.setenv("INTENT_OSS_REGION", OSS_REGION)
    get_settings.cache_clear()
    yield get_settings()
    get_settings.cache_clear()


@pytest.fixture
def directory(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", store=(tmp_path / "store").as_uri())


def begin_parts(server: Seaweed) -> Callable[[str], None]:
    """An upload of one part whose program dies."""
    client = server.client()

    def begin(key: str) -> None:
        at = {"Bucket": server.bucket, "Key": key}
        upload = client.create_multipart_upload(**at)["UploadId"]
        client.upload_part(**at, UploadId=upload, PartNumber=1, Body=b"x" * 1000)

    return begin


@pytest.mark.service
@pytest.mark.parametrize("kind", ["s3", "oss"])
def test_parts_of_uploads_below_our_prefixes_are_aborted_when_they_are_old(
    kind: str, server: Seaweed, request: pytest.FixtureRequest
) -> None:
    settings: Settings = request.getfixturevalue(kind)
    begin = begin_parts(server)
    ours = [f"upkeep/{NAME}/weights", "upkeep/trainings/0123/model"]
    theirs = ["upkeep/exports/a.manifest", f"elsewhere/{NAME}/weights"]
    for key in [*ours, *theirs]:
        begin(key)
    try:
        assert look(settings, "uploads") == []
        old = settings.model_copy(update={"left_after_hours": 1e-6})
        assert [one.outcome for one in look(old, "uploads", dry_run=True)] == ["would repair"] * 2
        assert [one.outcome for one in look(old, "uploads")] == ["repaired"] * 2
        assert look(old, "uploads") == []
        left = server.client().list_multipart_uploads(Bucket=server.bucket)["Uploads"]
        assert sorted(one["Key"] for one in left) == sorted(theirs)
    finally:
        client = server.client()
        for one in client.list_multipart_uploads(Bucket=server.bucket).get("Uploads", ()):
            at = {"Bucket": server.bucket, "Key": one["Key"], "UploadId": one["UploadId"]}
            client.abort_multipart_upload(**at)


@pytest.mark.service
def test_a_half_written_folder_goes_unless_its_upload_is_new(s3: Settings, server: Seaweed) -> None:
    store = get_store(s3)
    store.put(f"{NAME}/weights", b"x")
    store.put(f"{OTHER}/weights", b"a base model that somebody has put there")
    store.put("models/intent-ba9876543210/manifest.json", b"{}")
    time.sleep(1.1)
    old = s3.model_copy(update={"left_after_hours": 1 / 3600})
    begin_parts(server)(f"upkeep/{NAME}/more")
    assert look(old, "half-written") == []  # somebody is at it
    time.sleep(1.1)
    assert look(s3, "half-written") == []
    (found,) = look(old, "half-written")
    assert found.outcome == "repaired" and NAME in found.what
    left = [one.key for one in store.scan("models/")]
    assert left == ["models/intent-ba9876543210/manifest.json", f"{OTHER}/weights"]
    assert len(store.list_unfinished("models/")) == 1
    assert len(look(old, "uploads")) == 1


def test_a_directory_is_tidied_the_same_way(directory: Settings) -> None:
    store, root = get_store(directory), Path(directory.store.removeprefix("file://"))
    store.put(f"{NAME}/weights", b"x")
    store.put("datasets/0123456789abcdef/manifest.json", b"{}")
    store.put("datasets/0123456789abcdee/train.jsonl", b"{}")  # not old
    partial = root / "models" / ".0123.partial"
    partial.write_bytes(b"part")
    scratch = directory.home / "models" / ".forgotten-intent-0123456789ab-1"
    scratch.mkdir(parents=True)
    for path in (root / NAME / "weights", partial, scratch):
        os.utime(path, (1, 1))
    found = {check: look(directory, check) for check in ("uploads", "half-written", "scratch")}
    assert {check: [one.outcome for one in some] for check, some in found.items()} == {
        "uploads": ["repaired"],
        "half-written": ["repaired"],
        "scratch": ["repaired"],
    }
    assert not partial.exists() and not scratch.exists()
    assert [one.key for one in store.scan("")] == [
        "datasets/0123456789abcdee/train.jsonl",
        "datasets/0123456789abcdef/manifest.json",
    ]


def test_a_store_that_does_not_answer_hides_nothing(tmp_path: Path, closed_port: int) -> None:
    settings = Settings(home=tmp_path, store="s3://nowhere/x")
    (tmp_path / "models").mkdir()
    os.environ.update(
        INTENT_S3_ENDPOINT_URL=f"http://127.0.0.1:{closed_port}",
        AWS_ACCESS_KEY_ID="a",
        AWS_SECRET_ACCESS_KEY="b",
        AWS_EC2_METADATA_DISABLED="true",
        INTENT_S3_REGION=REGION,
    )
    get_settings.cache_clear()
    (found,) = look(settings, "uploads")
    assert found.outcome == "for a person" and "nobody answers" in found.what
