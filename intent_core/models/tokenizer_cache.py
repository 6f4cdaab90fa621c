"""The tokenizer of a GGUF file: converted once, cached, and loaded without transformers.

The conversion and the import of transformers take seconds each, also for a few rows.
"""

import hashlib
import importlib.metadata
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from intent_core.files import write_atomically
from intent_core.language.prompt import ChatMessage
from intent_core.recipe.config import fingerprint

if TYPE_CHECKING:
    import jinja2

logger = logging.getLogger(__name__)

_LIBRARIES = ("gguf", "tokenizers", "transformers")


class TokenizerContent(BaseModel):
    """Everything that is needed to count the tokens of samples."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokenizer: str
    """The `tokenizer.json` of the tokenizers library."""
    chat_template: str | None
    special_tokens: dict[str, str]
    """Variables of the chat template, e.g. {"eos_token": "<|im_end|>"}."""
    positions: int | None
    """Maximum tokens that the model supports; None: not stated."""


class LightTokenizer:
    """A `ChatTokenizer` that needs only the libraries tokenizers and jinja2."""

    def __init__(self, content: TokenizerContent) -> None:
        from tokenizers import Tokenizer

        self.chat_template = content.chat_template
        self._variables = content.special_tokens
        self._tokenizer = Tokenizer.from_str(content.tokenizer)
        self._template = _compile(content.chat_template or "")

    def apply_chat_template(
        self, conversation: Sequence[ChatMessage], *, tokenize: bool, add_generation_prompt: bool
    ) -> str:
        """Return the text of a conversation."""
        if tokenize:
            raise NotImplementedError("encode the text with `encode`")
        return self._template.render(
            messages=conversation,
            tools=None,
            documents=None,
            add_generation_prompt=add_generation_prompt,
            **self._variables,
        )

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Return the token ids of a text."""
        return list(self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids)


def load_tokenizer(gguf: Path, cached: Path) -> TokenizerContent:
    """Return the tokenizer of a GGUF file from its cached copy; convert it if there is none.

    A damaged copy is replaced. Several processes may convert at once: each writes a whole file.

    Args:
        gguf: the file with the model.
        cached: path of the copy, from `name_copy`.
    """
    content = read_copy(cached)
    if content is None:
        content = _convert(gguf)
        try:
            write_copy(cached, content)
        except OSError as error:
            logger.warning("could not cache the tokenizer in %s: %s", cached, error)
    return content


def name_copy(digest: str) -> str:
    """Return the file name of a model's cached tokenizer: other libraries convert it again.

    Args:
        digest: digest of the base model.
    """
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    # Files whose names end like this are not searched for the texts of erasure requests.
    return f"{digest}-{fingerprint(versions)}-tokenizer.json"


def write_copy(path: Path, content: TokenizerContent) -> None:
    """Write a copy with its checksum, atomically.

    Args:
        path: path of the copy.
        content: the tokenizer.
    """
    body = content.model_dump_json().encode()
    write_atomically(path, _digest(body) + b"\n" + body)


def read_copy(path: Path) -> TokenizerContent | None:
    """Return the content of a cached copy; None if it is missing or damaged.

    Args:
        path: path of the copy.
    """
    try:
        digest, _, body = path.read_bytes().partition(b"\n")
    except OSError:
        return None
    try:
        return TokenizerContent.model_validate_json(body) if digest == _digest(body) else None
    except ValidationError:
        return None  # written by another version of this module


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()


def _convert(gguf: Path) -> TokenizerContent:
    from transformers import AutoConfig, AutoTokenizer

    folder, file = str(gguf.parent), gguf.name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    config = AutoConfig.from_pretrained(folder, gguf_file=file)
    return TokenizerContent(
        tokenizer=tokenizer.backend_tokenizer.to_str(),
        chat_template=tokenizer.chat_template,
        special_tokens=tokenizer.special_tokens_map,
        positions=config.max_position_embeddings,
    )


def _compile(template: str) -> "jinja2.Template":
    """Compile a chat template with the options of transformers; a test compares the two."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    return environment.from_string(template)
