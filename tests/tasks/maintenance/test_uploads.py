"""Unfinished writes in every kind of store: old ones are aborted, nothing else is touched."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tasks.maintenance.checks import Diagnosis, Examination
from tasks.maintenance.doctor import CHECKS
from tasks.settings import Settings, get_settings
from tasks.storage.layout import AREAS
from tasks.storage.lifecycle import RULE_ID
from tasks.storage.step_results import get_store
from tests.support.alibaba.oss_emulator import REGION as OSS_REGION
from tests.support.alibaba.oss_emulator import Fault, OssEmulator
from tests.support.servers.seaweedfs import REGION, Seaweed

NAME, OTHER = "models/intent-0123456789ab", "models/qwen"


OURS = [area.prefix for area in AREAS if area.aborts_uploads]


def look(
    settings: Settings, check: str, *, dry_run: bool = False, set_lifecycle: bool = False
) -> list[Diagnosis]:
    return list(CHECKS[check](Examination(settings, dry_run=dry_run, set_lifecycle=set_lifecycle)))


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
def oss(emulator: OssEmulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    monkeypatch.setenv("INTENT_STORE", f"oss://{emulator.backend.bucket}/upkeep")
    monkeypatch.setenv("INTENT_OSS_ENDPOINT", emulator.url)
    monkeypatch.setenv("INTENT_OSS_REGION", OSS_REGION)
    get_settings.cache_clear()
    yield get_settings()
    get_settings.cache_clear()


@pytest.fixture
def directory(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", store=(tmp_path / "store").as_uri())


def begin_parts(server: Seaweed) -> Callable[[str], None]:
    """Return a function that starts an upload and never completes it."""
    client = server.client()

    def begin(key: str) -> None:
        at = {"Bucket": server.bucket, "Key": key}
        upload = client.create_multipart_upload(**at)["UploadId"]
        client.upload_part(**at, UploadId=upload, PartNumber=1, Body=b"x" * 1000)

    return begin


@pytest.mark.service
def test_rules_are_added_and_those_of_others_stay_in_s3(s3: Settings, server: Seaweed) -> None:
    theirs = {
        "ID": "theirs",
        "Status": "Enabled",
        "Filter": {"Prefix": "logs/"},
        "Expiration": {"Days": 30},
    }
    client = server.client()
    configuration = {"Rules": [theirs]}
    client.put_bucket_lifecycle_configuration(
        Bucket=server.bucket, LifecycleConfiguration=configuration
    )

    def read_rules() -> dict[str, Any]:
        rules = client.get_bucket_lifecycle_configuration(Bucket=server.bucket)["Rules"]
        return {rule["ID"]: rule for rule in rules}

    (missing,) = look(s3, "uploads")
    assert missing.outcome == "manual fix" and "--set-lifecycle" in missing.action
    assert "lineage/, " in missing.what and "exports/" not in missing.what
    (planned,) = look(s3, "uploads", dry_run=True, set_lifecycle=True)
    assert planned.outcome == "would repair" and set(read_rules()) == {"theirs"}
    (added,) = look(s3, "uploads", set_lifecycle=True)
    assert added.outcome == "repaired"
    assert look(s3, "uploads") == []
    rules = read_rules()
    assert rules.pop("theirs") == theirs
    assert sorted(rules) == sorted(f"{RULE_ID}upkeep/{prefix}" for prefix in OURS)
    later = s3.model_copy(update={"left_after_hours": 49})
    assert [entry.outcome for entry in look(later, "uploads", set_lifecycle=True)] == ["repaired"]
    changed = read_rules()
    assert changed.pop("theirs") == theirs and set(changed) == set(rules)
    days = {
        rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] for rule in changed.values()
    }
    assert days == {3} and look(later, "uploads") == []


@pytest.mark.service
def test_rules_are_added_and_those_of_others_stay_in_oss(
    oss: Settings, emulator: OssEmulator
) -> None:
    theirs = (
        b"<Rule><ID>theirs</ID><Prefix>upkeep/models/theirs/</Prefix><Status>Enabled</Status>"
        b"<AbortMultipartUpload><Days>9</Days></AbortMultipartUpload><AtimeBase>1</AtimeBase>"
        b"<Transition><Days>30</Days><StorageClass>IA</StorageClass><New>1</New></Transition></Rule>"
    )
    emulator.lifecycle = b"<LifecycleConfiguration>" + theirs + b"</LifecycleConfiguration>"
    (missing,) = look(oss, "uploads")
    assert missing.outcome == "manual fix" and "models/" in missing.what
    assert look(oss, "uploads", set_lifecycle=True)[0].outcome == "repaired"
    assert look(oss, "uploads") == []
    later = oss.model_copy(update={"left_after_hours": 49})
    assert look(later, "uploads", set_lifecycle=True)[0].outcome == "repaired"
    assert theirs in emulator.lifecycle  # including elements that oss2 does not support
    rules = ElementTree.fromstring(emulator.lifecycle).findall("Rule")[1:]
    assert [rule.findtext("ID") for rule in rules] == [f"{RULE_ID}upkeep/{name}" for name in OURS]
    assert {rule.findtext("AbortMultipartUpload/Days") for rule in rules} == {"3"}


@pytest.mark.service
def test_a_rule_of_others_for_the_whole_bucket_is_enough(
    oss: Settings, emulator: OssEmulator
) -> None:
    emulator.lifecycle = (
        b"<LifecycleConfiguration><Rule><ID>all</ID><Prefix></Prefix><Status>Enabled</Status>"
        b"<AbortMultipartUpload><Days>7</Days></AbortMultipartUpload></Rule></LifecycleConfiguration>"
    )
    assert look(oss, "uploads") == []
    for change in (
        b"<Status>Disabled<",
        b"<Tag><Key>a</Key><Value>b</Value></Tag><Status>Enabled<",
    ):
        emulator.lifecycle = emulator.lifecycle.replace(b"<Status>Enabled<", change)
        assert [entry.outcome for entry in look(oss, "uploads")] == ["manual fix"]
        emulator.lifecycle = emulator.lifecycle.replace(change, b"<Status>Enabled<")


@pytest.mark.service
@pytest.mark.parametrize(
    ("status", "code", "outcome", "text"),
    [
        (501, "NotImplemented", "note", "does not support lifecycle"),
        (403, "AccessDenied", "manual fix", "GetLifecycleConfiguration"),
    ],
)
def test_a_server_without_rules_or_a_key_without_permission_is_a_finding(
    oss: Settings, emulator: OssEmulator, status: int, code: str, outcome: str, text: str
) -> None:
    emulator.faults.append(Fault("GET", "refuse", having="lifecycle", status=status, code=code))
    (diagnosis,) = look(oss, "uploads")
    assert diagnosis.outcome == outcome and text in diagnosis.what + diagnosis.action


@pytest.mark.service
def test_a_half_written_folder_goes_unless_its_upload_is_new(s3: Settings, server: Seaweed) -> None:
    store = get_store(s3)
    store.put(f"{NAME}/weights", b"x")
    store.put(f"{OTHER}/weights", b"a base model that somebody has put there")
    store.put("models/intent-ba9876543210/manifest.json", b"{}")
    time.sleep(3.1)
    old = s3.model_copy(update={"left_after_hours": 3 / 3600})
    begin_parts(server)(f"upkeep/{NAME}/more")
    assert look(old, "half-written") == []  # an upload is still in progress
    time.sleep(3.1)
    assert look(s3, "half-written") == []
    (found,) = look(old, "half-written")
    assert found.outcome == "repaired" and NAME in found.what
    left = [one.key for one in store.scan("models/")]
    assert left == ["models/intent-ba9876543210/manifest.json", f"{OTHER}/weights"]
    assert len(store.list_unfinished("models/")) == 1


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
    assert found.outcome == "manual fix" and "could not connect" in found.what


def test_the_doctor_reports_names_that_listings_skip(directory: Settings) -> None:
    get_store(directory).put("exports/a.manifest", b"x")
    folder = Path(directory.store_uri.removeprefix("file://")) / "exports"
    assert look(directory, "names") == []
    (folder / "b\\c.manifest").write_bytes(b"x")
    (folder / os.fsdecode(b"\xff")).symlink_to("/etc/hostname")
    found = [str(one.what) for one in look(directory, "names")]
    assert len(found) == 2
    assert all("is skipped: it" in what and what.isprintable() for what in found)


@pytest.mark.parametrize("versioning", ["", "Enabled", "Suspended"])
def test_the_doctor_warns_of_a_versioned_oss_bucket(
    oss: Settings, emulator: OssEmulator, versioning: str
) -> None:
    emulator.versioning = versioning
    assert [versioning.lower() in one.what for one in look(oss, "write-once")] == (
        [True] if versioning else []
    )
