"""Golden utterances: a few answers of the evaluation that a model must give wherever it serves."""

import math
from collections.abc import Sequence
from typing import Any

import httpx
from pydantic import BaseModel, ConfigDict

from intent_core.errors import ServingError
from intent_core.language.prompt import build_messages
from intent_core.models.artifact import ModelArtifact
from intent_core.recipe.config import EvaluateConfig

_ASKED, _KEPT = 6, 4
_TIMEOUT_S = 60


class GoldenAnswer(BaseModel):
    """What a model answers to an utterance that it was not trained on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    utterance: str
    text: str


class GoldenAnswers(BaseModel):
    """Those of one model under one way of serving it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    answers: tuple[GoldenAnswer, ...]


def ask_golden(
    base_url: str, key: str, artifact: ModelArtifact, utterances: Sequence[str]
) -> GoldenAnswers:
    """A candidate's own answers to the first few, those it is surest of.

    Among other callers' requests a server rounds otherwise; only a near tie can show that.
    """
    answers = []
    for utterance in utterances[:_ASKED]:
        text, confidence = _ask(base_url, key, artifact.name, artifact, utterance)
        answers.append((confidence, GoldenAnswer(utterance=utterance, text=text)))
    answers.sort(key=lambda pair: -pair[0])
    return GoldenAnswers(answers=tuple(answer for _, answer in answers[:_KEPT]))


def require_golden(
    base_url: str, key: str, model: str, artifact: ModelArtifact, golden: Sequence[GoldenAnswer]
) -> None:
    """Raise `ServingError` unless `model` at this address answers as in the evaluation."""
    for answer in golden:
        text, _ = _ask(base_url, key, model, artifact, answer.utterance)
        if text != answer.text:
            raise ServingError(
                f"{model} at {base_url} answers {answer.utterance!r} with {text!r}, and "
                f"{artifact.name} answered {answer.text!r} when it was evaluated"
            )


def _ask(
    base_url: str, key: str, model: str, artifact: ModelArtifact, utterance: str
) -> tuple[str, float]:
    """The answer, one request at a time, and the probability of all its tokens together."""
    body = {
        "model": model,
        "messages": build_messages(artifact.system_prompt, utterance),
        "temperature": 0.0,
        "max_completion_tokens": EvaluateConfig().max_new_tokens,
        "logprobs": True,
    }
    headers = {"Authorization": f"Bearer {key}"}
    try:
        answer = httpx.post(
            f"{base_url}/chat/completions", json=body, headers=headers, timeout=_TIMEOUT_S
        )
        answer.raise_for_status()
        choice: dict[str, Any] = answer.json()["choices"][0]
    except (httpx.HTTPError, ValueError, LookupError) as error:
        raise ServingError(f"{model} at {base_url} did not answer: {error}") from error
    tokens = (choice.get("logprobs") or {}).get("content") or []
    return choice["message"]["content"] or "", math.fsum(token["logprob"] for token in tokens)
