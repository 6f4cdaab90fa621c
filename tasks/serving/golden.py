"""Golden utterances: evaluation answers that a model must reproduce wherever it is served."""

import math
from collections.abc import Sequence
from typing import Any

import httpx
from pydantic import BaseModel, ConfigDict

from intent_core.errors import ServingError
from intent_core.language.calls import OUT_OF_SCOPE
from intent_core.language.prompt import build_messages
from intent_core.models.artifact import ModelArtifact
from intent_core.recipe.config import EvaluateConfig

_ASKED, _KEPT = 6, 4
_TIMEOUT_S = 60


class RequestRefusedError(ServingError):
    """The server refuses the request itself, e.g. because the utterance is too long for it."""


class GoldenAnswer(BaseModel):
    """A model's answer to an utterance that it was not trained on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    utterance: str
    text: str


class GoldenAnswers(BaseModel):
    """The golden answers of one model under one serve configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    answers: tuple[GoldenAnswer, ...]


def ask_golden(
    base_url: str, key: str, artifact: ModelArtifact, utterances: Sequence[str]
) -> GoldenAnswers:
    """Return a candidate's most confident answers to the first few utterances that it accepts.

    Rounding depends on how a server batches requests and can change an answer only when two tokens
    are almost equally likely; confident answers avoid that.
    """
    answers: list[tuple[float, GoldenAnswer]] = []
    refused: RequestRefusedError | None = None
    for utterance in utterances:
        if len(answers) == _ASKED:
            break
        try:
            text, confidence = _ask(base_url, key, artifact.name, artifact, utterance)
        except RequestRefusedError as error:
            refused = error
            continue
        answers.append((confidence, GoldenAnswer(utterance=utterance, text=text)))
    if refused and not answers:
        raise refused
    answers.sort(key=lambda pair: -pair[0])
    return GoldenAnswers(answers=tuple(answer for _, answer in answers[:_KEPT]))


def require_golden(
    base_url: str,
    key: str,
    model: str,
    artifact: ModelArtifact,
    golden: Sequence[GoldenAnswer],
    abstain_below: float | None = None,
) -> None:
    """Raise `ServingError` unless `model` at this address gives its answers of the evaluation.

    Args:
        base_url: the address, with /v1.
        key: the operator's key, which gets the model's own answers, or a caller's.
        model: an alias or a content name.
        artifact: the model that is expected to answer.
        golden: its answers.
        abstain_below: the threshold that the server applies to a caller's key.
    """
    for answer in golden:
        text, logprob = _ask(base_url, key, model, artifact, answer.utterance)
        is_unsure = abstain_below is not None and math.exp(min(0.0, logprob)) < abstain_below
        if text != answer.text and not (is_unsure and text == f"{OUT_OF_SCOPE}()"):
            raise ServingError(
                f"{model} at {base_url} answers {answer.utterance!r} with {text!r}, but "
                f"{artifact.name} answered {answer.text!r} in its evaluation"
            )


def _ask(
    base_url: str, key: str, model: str, artifact: ModelArtifact, utterance: str
) -> tuple[str, float]:
    """Return the answer and the sum of its tokens' log-probabilities."""
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
            f"{base_url}/chat/completions",
            json=body,
            headers=headers,
            timeout=_TIMEOUT_S,
            trust_env=False,
        )
        answer.raise_for_status()
        choice: dict[str, Any] = answer.json()["choices"][0]
    except (httpx.HTTPError, ValueError, LookupError) as error:
        is_refused = (
            isinstance(error, httpx.HTTPStatusError)
            and error.response.status_code == httpx.codes.BAD_REQUEST
        )
        kind = RequestRefusedError if is_refused else ServingError
        raise kind(f"request to {model} at {base_url} failed: {error}") from error
    tokens = (choice.get("logprobs") or {}).get("content") or []
    return choice["message"]["content"] or "", math.fsum(token["logprob"] for token in tokens)
