"""A finished labelling task is exported once, and its export starts one run.

iTAG's control plane is a fake that checks every request; the export is in the OSS emulator.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prefect.client.orchestration import get_client

from flows.pipeline.flow import intent_pipeline
from flows.watch_exports import watch_exports
from intent_core.errors import ConfigError, ServiceError
from tasks.settings import Settings, get_settings
from tests.support.alibaba.acs_signatures import KEY, SECRET, TOKEN
from tests.support.alibaba.itag_emulator import TASK, TENANT, ControlPlane, run_plane
from tests.support.alibaba.oss_emulator import REGION, OssEmulator, running_emulator
from tests.support.builders.labeled_export import to_itag, write_export
from tests.support.servers.seaweedfs import running_seaweed

pytestmark = [pytest.mark.flow, pytest.mark.timeout(240)]

auth_util = pytest.importorskip("alibabacloud_credentials.utils.auth_util")


@pytest.fixture(scope="module")
def emulator() -> Iterator[OssEmulator]:
    with running_seaweed() as server, running_emulator(server) as emulator:
        yield emulator


@pytest.fixture
def plane(
    platform: Settings, emulator: OssEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ControlPlane]:
    """The control plane, a project with its task, and a deployment that takes the export."""
    # The credentials chain read the environment when it was imported.
    monkeypatch.setattr(auth_util, "environment_access_key_id", KEY)
    monkeypatch.setattr(auth_util, "environment_access_key_secret", SECRET)
    monkeypatch.setattr(auth_util, "environment_security_token", TOKEN)
    folder = f"oss://{emulator.backend.bucket}/{tmp_path.name}/"
    project = {
        "exports": "exports/music/",
        "recipe": "embedded",
        "itag_task": TASK,
        "itag_folder": folder,
    }
    (tmp_path / "projects.yaml").write_text(yaml.safe_dump({"music": project}), encoding="utf-8")
    with get_client(sync_client=True) as client:
        client.create_deployment(client.create_flow(intent_pipeline), tmp_path.name)
    with run_plane() as plane:
        os.environ.update(emulator.environment())
        os.environ.update(
            INTENT_STORE=(tmp_path / "store").as_uri(),
            INTENT_OSS_ENDPOINT=emulator.url,
            INTENT_OSS_REGION=REGION,
            INTENT_PROJECTS=str(tmp_path / "projects.yaml"),
            INTENT_PIPELINE_DEPLOYMENT=f"intent-pipeline/{tmp_path.name}",
            INTENT_ITAG_ENDPOINT=plane.endpoint,
            INTENT_ITAG_TENANT=TENANT,
        )
        get_settings.cache_clear()
        plane.states = ["succ"]
        plane.link = f"{folder}labelled.manifest"
        put_export(emulator, tmp_path, "first")
        yield plane


def put_export(emulator: OssEmulator, folder: Path, what: str) -> None:
    """Write the export that iTAG writes to OSS."""
    write_export(folder / "export")
    own = to_itag({"instruction": f"stop {what} of {folder.name}", "output": "music_exit()"})
    emulator.backend.client().put_object(
        Bucket=emulator.backend.bucket,
        Key=f"{folder.name}/labelled.manifest",
        Body=(folder / "export").read_bytes() + f"\n{own}\n".encode(),
    )


def test_a_task_is_exported_whenever_it_is_finished(
    plane: ControlPlane, emulator: OssEmulator, tmp_path: Path
) -> None:
    assert watch_exports() == []
    assert plane.jobs == [], "labelling goes on"
    plane.task_status = "FINISHED"
    (first,) = watch_exports()
    assert watch_exports() == []
    assert plane.jobs == ["job-1"]
    started = next(query for path, query in plane.requests if path.endswith("/export"))
    assert started == {"OssPath": f"oss://{emulator.backend.bucket}/{tmp_path.name}/"}
    # The task is reopened and finished again.
    plane.task_status = "PROCESSING"
    assert watch_exports() == []
    plane.task_status = "FINISHED"
    put_export(emulator, tmp_path, "second")
    (second,) = watch_exports()
    assert plane.jobs == ["job-1", "job-2"]
    assert second != first


def test_a_watcher_that_died_leaves_its_export_to_the_next(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane.task_status = "FINISHED"
    with monkeypatch.context() as dying:
        dying.setattr("flows.watch_exports.take", None)
        with pytest.raises(TypeError):
            watch_exports()
    (_,) = watch_exports()
    assert plane.jobs == ["job-1"]
    assert watch_exports() == []


def test_a_failed_export_is_told_and_started_anew(plane: ControlPlane) -> None:
    plane.task_status, plane.states = "FINISHED", ["fail"]
    with pytest.raises(ServiceError, match=r"job-1 of task .* failed"):
        watch_exports()
    plane.states = ["succ"]
    assert len(watch_exports()) == 1
    assert plane.jobs == ["job-1", "job-2"]


def test_an_export_that_takes_long_is_left_to_the_next_look(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.intake.itag_tasks._WAIT_S", 0.1)
    monkeypatch.setattr("flows.intake.itag_tasks._POLL_S", 0.05)
    plane.task_status, plane.states = "FINISHED", ["running"]
    assert watch_exports() == []
    plane.states = ["succ"]
    assert len(watch_exports()) == 1
    assert plane.jobs == ["job-1"]


def test_one_project_s_trouble_is_not_the_others(plane: ControlPlane, tmp_path: Path) -> None:
    path = get_settings().projects
    projects = yaml.safe_load(path.read_text(encoding="utf-8"))
    projects["arts"] = {**projects["music"], "itag_task": "../strange"}
    path.write_text(yaml.safe_dump(projects), encoding="utf-8")
    plane.task_status = "FINISHED"
    with pytest.raises(ConfigError, match=r"'\.\./strange' is not a task id"):
        watch_exports()
    assert plane.jobs == ["job-1"], "the project after it was exported all the same"
