"""How many samples an optimizer step takes, and how devices and rows share them. No torch here."""

import math
from dataclasses import dataclass

from intent_core.recipe.config import TrainConfig

MAX_BATCH, MIN_BATCH, MIN_STEPS = 256, 8, 30


@dataclass(frozen=True)
class BatchPlan:
    """`per_device` samples in a row, `accumulation` rows a device, on `devices` devices."""

    per_device: int
    accumulation: int
    devices: int

    @property
    def samples_per_step(self) -> int:
        return self.per_device * self.accumulation * self.devices

    def halve(self) -> "BatchPlan | None":
        """Half the samples in a row, or less, and the same in a step; None for a single one."""
        share = self.per_device * self.accumulation
        for per_device in range(self.per_device // 2, 0, -1):
            if share % per_device == 0:
                return BatchPlan(per_device, share // per_device, self.devices)
        return None


def plan_batches(config: TrainConfig, num_examples: int, devices: int = 1) -> BatchPlan:
    """The recipe's wish for so many samples: a step never takes more than there are."""
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
    """The documents' global batch of 64 to 256, less where an epoch would have too few steps."""
    batch = MAX_BATCH
    while batch > MIN_BATCH and num_utterances < batch * MIN_STEPS:
        batch //= 2
    return batch


def recommend_seq_length(longest: int) -> int:
    """The power of two that fits the longest sample, as the documents choose it."""
    length = 16
    while length < longest:
        length *= 2
    return length
