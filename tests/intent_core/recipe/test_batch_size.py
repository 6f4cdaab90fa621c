"""Samples per optimizer step: the same for any number of devices and amount of memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intent_core.recipe.batch_size import BatchPlan, plan_batches
from intent_core.recipe.loader import load_config


def plan(*settings: str, num_examples: int = 10_000, devices: int = 1) -> BatchPlan:
    overrides = [f"train.{setting}" for setting in settings]
    return plan_batches(load_config(None, overrides).train, num_examples, devices)


@pytest.mark.parametrize(
    ("settings", "num_examples", "devices", "expected"),
    [
        # PAI guide: global batch size = devices x per_device x accumulation.
        (["gradient_accumulation_steps=8", "per_device_train_batch_size=4"], 10_000, 2, (4, 8, 2)),
        (["global_batch_size=256"], 10_000, 1, (8, 32, 1)),
        (["global_batch_size=256"], 10_000, 4, (8, 8, 4)),
        (["global_batch_size=16", "per_device_train_batch_size=16"], 600, 1, (16, 1, 1)),
        ([], 10_000, 1, (8, 32, 1)),
        ([], 600, 1, (8, 2, 1)),
        ([], 100, 1, (8, 1, 1)),
        (["global_batch_size=256"], 6, 1, (6, 1, 1)),
    ],
)
def test_plans(
    settings: list[str], num_examples: int, devices: int, expected: tuple[int, int, int]
) -> None:
    found = plan(*settings, num_examples=num_examples, devices=devices)
    assert (found.per_device, found.accumulation, found.devices) == expected


@given(st.integers(1, 64), st.integers(1, 64), st.integers(1, 8))
def test_half_a_row_is_half_or_less_and_the_step_stays(
    per_device: int, accumulation: int, devices: int
) -> None:
    before = BatchPlan(per_device, accumulation, devices)
    after = before.halve()
    if per_device == 1:
        assert after is None
        return
    assert after is not None
    assert after.per_device <= per_device / 2
    assert after.samples_per_step == before.samples_per_step
