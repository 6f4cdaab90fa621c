"""What can be known to go wrong before a weight is loaded: one message with every fault."""

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors import safe_open
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from intent_core.errors import ConfigError
from intent_core.language.prompt import find_end_token
from intent_core.recipe.config import TrainConfig

# Bytes for each weight: float32 with gradient and two moments; float32; quantised with its scales.
_TRAINED, _FROZEN, _FROZEN_8BIT, _FROZEN_4BIT = 16, 4, 1.1, 0.6


def preflight(folder: Path, tokenizer: Any, config: TrainConfig) -> None:
    """Raise one `ConfigError` that lists what is wrong with this base model for this recipe."""
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    faults = [
        *_check_architecture(settings, config),
        *_check_weights(folder, config),
        *_check_tokenizer(folder, settings, tokenizer, config),
    ]
    if faults:
        raise ConfigError(
            f"base model {config.base_model!r} cannot be trained by this recipe:\n"
            + "\n".join(f"  {fault}" for fault in faults)
        )


def count_weights(folder: Path) -> dict[str, int]:
    """Weights of each tensor, from the headers of the safetensors files alone."""
    counts: dict[str, int] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in list(file.keys()):
                counts[name] = math.prod(file.get_slice(name).get_shape())
    return counts


def estimate_bytes(counts: dict[str, int], config: TrainConfig) -> float:
    """Memory for weights, gradients and optimizer; rows in work come on top and can be halved."""
    total = sum(counts.values())
    embeddings = sum(num for name, num in counts.items() if "embed_tokens" in name)
    if config.method == "full":
        frozen = embeddings if config.freeze_embeddings else 0
        return _TRAINED * (total - frozen) + _FROZEN * frozen
    # About two matrices of lora_dim x width for each square one of width x width.
    width = math.sqrt(max(counts.values(), default=0) or 1)
    adapter = 2 * config.lora_dim * (total - embeddings) / max(width, 1.0)
    quantised = _FROZEN_4BIT if config.load_in_4bit else _FROZEN_8BIT
    linear = quantised if config.method == "qlora" else _FROZEN
    return _TRAINED * adapter + linear * (total - embeddings) + _FROZEN * embeddings


def available_bytes(config: TrainConfig) -> int:
    """Memory of the device that trains, or of all of them where they divide the model."""
    if torch.cuda.is_available():
        devices = int(os.environ.get("WORLD_SIZE", "1")) if config.fsdp else 1
        return int(torch.cuda.mem_get_info()[1]) * devices
    return int(psutil.virtual_memory().total)


def _check_architecture(settings: dict[str, Any], config: TrainConfig) -> Iterator[str]:
    kind = settings.get("model_type")
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        yield f"architecture {kind!r} is no causal language model that transformers knows"
    layers = settings.get("num_hidden_layers", math.inf)
    if config.freeze_layers >= layers:
        yield f"it has {layers} layers, train.freeze_layers is {config.freeze_layers}: none learns"


def _check_weights(folder: Path, config: TrainConfig) -> Iterator[str]:
    counts = count_weights(folder)
    if not counts:
        yield "there are no *.safetensors: convert the weights, other formats run code when loaded"
        return
    needed, there = estimate_bytes(counts, config), available_bytes(config)
    if needed > there:
        yield (
            f"training {sum(counts.values()) / 1e6:.0f} million weights by {config.method} takes "
            f"about {needed / 1e9:.1f} GB and this device has {there / 1e9:.1f} GB: train by lora "
            "or qlora, or take a smaller base model"
        )


def _check_tokenizer(
    folder: Path, settings: dict[str, Any], tokenizer: Any, config: TrainConfig
) -> Iterator[str]:
    try:
        end = find_end_token(tokenizer, config.system_prompt)
    except ConfigError as error:
        yield str(error)
        return
    stops = _stops(folder, settings, tokenizer)
    if end not in stops:
        yield (
            f"its chat template closes answers with {tokenizer.convert_ids_to_tokens(end)!r}, but "
            f"servers stop at {tokenizer.convert_ids_to_tokens(sorted(stops))}: set eos_token_id "
            "in generation_config.json"
        )
    if len(tokenizer) > settings.get("vocab_size", math.inf):
        yield f"its tokenizer has {len(tokenizer)} tokens, its vocabulary {settings['vocab_size']}"
    positions = settings.get("max_position_embeddings", math.inf)
    if config.seq_length != "auto" and config.seq_length > positions:
        yield f"it takes {positions} tokens at most, train.seq_length is {config.seq_length}"


def _stops(folder: Path, settings: dict[str, Any], tokenizer: Any) -> set[int]:
    """Tokens at which a server ends an answer."""
    path = folder / "generation_config.json"
    generation = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else settings
    tokens = generation.get("eos_token_id")
    listed = tokens if isinstance(tokens, list) else [tokens]
    return {token for token in (*listed, tokenizer.eos_token_id) if token is not None}
