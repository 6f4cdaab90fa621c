"""One run for each content of an export, with several watchers and across crashes."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from markdown_it import MarkdownIt
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.objects import FlowRun

from flows.intake.projects import load_projects
from flows.pipeline.flow import intent_pipeline
from flows.watch_exports import describe_training, take_export, watch_exports
from intent_core.errors import ConfigError, DataError
from tasks.settings import CHECKOUT, Settings, get_settings
from tasks.storage.objects import ObjectStore
from tasks.storage.step_results import get_store
from tests.support.builders.labeled_export import to_itag, write_export

pytestmark = [pytest.mark.flow, pytest.mark.timeout(240)]


class Scene:
    """A separate store, projects file and deployment."""

    def __init__(self, settings: Settings, store: ObjectStore, deployment: UUID) -> None:
        self.settings = settings
        self.store = store
        self.deployment = deployment

    def runs(self) -> list[FlowRun]:
        with get_client(sync_client=True) as client:
            only = DeploymentFilter(id=DeploymentFilterId(any_=[self.deployment]))
            return client.read_flow_runs(deployment_filter=only)


def write_projects(path: Path, **changes: Any) -> None:
    project = {"exports": "exports/music/", "recipe": "embedded", "unchanged_minutes": 0, **changes}
    path.write_text(yaml.safe_dump({"music": project}), encoding="utf-8")


@pytest.fixture
def scene(platform: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    name = f"watched-{tmp_path.name}"
    write_projects(tmp_path / "projects.yaml")
    monkeypatch.setenv("INTENT_STORE", (tmp_path / "store").as_uri())
    monkeypatch.setenv("INTENT_PROJECTS", str(tmp_path / "projects.yaml"))
    monkeypatch.setenv("INTENT_PIPELINE_DEPLOYMENT", f"intent-pipeline/{name}")
    get_settings.cache_clear()
    settings = get_settings()
    with get_client(sync_client=True) as client:
        deployment = client.create_deployment(client.create_flow(intent_pipeline), name)
    yield Scene(settings, get_store(settings), deployment)


def put_export(scene: Scene, key: str, extra: str = "") -> None:
    """Put an export with unique content: other tests use the same Prefect server."""
    path = Path(scene.settings.projects).with_name("export")
    write_export(path)
    own = to_itag({"instruction": f"stop {scene.deployment}", "output": "music_exit()"})
    scene.store.put(key, path.read_bytes() + f"\n{own}\n{extra}".encode())


def test_an_export_is_taken_once_however_often_one_looks(scene: Scene) -> None:
    put_export(scene, "exports/music/a.manifest")
    scene.store.put("exports/music/readme.txt", b"not an export")
    scene.store.put("exports/other/b.manifest", b"another project's")
    (run_id,) = watch_exports()
    assert watch_exports() == []
    (run,) = scene.runs()
    assert str(run.id) == run_id
    assert run.parameters["recipe"] == "embedded"
    # The recipe names another project; the run overrides it.
    assert run.parameters["overrides"] == {"project": "music"}
    snapshot = run.parameters["export_uri"]
    assert scene.store.read(snapshot) == scene.store.read("exports/music/a.manifest")
    assert "project:music" in run.tags


def test_the_same_content_again_is_no_new_run_but_more_of_it_is(scene: Scene) -> None:
    put_export(scene, "exports/music/a.manifest")
    put_export(scene, "exports/music/copy of a.manifest")
    first = watch_exports()
    assert len(set(first)) == 1
    put_export(scene, "exports/music/a.manifest")
    assert watch_exports() == []
    put_export(scene, "exports/music/a.manifest", extra='{"data":{"instruction":"x"}}\n')
    (second,) = watch_exports()
    assert {str(run.id) for run in scene.runs()} == {first[0], second}


def test_an_export_that_still_changes_is_left_alone(scene: Scene) -> None:
    write_projects(scene.settings.projects, unchanged_minutes=0.02)
    put_export(scene, "exports/music/a.manifest")
    assert watch_exports() == []
    put_export(scene, "exports/music/a.manifest", extra="\n")
    assert watch_exports() == []
    time.sleep(1.3)
    assert len(watch_exports()) == 1


def test_a_project_with_the_recipe_s_name_changes_nothing_in_it(scene: Scene) -> None:
    write_projects(scene.settings.projects, recipe="quickstart")
    projects = yaml.safe_load(scene.settings.projects.read_text(encoding="utf-8"))
    scene.settings.projects.write_text(yaml.safe_dump({"quickstart": projects["music"]}))
    put_export(scene, "exports/music/a.manifest")
    watch_exports()
    (run,) = scene.runs()
    assert "overrides" not in run.parameters


def test_a_marker_says_that_an_export_is_complete(scene: Scene) -> None:
    write_projects(scene.settings.projects, marker="{name}.done")
    put_export(scene, "exports/music/a.manifest")
    assert watch_exports() == []
    scene.store.put("exports/music/a.manifest.done", b"")
    assert len(watch_exports()) == 1


def test_an_annotator_names_the_project_and_gets_the_newest_export(scene: Scene) -> None:
    put_export(scene, "exports/music/b.manifest")
    first = take_export("music")
    put_export(scene, "exports/music/a.manifest", extra="\n")
    second = take_export("music")
    assert first != second
    assert take_export("music", "exports/music/b.manifest") == first
    assert len(scene.runs()) == 2
    with pytest.raises(
        ConfigError, match="no project 'musik' in the projects file; known projects: music"
    ):
        take_export("musik")


def test_a_server_without_our_deployments_says_what_to_type(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_export(scene, "exports/music/a.manifest")
    monkeypatch.setenv("INTENT_PIPELINE_DEPLOYMENT", "intent-pipeline/nowhere")
    get_settings.cache_clear()
    with pytest.raises(
        ConfigError, match="'intent-pipeline/nowhere': run `prefect --no-prompt deploy"
    ):
        watch_exports()


def test_a_project_without_exports_says_so(scene: Scene) -> None:
    with pytest.raises(DataError, match="has no export below 'exports/music/'"):
        take_export("music")


# Killed before: the run starts, the ledger records it, the watcher marks the export as taken.
KILLED_BEFORE = [("work/exports/", 1), ("/ledger/music/taken/", 1), ("/ledger/music/seen/", 2)]


@pytest.mark.parametrize(("place", "count"), KILLED_BEFORE)
def test_a_watcher_killed_between_two_steps_loses_and_doubles_nothing(
    scene: Scene, place: str, count: int
) -> None:
    put_export(scene, "exports/music/a.manifest")
    program = textwrap.dedent(
        f"""
        from flows.watch_exports import watch_exports
        from tests.support.faults.kill_before_write import die_before_write
        die_before_write({place!r}, {count})
        watch_exports()
        """
    )
    killed = subprocess.run(
        [sys.executable, "-c", program],
        env=dict(os.environ),
        cwd=CHECKOUT,
        timeout=120,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    watch_exports()
    watch_exports()
    (run,) = scene.runs()
    ledger = [o.key for o in scene.store.list("ledger/music/taken/")]
    assert len(ledger) == 1
    assert json.loads(scene.store.read(ledger[0]))["run_id"] == str(run.id)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("music: {exports: exports/music/, recipe: embeded}", "recipe 'embeded'"),
        ("music: {exports: /music/, recipe: embedded}", "music.exports"),
        ("music: {exports: ../music/, recipe: embedded, colour: red}", "music.colour"),
        ("'../x': {exports: music/, recipe: embedded}", r"\.\./x"),
        ("[1]", "projects.yaml"),
        ("{", "is not YAML"),
    ],
)
def test_mistakes_in_the_projects_file_are_named(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "projects.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=fault):
        load_projects(path)


def test_a_projects_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="INTENT_PROJECTS"):
        load_projects(tmp_path / "none.yaml")


def test_the_name_of_an_export_is_text_in_prefect() -> None:
    key = "s3://exports/music/![x](https://evil.example/pixel.png).manifest"
    assert "<p>The run that trains on " + key in MarkdownIt().render(describe_training(key))
