"""How long samples are in a base model's tokens, without the model."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from intent_core.language.prompt import encode_completion, encode_prompt, find_end_token
from intent_core.recipe.config import TrainConfig


def count_tokens(
    samples: Iterable[tuple[str, str]], config: TrainConfig, base_model: Path
) -> list[int]:
    """Tokens of each (utterance, output) as it trains: prompt, answer and end token.

    `base_model` is a GGUF file or a model directory. Raises `ConfigError` when it has no chat
    template.
    """
    tokenizer = _load_tokenizer(base_model)
    end = find_end_token(tokenizer, config.system_prompt)
    return [
        len(encode_prompt(tokenizer, config.system_prompt, utterance))
        + len(encode_completion(tokenizer, output, end))
        for utterance, output in samples
    ]


def _load_tokenizer(path: Path) -> Any:
    from transformers import AutoTokenizer

    if path.is_dir():
        return AutoTokenizer.from_pretrained(path)
    return AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
