"""A base model that cannot be trained with the recipe is rejected before loading its weights."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from intent_core.errors import ConfigError
from intent_core.recipe.config import TrainConfig
from intent_core.recipe.loader import load_config
from intent_core.training import preflight as module
from intent_core.training.preflight import count_weights, estimate_bytes, preflight
from tests.support.builders.training_jobs import FULL


@pytest.fixture
def base(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "base"))


def recipe(base: Path, *settings: str) -> TrainConfig:
    return load_config(None, [f"train.base_model={base}", *settings]).train


def check(base: Path, *settings: str) -> None:
    preflight(base, AutoTokenizer.from_pretrained(base), recipe(base, *settings))


def change(path: Path, **values: Any) -> None:
    tree = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(tree | values), encoding="utf-8")


def test_a_sound_base_model_passes(base: Path) -> None:
    check(base)
    check(base, *FULL)


def test_every_fault_is_listed_at_once(base: Path) -> None:
    change(base / "config.json", model_type="vit", vocab_size=10, max_position_embeddings=64)
    change(base / "generation_config.json", eos_token_id=0)
    (base / "model.safetensors").unlink()
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.eos_token = "<|endoftext|>"
    with pytest.raises(ConfigError) as caught:
        preflight(base, tokenizer, recipe(base))
    message = str(caught.value)
    assert "model_type 'vit' is not a causal language model" in message
    assert "no *.safetensors files" in message
    assert "ends answers with '<|im_end|>', but servers stop at ['<|endoftext|>']" in message
    assert "tokens, but vocab_size in config.json is 10" in message
    assert "train.seq_length is 128, but the model supports at most 64 tokens" in message


def test_no_layer_left_to_train(base: Path) -> None:
    frozen = [*FULL, "train.freeze_embeddings=true", "train.freeze_layers=2"]
    with pytest.raises(ConfigError, match=r"freeze_layers is 2, but the model has only 2"):
        check(base, *frozen)


def test_a_model_without_a_chat_template(base: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = None
    with pytest.raises(ConfigError, match="to an instruct or chat model"):
        preflight(base, tokenizer, recipe(base))


def test_memory_is_estimated_by_method(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = count_weights(base)
    total = sum(counts.values())
    assert 300_000 < total < 1_000_000
    full, lora, four, eight = (
        estimate_bytes(counts, recipe(base, *settings))
        for settings in (
            FULL,
            ["train.lora_dim=4"],
            ["train.method=qlora", "train.lora_dim=4", "train.load_in_4bit=true"],
            ["train.method=qlora", "train.lora_dim=4", "train.load_in_8bit=true"],
        )
    )
    assert full == 16 * total
    assert four < eight < lora < full
    monkeypatch.setattr(module, "available_bytes", lambda _: int(lora * 1.5))
    check(base, "train.lora_dim=4")
    with pytest.raises(ConfigError, match=r"method full requires about .* GB: set .* to lora"):
        check(base, *FULL)
