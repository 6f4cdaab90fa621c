"""Writes the grammar of each request to a grounded model, outside the event loop."""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

from intent_core.serving.grounding.choice import is_grounded
from intent_core.serving.grounding.grammar import UngroundableError, write_grammar
from intent_core.serving.grounding.policy import POLICY_FILE, GroundingPolicy
from intent_core.serving.metrics import Metrics
from intent_core.serving.protocol.request_body import Question

logger = logging.getLogger(__name__)

_AT_ONCE = 2


class Grammars:
    """The grammars for the models in a folder with a folder per model."""

    def __init__(self, folder: Path | None, mode: str, metrics: Metrics) -> None:
        self._folder = folder
        self._mode = mode
        self._metrics = metrics
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="grammar")

    async def write(self, model: str, question: Question) -> str | None:
        """Return the grammar of a model's answer; None if the answer is not grounded.

        A grammar that cannot be written is counted, and the request is answered without it.
        """
        if self._folder is None or self._mode == "never" or not question.expects_calls:
            return None
        path, loop = self._folder / model / POLICY_FILE, asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, self._write, path, question)
        except Exception as error:
            # Log the type only: the message could contain the caller's text.
            level = logging.DEBUG if isinstance(error, UngroundableError) else logging.ERROR
            logger.log(level, "no grammar: model=%s error=%s", model, type(error).__name__)
            self._metrics.count_dropped_grammar("not_written")
            return None

    def _write(self, path: Path, question: Question) -> str | None:
        try:
            policy = _read(path)
        except FileNotFoundError:
            return None  # a model of an earlier version, or a base model
        if not is_grounded(self._mode, policy):
            return None
        return write_grammar(
            policy,
            read_utterances(question.to_messages()),
            intents=question.intents,
            allow_out_of_scope=question.allows_out_of_scope,
        )


def read_utterances(messages: object) -> list[str]:
    """Return the texts of a chat's user messages; invalid messages are ignored.

    Args:
        messages: the field `messages` of a chat request, which vLLM has not checked yet.
    """
    texts: list[str] = []
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, dict) and message.get("role") == "user":
            texts += _read_texts(message.get("content"))
    return texts


def _read_texts(content: Any) -> list[str]:
    parts = content if isinstance(content, list) else [{"text": content}]
    texts = (part.get("text") for part in parts if isinstance(part, dict))
    return [text for text in texts if isinstance(text, str)]


@lru_cache(maxsize=8)
def _read(path: Path) -> GroundingPolicy:
    return GroundingPolicy.model_validate_json(path.read_bytes())
