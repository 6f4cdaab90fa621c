"""Entrypoints stored in users' Prefect servers still load the same flows."""

from typing import Any

import pytest
from prefect.flows import Flow, load_flow_from_entrypoint

ENTRYPOINTS = {
    "flows.pipeline.intent_pipeline": "intent-pipeline",
    "flows.prepare.prepare": "prepare",
    "flows.finetune.finetune": "finetune",
    "flows.evaluate_model.evaluate_model": "evaluate-model",
    "flows.promote.promote": "promote",
    "flows.promote.roll_back": "roll-back",
    "flows.watch_exports.watch_exports": "watch-exports",
    "flows.watch_exports.take_export": "take-export",
}


@pytest.mark.parametrize(("entrypoint", "name"), ENTRYPOINTS.items())
def test_an_entrypoint_loads_its_flow(entrypoint: str, name: str) -> None:
    flow: Flow[..., Any] = load_flow_from_entrypoint(entrypoint)
    assert flow.name == name
