"""Attention within packed rows: every sample sees the shared prefix and itself, nothing else.

A row of n samples has n small blocks to attend in. One mask over the whole row would compute all
pairs and throw most of them away; here the samples become a batch for the time of the attention:

    the prefix, causally, within itself
    the samples' tokens, (n, L), over the prefix and their own sample, causally

`RowCollator` says which tokens are whose (`samples`, `kept`).
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
# Of the logits' own spread. Bfloat16 makes a hundredth, a neighbour that is seen a tenth or more.
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
    """transformers' attention interface: query (1, H, T, D), key and value (1, K, T, D) with K
    dividing H -> (1, T, H, D).

    `samples` (n, L) are the places of each sample's tokens in the row, the short ones filled up;
    `kept` are those of the n * L that are no filling, in the row's order. Without both the row
    is one sample.
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
    # (L, P + L): fillings come last in a sample, so that no real token sees one.
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
    """Switch the model to this attention, and see whether it computes the same as without.

    An architecture may not take its attention from outside, or not hand the places through. It
    is left as it was then, and samples must be padded.
    """
    former = model.config._attn_implementation
    pair = list(examples[:2])
    try:
        single = [_logits(model, PaddedCollator()([example])) for example in pair]
        model.set_attn_implementation(NAME)
        packed = _logits(model, RowCollator(prefix_length)(pair))
    except (TypeError, ValueError, KeyError, AttributeError):
        model.set_attn_implementation(former)
        return False
    expected = torch.cat(single)
    spread = (expected - expected.mean(-1, keepdim=True)).norm()
    if (packed - expected).norm() < _TOLERANCE * spread:
        return True
    model.set_attn_implementation(former)
    return False


def _logits(model: Any, row: dict[str, torch.Tensor]) -> torch.Tensor:
    with evaluating(model):
        return predict(model, {name: value.to(model.device) for name, value in row.items()})[1]


def _gather(tensor: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
    """(1, H, T, D) -> (n, H, L, D)."""
    return tensor[0][:, samples].transpose(0, 1)


def _with_prefix(tensor: torch.Tensor, samples: torch.Tensor, num_prefix: int) -> torch.Tensor:
    """(1, K, T, D) -> (n, K, P + L, D): every sample's tokens behind the prefix."""
    own = _gather(tensor, samples)
    prefix = tensor[:, :, :num_prefix].expand(len(samples), -1, -1, -1)
    return torch.cat([prefix, own], dim=2)
