"""The forms in Prefect's UI: what a person leaves empty, mistypes, or adds to the fields."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import CancelledRun
from prefect.flow_engine import run_flow
from prefect.states import Crashed
from prefect.utilities.callables import parameter_schema
from pydantic import ValidationError

from flows.parameters import RecipeChanges, load_recipe
from flows.pipeline.flow import intent_pipeline
from flows.watch_exports import take_export
from intent_core.errors import ConfigError, DataError
from tasks.orchestration.run_hooks import explain_crash
from tasks.settings import Settings, get_settings
from tasks.storage.step_results import get_store
from tests.support.browser.prefect_form import start_from_form
from tests.support.builders.labeled_export import write_export

FIELDS = {"epochs": 2, "learning_rate": 0.001, "gate": "dry_run"}
KEYS = {"train.num_train_epochs": 2, "train.learning_rate": 0.001, "gate.mode": "dry_run"}


@pytest.mark.parametrize(
    ("given", "keys"),
    [
        (None, {}),
        ({}, {}),
        ({"epochs": None, "learning_rate": None, "gate": None, "others": None}, {}),
        (FIELDS, KEYS),
        (KEYS, KEYS),
        ({**FIELDS, "others": {"train.seed": 7}}, {"train.seed": 7, **KEYS}),
        ({"epochs": 2, "train.seed": 7}, {"train.seed": 7, "train.num_train_epochs": 2}),
        ({"train": {"seed": 7}}, {"train.seed": 7}),
        ({"project": "music"}, {"project": "music"}),
    ],
)
def test_the_fields_and_any_keys_change_the_recipe(given: Any, keys: dict[str, Any]) -> None:
    assert RecipeChanges.model_validate(given).to_keys() == keys
    load_recipe("embedded", keys)


def test_a_section_in_the_map_leaves_the_section_s_other_keys() -> None:
    changes = RecipeChanges.model_validate({"train": {"seed": 7}}).to_keys()
    changed, before = load_recipe("quickstart", changes).train, load_recipe("quickstart").train
    assert changed == before.model_copy(update={"seed": 7})


@pytest.mark.parametrize("text", ["123", "true", "null", "[a]", "3e-4", "a: b"])
def test_a_text_of_the_map_stays_a_text(text: str) -> None:
    assert load_recipe(None, {"train.system_prompt": text}).train.system_prompt == text


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("train.num_train_epochs=2", "write a map"),
        ([1], "dictionary"),
        ({"epochs": "two"}, "valid number"),
        ({"gate": "off"}, "'enforce', 'manual' or 'dry_run'"),
    ],
)
def test_wrong_values_are_named(given: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RecipeChanges.model_validate(given)


def test_the_form_has_a_plain_field_for_each_change() -> None:
    shown = intent_pipeline.parameters.model_dump()["definitions"]["RecipeChanges"]["properties"]
    assert {name: field["type"] for name, field in shown.items()} == {
        "epochs": "number",
        "learning_rate": "number",
        "gate": "string",
        "others": "object",
    }
    assert all(field["description"] for field in shown.values())


def test_nothing_stands_below_an_error_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    get_settings()
    logger = logging.getLogger("prefect.flow_runs")
    afterword = "Engine execution exited with unexpected exception"
    for error in (DataError("bad rows"), ConfigError("no"), CancelledRun("Rejected")):
        logger.error(afterword, exc_info=error)
    assert afterword not in caplog.text
    logger.error(afterword, exc_info=KeyError("a bug"))
    assert afterword in caplog.text


@pytest.fixture
def client(platform: Settings) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


@pytest.mark.flow
def test_a_parameter_that_the_flow_lacks_is_named(client: SyncPrefectClient) -> None:
    run = client.create_flow_run(intent_pipeline, parameters={"recipe": "embedded", "epochs": 2})
    client.set_flow_run_state(run.id, Crashed(message="Process exited"), force=True)
    run = client.read_flow_run(run.id)
    explain_crash(flow=intent_pipeline, flow_run=run, state=run.state)
    state = client.read_flow_run(run.id).state
    assert state is not None and state.is_failed() and state.message is not None
    assert "intent-pipeline has no parameter 'epochs'; it has: export_uri, recipe" in state.message


@pytest.mark.flow
def test_another_crash_stays_one(client: SyncPrefectClient) -> None:
    run = client.create_flow_run(intent_pipeline, parameters={"recipe": "embedded"})
    client.set_flow_run_state(run.id, Crashed(message="killed"), force=True)
    explain_crash(flow=intent_pipeline, flow_run=client.read_flow_run(run.id), state=None)
    state = client.read_flow_run(run.id).state
    assert state is not None and state.is_crashed()


@pytest.fixture
def retrain(
    client: SyncPrefectClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[UUID]:
    """A deployment of `take-export`, with one project that has two exports."""
    name = f"retrain-{tmp_path.name}"
    projects = tmp_path / "projects.yaml"
    project = {"exports": "exports/music/", "recipe": "embedded", "unchanged_minutes": 0}
    projects.write_text(yaml.safe_dump({"music": project}), encoding="utf-8")
    monkeypatch.setenv("INTENT_STORE", (tmp_path / "store").as_uri())
    monkeypatch.setenv("INTENT_PROJECTS", str(projects))
    monkeypatch.setenv("INTENT_PIPELINE_DEPLOYMENT", f"intent-pipeline/{name}")
    get_settings.cache_clear()
    store = get_store(get_settings())
    for export in ("old", "new"):
        write_export(tmp_path / export)
        row = f'{{"data": {{"instruction": "{export} {name}"}}}}\n'
        store.put(
            f"exports/music/{export}.manifest", (tmp_path / export).read_bytes() + row.encode()
        )
    pipeline = client.create_deployment(client.create_flow(intent_pipeline), name)
    made = client.create_deployment(
        client.create_flow(take_export),
        name,
        # As `prefect deploy` reads it: the projects are those of this moment.
        parameter_openapi_schema=parameter_schema(take_export.fn).model_dump(),
        enforce_parameter_schema=False,
    )
    yield made
    for deployment in (made, pipeline):
        client.delete_deployment(deployment)


@pytest.mark.flow
def test_an_annotator_fills_in_only_the_project(
    client: SyncPrefectClient, retrain: UUID, tmp_path: Path, platform: Settings
) -> None:
    run_id = start_from_form(platform, retrain, "music", tmp_path)
    run = client.read_flow_run(run_id)
    assert run.parameters.get("project") == "music"
    assert not run.parameters.get("export_uri")
    state: State[Any] = run_flow(take_export, run, return_type="state")
    assert state.is_completed(), state.message
    assert client.read_flow_run(run_id).name == "music: newest export"
    started = client.read_flow_run(UUID(state.result()))
    assert started.parameters["export_uri"].endswith("/new.manifest")
    assert "project:music" in started.tags
