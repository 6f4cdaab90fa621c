"""A model served twice, with drafts of its answers and without."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import httpx

from intent_core.language.prompt import build_messages
from tasks.serving.state import ServedModel
from tasks.serving.vllm.server import (
    ModelServer,
    ensure_model_server,
    find_ready_server,
    stop_model_server,
)
from tasks.settings import Settings
from tests.support.builders.tiny_model import IM_END, IM_START

_COUNTER = re.compile(r"^vllm:(\w+)_total\{[^}]*\} (\S+)$", re.MULTILINE)
_TOKENS = 48


class Drafts(NamedTuple):
    """The served model's server, which drafts, and another one that does not."""

    settings: Settings
    served: ServedModel
    drafting: ModelServer
    plain: ModelServer

    def ask(self, server: ModelServer, utterance: str, system_prompt: str = "") -> str:
        """Return the answer to a chat, which is grounded."""
        system_prompt = system_prompt or self.served.artifact.system_prompt
        messages = build_messages(system_prompt, utterance)
        choice = self._post(server, "chat/completions", {"messages": messages})
        return str(choice["message"]["content"])

    def ask_freely(self, server: ModelServer, utterance: str) -> str:
        """Return the answer to the same prompt as a completion, which is not grounded."""
        turns = (("system", self.served.artifact.system_prompt), ("user", utterance))
        prompt = "".join(f"{IM_START}{role}\n{text}{IM_END}\n" for role, text in turns)
        choice = self._post(server, "completions", {"prompt": f"{prompt}{IM_START}assistant\n"})
        return str(choice["text"])

    def count_reused(self, system_prompt: str, *utterances: str) -> float:
        """Return the tokens of prompts that come from the prefix cache."""
        before = self.count(self.drafting)["prefix_cache_hits"]
        for utterance in utterances:
            self.ask(self.drafting, utterance, system_prompt)
        return self.count(self.drafting)["prefix_cache_hits"] - before

    def _post(self, server: ModelServer, path: str, fields: dict[str, object]) -> dict[str, object]:
        body = {"model": server.model, "temperature": 0, "max_tokens": _TOKENS, **fields}
        headers = {"Authorization": f"Bearer {self.settings.read_api_key()}"}
        answer = httpx.post(f"{server.url}/{path}", json=body, headers=headers, timeout=60)
        choice: dict[str, object] = answer.raise_for_status().json()["choices"][0]
        return choice

    def count(self, server: ModelServer) -> dict[str, float]:
        """Return vLLM's counters by their names without prefix and suffix."""
        headers = {"Authorization": f"Bearer {self.settings.read_api_key()}"}
        url = f"http://{server.address}/metrics"
        text = httpx.get(url, headers=headers, timeout=30).raise_for_status().text
        return {name: float(value) for name, value in _COUNTER.findall(text)}


@contextmanager
def served_twice(settings: Settings, served: ServedModel) -> Iterator[Drafts]:
    """Start the second server; stop it afterwards."""
    drafting = find_ready_server(settings, served.artifact, served.serve)
    assert drafting is not None
    without = served.serve.model_copy(update={"drafter": "never"})
    plain = ensure_model_server(settings, served.artifact, without)
    try:
        yield Drafts(settings, served, drafting, plain)
    finally:
        stop_model_server(settings, served.artifact, without)
