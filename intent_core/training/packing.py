"""Packs samples into rows so that their shared prefix is computed only once.

Utterances are short and every sample starts with the same system prompt. A batch becomes
one row `[prefix][sample 1][sample 2]...`; each sample attends to the prefix and to itself
(`packed_attention.py`), and its positions continue from the prefix as in a separate sample.
Loss and gradients equal those of separate samples (test_packing.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch

TrainingRow = dict[str, torch.Tensor]


@dataclass(frozen=True)
class EncodedExample:
    """Token ids of one sample; only the completion contributes to the loss."""

    prompt_ids: list[int]
    completion_ids: list[int]

    def __len__(self) -> int:
        return len(self.prompt_ids) + len(self.completion_ids)


def shared_prefix_length(examples: Sequence[EncodedExample]) -> int:
    """Return the number of leading tokens shared by all prompts.

    At least one prompt token remains in each sample, because it predicts the first answer token.
    """
    first, *others = (example.prompt_ids for example in examples)
    length = len(first) - 1
    for prompt in others:
        pairs = zip(first[:length], prompt[:-1], strict=False)
        length = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return length


@dataclass(frozen=True)
class RowCollator:
    """Packs a batch into one row: a `data_collator` for transformers' Trainer."""

    prefix_length: int

    def __call__(self, batch: Sequence[EncodedExample]) -> TrainingRow:
        """Return the tensors of one row.

        `input_ids` and `position_ids` are (1, T). `logits_to_keep` (N) contains the positions whose
        logits count, `labels` (N) their target tokens. `samples` (n, L) and `kept` (T - prefix)
        are the inputs of `packed_attention.attend`.
        """
        prefix = batch[0].prompt_ids[: self.prefix_length]
        ids, positions = list(prefix), list(range(len(prefix)))
        predicting: list[int] = []
        labels: list[int] = []
        own_lengths = [len(example) - len(prefix) for example in batch]
        longest = max(own_lengths)
        samples = torch.zeros(len(batch), longest, dtype=torch.long)
        for number, (example, length) in enumerate(zip(batch, own_lengths, strict=True)):
            samples[number, :length] = torch.arange(len(ids), len(ids) + length)
            # Each completion token is predicted at the position before it.
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
            # The labels are already aligned; under this name Trainer counts all of them.
            "shift_labels": targets,
        }


@dataclass(frozen=True)
class PaddedCollator:
    """Pads samples to the longest one, for models that do not support packed rows."""

    pad_id: int = 0
    """Any token works: no other token attends to it, and it does not contribute to the loss."""

    def __call__(self, batch: Sequence[EncodedExample]) -> TrainingRow:
        """Return the tensors of a padded batch.

        `input_ids` and `attention_mask` are (B, T). `predicting` (2, N) contains the rows and
        columns of the logits that count, `labels` (N) their target tokens.
        """
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
