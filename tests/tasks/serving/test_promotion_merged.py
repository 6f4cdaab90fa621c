"""Whole weights on a server each, nginx before them: killed at any step of a promotion."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from intent_core.recipe.config import ServeConfig
from tasks.settings import Settings
from tests.support.faults.kill_after_step import STEPS
from tests.support.scenarios.two_served_models import World, survive_a_kill, two_models

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(400)]

SERVE = ServeConfig(alias="weights", max_model_len=128, dtype="float32")


@pytest.fixture(scope="module")
def world(
    platform: Settings, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    with two_models(platform, tiny_model, tmp_path_factory.mktemp("weights"), SERVE) as world:
        yield world


@pytest.mark.parametrize(
    ("step", "count"), [*STEPS, ("tasks.serving.targets.local.turn_gateway", 1)]
)
def test_a_promoter_killed_after_any_step_leaves_what_can_be_ended(
    world: World, step: str, count: int
) -> None:
    survive_a_kill(world, step, count)
