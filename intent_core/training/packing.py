"""Samples packed into rows, isolated from each other, their shared prefix computed once.

Utterances are short and every sample starts with the same system prompt. A batch becomes
one row `[prefix][sample 1][sample 2]...`; each sample attends to the prefix and to itself
(`packed_attention.py`), and positions count on from the prefix as if the sample stood alone.
Loss and gradients equal those of the samples one by one (test_packing.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch

TrainingRow = dict[str, torch.Tensor]


@dataclass(frozen=True)
class EncodedExample:
    """Token ids of one sample; only the completion is learned."""

    prompt_ids: list[int]
    completion_ids: list[int]

    def __len__(self) -> int:
        return len(self.prompt_ids) + len(self.completion_ids)


def shared_prefix_length(examples: Sequence[EncodedExample]) -> int:
    """Leading tokens that all prompts share; at least one prompt token stays with each sample."""
    first, *others = (example.prompt_ids for example in examples)
    length = len(first) - 1
    for prompt in others:
        pairs = zip(first[:length], prompt[:-1], strict=False)
        length = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return length


@dataclass(frozen=True)
class RowCollator:
    """Makes one row of a batch: a `data_collator` for transformers' Trainer."""

    prefix_length: int

    def __call__(self, batch: Sequence[EncodedExample]) -> TrainingRow:
        """`input_ids` and `position_ids` (1, T); `logits_to_keep` and `labels` (N), the positions
        that predict and what they should; `samples` (n, L) and `kept` (T - prefix) for
        `packed_attention.attend`."""
        prefix = batch[0].prompt_ids[: self.prefix_length]
        ids, positions = list(prefix), list(range(len(prefix)))
        predicting: list[int] = []
        labels: list[int] = []
        own_lengths = [len(example) - len(prefix) for example in batch]
        longest = max(own_lengths)
        samples = torch.zeros(len(batch), longest, dtype=torch.long)
        for number, (example, length) in enumerate(zip(batch, own_lengths, strict=True)):
            samples[number, :length] = torch.arange(len(ids), len(ids) + length)
            # The token before the first completion token predicts it, and so on.
            first = len(ids) + length - len(example.completion_ids) - 1
            predicting += range(first, first + len(example.completion_ids))
            labels += example.completion_ids
            ids += example.prompt_ids[len(prefix) :] + example.completion_ids
            positions += range(len(prefix), len(prefix) + length)
        filled = torch.arange(longest)[None] < torch.tensor(own_lengths)[:, None]
        targets = torch.tensor(labels)
        return {
            "input_ids": torch.tensor([ids]),
            "position_ids": torch.tensor([positions]),
            "samples": samples,
            "kept": filled.flatten().nonzero()[:, 0],
            "logits_to_keep": torch.tensor(predicting),
            "labels": targets,
            # Aligned with the positions already: under this name Trainer counts them all.
            "shift_labels": targets,
        }


@dataclass(frozen=True)
class PaddedCollator:
    """Samples side by side, filled up to the longest: for models that take no packed rows."""

    pad_id: int = 0
    """Any token will do: nothing attends to it, and it is not learned."""

    def __call__(self, batch: Sequence[EncodedExample]) -> TrainingRow:
        """`input_ids` and `attention_mask` (B, T); `predicting` (2, N), rows and columns of the
        logits that count, and their `labels` (N)."""
        longest = max(map(len, batch))
        ids = torch.full((len(batch), longest), self.pad_id)
        mask = torch.zeros(len(batch), longest, dtype=torch.long)
        predicting: list[tuple[int, int]] = []
        for number, example in enumerate(batch):
            ids[number, : len(example)] = torch.tensor(example.prompt_ids + example.completion_ids)
            mask[number, : len(example)] = 1
            first = len(example.prompt_ids) - 1
            predicting += ((number, first + i) for i in range(len(example.completion_ids)))
        targets = torch.tensor([label for example in batch for label in example.completion_ids])
        return {
            "input_ids": ids,
            "attention_mask": mask,
            "predicting": torch.tensor(predicting).T,
            "labels": targets,
            "shift_labels": targets,
        }
