"""Merged weights, one server per model behind nginx: killed at any point of a promotion."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from intent_core.recipe.config import ServeConfig
from tasks.settings import Settings
from tests.support.faults.kill_points import MERGED_PROMOTION, KillPoint
from tests.support.scenarios.two_served_models import World, survive_a_kill, two_models

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(400)]

SERVE = ServeConfig(alias="weights", max_model_len=128, dtype="float32")


@pytest.fixture(scope="module")
def world(
    platform: Settings, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    with two_models(platform, tiny_model, tmp_path_factory.mktemp("weights"), SERVE) as world:
        yield world


@pytest.mark.parametrize("point", MERGED_PROMOTION)
def test_a_promotion_killed_at_any_point_leaves_what_can_be_ended(
    world: World, point: KillPoint
) -> None:
    survive_a_kill(world, point)
