"""Attention in packed rows: every sample attends to the shared prefix and to itself only.

A row of n samples has n small attention blocks. A mask over the whole row would compute all pairs
and discard most of them. Instead, the samples are arranged as a batch during the attention:

    prefix: causal attention within the prefix
    samples (n, L): causal attention over the prefix and the sample itself

`RowCollator` provides the assignment of tokens to samples (`samples`, `kept`).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface

from intent_core.training.methods import evaluating
from intent_core.training.packing import EncodedExample, PaddedCollator, RowCollator
from intent_core.training.trainer import predict

NAME = "shared_prefix"
# Relative to the spread of the logits. Rounding in bfloat16 causes differences of about 0.01,
# attention to a neighbouring sample 0.1 or more.
_TOLERANCE = 0.03


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    *,
    samples: torch.Tensor | None = None,
    kept: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Implement transformers' attention interface for packed rows.

    query is (1, H, T, D); key and value are (1, K, T, D), where K divides H; the result is
    (1, T, H, D). `samples` (n, L) contains the positions of each sample's tokens in the row, padded
    to L; `kept` contains the indices of the non-padding entries among the n * L, in row order.
    Without them the row is a single sample.
    """
    options: dict[str, Any] = {
        "scale": scaling,
        "dropout_p": dropout,
        "enable_gqa": query.shape[1] != key.shape[1],
    }
    if samples is None or kept is None:
        whole = functional.scaled_dot_product_attention(
            query, key, value, is_causal=query.shape[2] > 1, **options
        )
        return whole.transpose(1, 2).contiguous(), None
    num_prefix = query.shape[2] - len(kept)
    keys, values = (_with_prefix(tensor, samples, num_prefix) for tensor in (key, value))
    length = samples.shape[1]
    # (L, P + L): padding is at the end of a sample, so that no real token attends to it.
    mask = torch.ones(length, num_prefix + length, dtype=torch.bool, device=query.device)
    own = functional.scaled_dot_product_attention(
        _gather(query, samples), keys, values, attn_mask=mask.tril(num_prefix), **options
    )
    parts = [own.transpose(1, 2).flatten(0, 1)[kept]]  # (T - P, H, D)
    if num_prefix:
        prefix = functional.scaled_dot_product_attention(
            query[:, :, :num_prefix],
            key[:, :, :num_prefix],
            value[:, :, :num_prefix],
            is_causal=num_prefix > 1,
            **options,
        )
        parts.insert(0, prefix[0].transpose(0, 1))
    return torch.cat(parts)[None], None


AttentionInterface.register(NAME, attend)


def isolates_samples(model: Any, examples: Sequence[EncodedExample], prefix_length: int) -> bool:
    """Switch the model to this attention if it gives the same results as separate samples.

    Some architectures do not support custom attention or do not pass the positions on. Such a
    model is not changed, and its samples must be padded.
    """
    original = model.config._attn_implementation
    pair = list(examples[:2])
    try:
        single = [_logits(model, PaddedCollator()([example])) for example in pair]
        model.set_attn_implementation(NAME)
        packed = _logits(model, RowCollator(prefix_length)(pair))
    except (TypeError, ValueError, KeyError, AttributeError):
        model.set_attn_implementation(original)
        return False
    expected = torch.cat(single)
    spread = (expected - expected.mean(-1, keepdim=True)).norm()
    if (packed - expected).norm() < _TOLERANCE * spread:
        return True
    model.set_attn_implementation(original)
    return False


def _logits(model: Any, row: dict[str, torch.Tensor]) -> torch.Tensor:
    with evaluating(model):
        return predict(model, {name: value.to(model.device) for name, value in row.items()})[1]


def _gather(tensor: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
    """Arrange (1, H, T, D) as a batch of samples, (n, H, L, D)."""
    return tensor[0][:, samples].transpose(0, 1)


def _with_prefix(tensor: torch.Tensor, samples: torch.Tensor, num_prefix: int) -> torch.Tensor:
    """Arrange (1, K, T, D) as (n, K, P + L, D): the prefix followed by each sample's tokens."""
    own = _gather(tensor, samples)
    prefix = tensor[:, :, :num_prefix].expand(len(samples), -1, -1, -1)
    return torch.cat([prefix, own], dim=2)
