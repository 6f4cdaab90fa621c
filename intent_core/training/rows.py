"""Samples packed into rows, isolated from each other, their shared prefix computed once.

Utterances are short and every sample starts with the same system prompt. A batch becomes
one row `[prefix][sample 1][sample 2]...`; a mask lets each sample attend to the prefix and
to itself, and positions count on from the prefix as if the sample stood alone. Loss and
gradients equal those of the samples one by one (`tests/intent_core/test_rows.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch

Row = dict[str, torch.Tensor]


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

    def __call__(self, batch: Sequence[EncodedExample]) -> Row:
        """`input_ids` and `position_ids` (1, T), boolean `attention_mask` (1, 1, T, T),
        `logits_to_keep` and `labels` (N): the positions that predict, and what they should."""
        prefix = batch[0].prompt_ids[: self.prefix_length]
        ids, positions, segments = list(prefix), list(range(len(prefix))), [0] * len(prefix)
        predicting: list[int] = []
        labels: list[int] = []
        for segment, example in enumerate(batch, start=1):
            own = example.prompt_ids[len(prefix) :]
            # The token before the first completion token predicts it, and so on.
            first = len(ids) + len(own) - 1
            predicting += range(first, first + len(example.completion_ids))
            labels += example.completion_ids
            tokens = own + example.completion_ids
            ids += tokens
            positions += range(len(prefix), len(prefix) + len(tokens))
            segments += [segment] * len(tokens)
        targets = torch.tensor(labels)
        return {
            "input_ids": torch.tensor([ids]),
            "position_ids": torch.tensor([positions]),
            "attention_mask": isolation_mask(torch.tensor(segments)),
            "logits_to_keep": torch.tensor(predicting),
            "labels": targets,
            # Aligned with the positions already: under this name Trainer counts them all.
            "shift_labels": targets,
        }


def isolation_mask(segments: torch.Tensor) -> torch.Tensor:
    """(T) segment numbers, 0 the prefix -> boolean (1, 1, T, T): may row attend to column."""
    same = segments[:, None] == segments[None, :]
    to_prefix = segments[None, :] == 0
    causal = torch.ones(len(segments), len(segments), dtype=torch.bool).tril()
    allowed: torch.Tensor = (same | to_prefix) & causal
    return allowed[None, None]
