"""Checks a base model and recipe before weights are loaded, and reports all problems at once."""

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

# Bytes per weight: trained (float32 weight, gradient, two Adam moments), frozen (float32), and
# quantised to 8 or 4 bits including the quantisation constants.
_TRAINED, _FROZEN, _FROZEN_8BIT, _FROZEN_4BIT = 16, 4, 1.1, 0.6


def preflight(folder: Path, tokenizer: Any, config: TrainConfig) -> None:
    """Raise one `ConfigError` that lists all problems of this base model with this recipe."""
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    faults = [
        *_check_architecture(settings, config),
        *_check_weights(folder, config),
        *_check_tokenizer(folder, settings, tokenizer, config),
    ]
    if faults:
        raise ConfigError(
            f"base model {config.base_model!r} cannot be trained with this recipe:\n"
            + "\n".join(f"  {fault}" for fault in faults)
        )


def count_weights(folder: Path) -> dict[str, int]:
    """Return the number of weights per tensor, read from the headers of the safetensors files."""
    counts: dict[str, int] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in list(file.keys()):
                counts[name] = math.prod(file.get_slice(name).get_shape())
    return counts


def estimate_bytes(counts: dict[str, int], config: TrainConfig) -> float:
    """Return the bytes for weights, gradients and optimizer state.

    Activations are not included: their size is reduced during training by halving the rows.
    """
    total = sum(counts.values())
    embeddings = sum(num for name, num in counts.items() if "embed_tokens" in name)
    if config.method == "full":
        frozen = embeddings if config.freeze_embeddings else 0
        return _TRAINED * (total - frozen) + _FROZEN * frozen
    # LoRA adds two matrices of lora_dim x width to each matrix of about width x width.
    width = math.sqrt(max(counts.values(), default=0) or 1)
    adapter = 2 * config.lora_dim * (total - embeddings) / max(width, 1.0)
    quantised = _FROZEN_4BIT if config.load_in_4bit else _FROZEN_8BIT
    linear = quantised if config.method == "qlora" else _FROZEN
    return _TRAINED * adapter + linear * (total - embeddings) + _FROZEN * embeddings


def available_bytes(config: TrainConfig) -> int:
    """Return the bytes of the training device, or of all devices if the model is sharded."""
    if torch.cuda.is_available():
        devices = int(os.environ.get("WORLD_SIZE", "1")) if config.fsdp else 1
        return int(torch.cuda.mem_get_info()[1]) * devices
    return int(psutil.virtual_memory().total)


def _check_architecture(settings: dict[str, Any], config: TrainConfig) -> Iterator[str]:
    kind = settings.get("model_type")
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        yield f"model_type {kind!r} is not a causal language model supported by transformers"
    layers = settings.get("num_hidden_layers", math.inf)
    if config.freeze_layers >= layers:
        yield (
            f"train.freeze_layers is {config.freeze_layers}, but the model has only {layers} "
            "layers: no layer would be trained"
        )


def _check_weights(folder: Path, config: TrainConfig) -> Iterator[str]:
    counts = count_weights(folder)
    if not counts:
        yield (
            "no *.safetensors files: convert the weights to safetensors; other formats can execute "
            "code when loaded"
        )
        return
    needed, there = estimate_bytes(counts, config), available_bytes(config)
    if needed > there:
        yield (
            f"training {sum(counts.values()) / 1e6:.0f} million weights with method "
            f"{config.method} requires about {needed / 1e9:.1f} GB, but the device has "
            f"{there / 1e9:.1f} GB: set train.method to lora or qlora, or use a smaller base model"
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
            f"the chat template ends answers with {tokenizer.convert_ids_to_tokens(end)!r}, but "
            f"servers stop at {tokenizer.convert_ids_to_tokens(sorted(stops))}: set eos_token_id "
            "in generation_config.json"
        )
    if len(tokenizer) > settings.get("vocab_size", math.inf):
        yield (
            f"the tokenizer has {len(tokenizer)} tokens, but vocab_size in config.json is "
            f"{settings['vocab_size']}"
        )
    positions = settings.get("max_position_embeddings", math.inf)
    if config.seq_length != "auto" and config.seq_length > positions:
        yield (
            f"train.seq_length is {config.seq_length}, but the model supports at most {positions} "
            "tokens"
        )


def _stops(folder: Path, settings: dict[str, Any], tokenizer: Any) -> set[int]:
    """Return the token ids at which a server ends an answer."""
    path = folder / "generation_config.json"
    generation = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else settings
    tokens = generation.get("eos_token_id")
    listed = tokens if isinstance(tokens, list) else [tokens]
    return {token for token in (*listed, tokenizer.eos_token_id) if token is not None}
