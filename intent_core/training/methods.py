"""Prepares the base model for full fine-tuning, or with adapters for LoRA and QLoRA."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from intent_core.recipe.config import TrainConfig


def prepare_model(base: Path, config: TrainConfig) -> Any:
    """Return the model ready for training; weights are float32 except in a quantised base."""
    options: dict[str, Any] = {"dtype": torch.float32, "attn_implementation": "sdpa"}
    if config.method == "qlora":
        options["quantization_config"] = _quantization(config)
    model = AutoModelForCausalLM.from_pretrained(base, **options)
    if config.method == "full":
        if config.freeze_embeddings:
            model.get_input_embeddings().weight.requires_grad_(False)
        for layer in model.get_decoder().layers[: config.freeze_layers]:
            layer.requires_grad_(False)
        return model
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    if config.method == "qlora":
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    adapter = LoraConfig(
        r=config.lora_dim,
        lora_alpha=config.lora_alpha,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, adapter)


@contextlib.contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Switch the model to evaluation mode without gradients for the duration of the context.

    4-bit layers stay in training mode: in evaluation mode on a CPU, bitsandbytes permanently
    repacks their weights for inference, after which gradients through them are silently lost.
    """
    was_training = model.training
    model.eval()
    for module in model.modules():
        if type(module).__name__ == "Linear4bit":
            module.training = True
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def merge_adapter(base: Path, adapter: Path) -> Any:
    """Return the base model with the adapter merged.

    The base is loaded in full precision, also for QLoRA: merging into 4-bit weights degrades the
    model.
    """
    from peft import PeftModel

    whole = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return PeftModel.from_pretrained(whole, adapter).merge_and_unload()


def compute_dtype(config: TrainConfig) -> str:
    """Return the dtype; `auto` is bfloat16 if the GPU supports it natively, else float32."""
    if config.dtype != "auto":
        return config.dtype
    if torch.cuda.is_available():
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    return "float32"


def device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def _quantization(config: TrainConfig) -> Any:
    from transformers import BitsAndBytesConfig

    if config.load_in_8bit:
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, compute_dtype(config)),
    )
