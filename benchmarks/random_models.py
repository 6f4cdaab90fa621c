"""Write models with random weights, and tokenizers made from the sample's texts."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

_CPU = torch.device("cpu")
_CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Any:
    """Return a byte-level BPE tokenizer with a ChatML template."""
    end, start, stop = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[end, start, stop],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    wrap: Any = PreTrainedTokenizerFast
    tokenizer = wrap(
        tokenizer_object=bpe,
        eos_token=stop,
        pad_token=stop,
        additional_special_tokens=[end, start],
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )
    tokenizer.chat_template = _CHATML
    return tokenizer


def write_random_model(
    folder: Path,
    kind: Any,
    tokenizer: Any,
    dtype: torch.dtype = torch.float32,
    device: torch.device = _CPU,
    **shape: Any,
) -> Path:
    """Write a model of this configuration class and shape in transformers format."""
    shape = {"vocab_size": len(tokenizer), "bos_token_id": None, **shape}
    config = kind(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, **shape)
    make: Any = AutoModelForCausalLM
    torch.manual_seed(0)
    with device:
        model = make.from_config(config, dtype=dtype)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    # A place and a class that all versions of transformers support.
    path = folder / "tokenizer_config.json"
    options = json.loads(path.read_text(encoding="utf-8"))
    options |= {"chat_template": _CHATML, "tokenizer_class": "PreTrainedTokenizerFast"}
    path.write_text(json.dumps(options, indent=2), encoding="utf-8")
    return folder.resolve()
