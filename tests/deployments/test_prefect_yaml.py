"""`prefect.yaml`: entrypoints are flows, parameters exist, schedules are disabled."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.flows import Flow, load_flow_from_entrypoint

from flows.parameters import load_recipe
from tasks.orchestration.events import EXPORT_READY
from tasks.orchestration.work_pools import POOLS

DEPLOYED: list[dict[str, Any]] = yaml.safe_load(
    (Path(__file__).parents[2] / "prefect.yaml").read_text(encoding="utf-8")
)["deployments"]
BY_NAME = {f"{entry['entrypoint']}/{entry['name']}": entry for entry in DEPLOYED}


@pytest.fixture(params=BY_NAME, ids=str)
def entry(request: pytest.FixtureRequest) -> dict[str, Any]:
    return BY_NAME[request.param]


def test_the_entrypoint_is_a_flow_that_takes_the_parameters(entry: dict[str, Any]) -> None:
    flow: Flow[..., Any] = load_flow_from_entrypoint(entry["entrypoint"])
    taken = inspect.signature(flow.fn).parameters
    assert set(entry.get("parameters", {})) <= set(taken)
    assert flow.description, "people read it in the UI"


def test_the_pool_is_one_that_is_made(entry: dict[str, Any]) -> None:
    assert entry["work_pool"]["name"] in POOLS


def test_gpu_steps_run_on_the_gpu_pool_one_at_a_time() -> None:
    gpu = {e["entrypoint"] for e in DEPLOYED if e["work_pool"]["name"] == "gpu"}
    assert gpu == {"flows.finetune.finetune", "flows.evaluate_model.evaluate_model"}
    for one in DEPLOYED:
        if one["work_pool"]["name"] == "gpu":
            assert one["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}


def test_the_pipeline_hands_over_to_deployments_there_are() -> None:
    pipeline = BY_NAME["flows.pipeline.intent_pipeline/run"]
    names = set(pipeline["work_pool"]["job_variables"]["env"].values())
    known = {
        f"{load_flow_from_entrypoint(e['entrypoint']).name}/{e['name']}"
        for e in DEPLOYED
        if e["work_pool"]["name"] == "gpu"
    }
    assert names == known
    load_recipe(pipeline["parameters"]["recipe"])


def test_the_schedules_are_off() -> None:
    schedules = {s["slug"]: s for e in DEPLOYED for s in e.get("schedules", [])}
    assert not any(schedule["active"] for schedule in schedules.values())
    assert {slug: schedule["cron"] for slug, schedule in schedules.items()} == {
        "weekly": "0 3 * * 1",
        "every-five-minutes": "*/5 * * * *",
    }


def test_the_trigger_is_on_the_event_that_is_posted() -> None:
    (trigger,) = BY_NAME["flows.watch_exports.take_export/retrain"]["triggers"]
    assert trigger["expect"] == [EXPORT_READY]
    flow: Flow[..., Any] = load_flow_from_entrypoint("flows.watch_exports.take_export")
    assert set(trigger["parameters"]) == set(inspect.signature(flow.fn).parameters)
