"""Samples per optimizer step, and their division among devices and packed rows. No torch needed."""

import math
from dataclasses import dataclass

from intent_core.recipe.config import TrainConfig

MAX_BATCH, MIN_BATCH, MIN_STEPS = 256, 8, 30


@dataclass(frozen=True)
class BatchPlan:
    """`per_device` samples per packed row, `accumulation` rows per device, `devices` devices."""

    per_device: int
    accumulation: int
    devices: int

    @property
    def samples_per_step(self) -> int:
        return self.per_device * self.accumulation * self.devices

    def halve(self) -> "BatchPlan | None":
        """Return a plan with at most half the samples per row and the same number per step.

        Returns None if a row already has one sample.
        """
        share = self.per_device * self.accumulation
        for per_device in range(self.per_device // 2, 0, -1):
            if share % per_device == 0:
                return BatchPlan(per_device, share // per_device, self.devices)
        return None


def plan_batches(config: TrainConfig, num_examples: int, devices: int = 1) -> BatchPlan:
    """Return the batch plan of a recipe; a step never has more samples than there are examples.

    Args:
        config: the `train` section of the recipe.
        num_examples: examples in the training split.
        devices: devices that train together.
    """
    per_device = config.per_device_train_batch_size
    if config.gradient_accumulation_steps:
        wanted = per_device * config.gradient_accumulation_steps * devices
    elif config.global_batch_size == "auto":
        wanted = recommend_batch(num_examples)
    else:
        wanted = config.global_batch_size
    share = math.ceil(min(wanted, num_examples) / devices)
    accumulation = math.ceil(share / per_device)
    return BatchPlan(math.ceil(share / accumulation), accumulation, devices)


def recommend_batch(num_utterances: int) -> int:
    """Return the recommended samples per optimizer step.

    This is `MAX_BATCH`, halved until an epoch has at least `MIN_STEPS` steps, but not below
    `MIN_BATCH`.

    Args:
        num_utterances: utterances in the training split.

    Source: the PAI guide recommends 64 to 256.
    """
    batch = MAX_BATCH
    while batch > MIN_BATCH and num_utterances < batch * MIN_STEPS:
        batch //= 2
    return batch


def recommend_seq_length(longest: int) -> int:
    """Return the smallest power of two, at least 16, that fits the longest sample.

    Args:
        longest: tokens of the longest sample.

    Source: the PAI guide, which chooses 64 for 50 tokens.
    """
    length = 16
    while length < longest:
        length *= 2
    return length
