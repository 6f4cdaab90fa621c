"""Recognising utterances with the served model, for those who call it: sync and async.

    with IntentClient("http://intent.example/v1", api_key, abstain_below=0.6) as client:
        calls = client.recognize("what is the weather in Hangzhou")

No system prompt is sent: the server adds the one the model was trained with. Only who asks by
content name brings it. One client serves any number of threads (an `AsyncIntentClient`: one event
loop) and keeps its connections open.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NotRequired, Self, TypedDict
from urllib.parse import urlsplit

import openai
from openai.types.chat import ChatCompletionMessageParam
from openai.types.chat.chat_completion import ChoiceLogprobs
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from intent_core.errors import CallSyntaxError, ConfigError, DataError, ServingError
from intent_core.evaluation.abstention import OUT_OF_SCOPE
from intent_core.evaluation.prediction import measure_confidence
from intent_core.language.calls import Call, parse_calls
from intent_core.recipe.config import EvaluateConfig

MAX_COMPLETION_TOKENS = EvaluateConfig().max_new_tokens


class Answer(BaseModel):
    """What the model wrote and the calls that makes; `error` when it makes none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    """As the model wrote it, also when it abstains."""
    calls: tuple[Call, ...] | None
    """`out_of_scope()` when the answer is less sure than `abstain_below`."""
    error: str | None
    confidence: float | None
    """The model's probability of this answer; None without `abstain_below`."""
    model: str | None
    """Content name of what answered, and below its version; None when the server does not say."""
    version: str | None
    latency_ms: float
    """As the caller waited: retries and the pauses between them included."""


class _Client(ABC):
    """How the model is asked and what its answer means; the clients below only send."""

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        alias: str = "intent",
        system_prompt: str = "",
        timeout_s: float = 30,
        max_retries: int = 4,
        max_completion_tokens: int = MAX_COMPLETION_TOKENS,
        abstain_below: float | None = None,
    ) -> None:
        """Connects to nothing yet; `ConfigError` for what can never work.

        `timeout_s` is for each try: of connecting, and of the silence until the answer. An answer
        less confident than `abstain_below` is read as `out_of_scope()`; the evaluation's report
        says which threshold suits. Asking for confidences takes the server some time. A model that
        the operator asks by content name needs its `system_prompt`.
        """
        _check_base_url(base_url)
        if not api_key or not all("!" <= character <= "~" for character in api_key):
            # Not a word of the key itself: errors are logged.
            raise ConfigError("api_key is empty, or has blanks or characters that no header takes")
        if abstain_below is not None and not 0 <= abstain_below <= 1:
            raise ConfigError(f"abstain_below is a probability from 0 to 1, not {abstain_below}")
        self._base_url = base_url
        self._api_key = SecretStr(api_key)
        self._alias = alias
        self._system_prompt = system_prompt
        self._max_completion_tokens = max_completion_tokens
        self._abstain_below = abstain_below
        self._connect(
            base_url=base_url, api_key=api_key, timeout=timeout_s, max_retries=max_retries
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._base_url!r}, alias={self._alias!r})"

    @abstractmethod
    def _connect(
        self, *, base_url: str, api_key: str, timeout: float, max_retries: int
    ) -> None: ...

    def _build_request(self, utterance: str) -> "_Request":
        if not utterance.strip():
            raise DataError("the utterance is empty: there is nothing to recognise")
        if any("\ud800" <= character <= "\udfff" for character in utterance):
            raise DataError(f"half a surrogate pair is no character: {utterance!r}")
        messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": utterance}]
        if self._system_prompt:
            messages.insert(0, {"role": "system", "content": self._system_prompt})
        request: _Request = {
            "model": self._alias,
            "messages": messages,
            "temperature": 0.0,
            "max_completion_tokens": self._max_completion_tokens,
        }
        if self._abstain_below is not None:
            request["logprobs"] = True
        return request

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except openai.OpenAIError as error:
            reason = str(error)
            if isinstance(error, openai.APIConnectionError):
                reason = f"{reason} ({error.__cause__!r})"
            message = f"{self._alias!r} at {self._base_url} did not answer: {reason}"
            key = self._api_key.get_secret_value()
            # Some gateways repeat the key they refuse; then not even the cause may be shown.
            cause = None if key in message else error
            raise ServingError(message.replace(key, "***")) from cause

    def _read_answer(self, body: bytes, headers: Mapping[str, str], started: float) -> Answer:
        latency = (time.perf_counter() - started) * 1000
        try:
            choice = _Completion.model_validate_json(body).choices[0]
        except ValidationError as error:
            raise ServingError(
                f"{self._alias!r} at {self._base_url} answered with no completion: {body[:200]!r}"
            ) from error
        text = (choice.message.content or "").strip()
        tokens = (choice.logprobs.content if choice.logprobs else None) or ()
        confidence = measure_confidence([token.logprob for token in tokens])
        calls, problem = _read_calls(text, is_cut=choice.finish_reason == "length")
        if self._abstain_below is not None:
            if confidence is None and text:
                raise ServingError(
                    f"{self._alias!r} at {self._base_url} gave no token probabilities, which "
                    "abstain_below needs"
                )
            if confidence is not None and confidence < self._abstain_below:
                calls, problem = (Call(intent=OUT_OF_SCOPE),), None
        return Answer(
            text=text,
            calls=calls,
            error=problem,
            confidence=confidence,
            model=headers.get("x-intent-model"),
            version=headers.get("x-intent-version"),
            latency_ms=latency,
        )

    def _take_calls(self, answer: Answer) -> list[Call]:
        if answer.calls is None:
            raise CallSyntaxError(f"{answer.model or self._alias!r} wrote no call: {answer.error}")
        return list(answer.calls)


class IntentClient(_Client):
    """Recognises utterances. Close it, or use it in a `with` block."""

    _server: openai.OpenAI

    def _connect(self, *, base_url: str, api_key: str, timeout: float, max_retries: int) -> None:
        self._server = openai.OpenAI(
            base_url=base_url,
            api_key=api_key,
            timeout=timeout,
            max_retries=max_retries,
            http_client=openai.DefaultHttpxClient(trust_env=False),
        )

    def recognize(self, utterance: str) -> list[Call]:
        """The utterance's calls; `out_of_scope()` when the model abstains.

        Raises `DataError` for an empty utterance, `CallSyntaxError` when the model writes no call,
        and `ServingError` when the server does not answer, all retries included.
        """
        return self._take_calls(self.ask(utterance))

    def ask(self, utterance: str) -> Answer:
        """All there is to know of an answer; one that is no call has an `error`.

        Raises `DataError` and `ServingError` as `recognize` does.
        """
        request = self._build_request(utterance)
        started = time.perf_counter()
        with self._translated():
            raw = self._server.chat.completions.with_raw_response.create(**request)
        return self._read_answer(raw.content, raw.headers, started)

    def close(self) -> None:
        self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class AsyncIntentClient(_Client):
    """`IntentClient` for asyncio. Close it, or use it in an `async with` block."""

    _server: openai.AsyncOpenAI

    def _connect(self, *, base_url: str, api_key: str, timeout: float, max_retries: int) -> None:
        self._server = openai.AsyncOpenAI(
            base_url=base_url,
            api_key=api_key,
            timeout=timeout,
            max_retries=max_retries,
            http_client=openai.DefaultAsyncHttpxClient(trust_env=False),
        )

    async def recognize(self, utterance: str) -> list[Call]:
        """As `IntentClient.recognize`."""
        return self._take_calls(await self.ask(utterance))

    async def ask(self, utterance: str) -> Answer:
        """As `IntentClient.ask`."""
        request = self._build_request(utterance)
        started = time.perf_counter()
        with self._translated():
            raw = await self._server.chat.completions.with_raw_response.create(**request)
        return self._read_answer(raw.content, raw.headers, started)

    async def close(self) -> None:
        await self._server.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()


class _Request(TypedDict):
    model: str
    messages: list[ChatCompletionMessageParam]
    temperature: float
    max_completion_tokens: int
    logprobs: NotRequired[bool]


class _AnswerMessage(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _AnswerMessage
    finish_reason: str | None = None
    logprobs: ChoiceLogprobs | None = None


class _Completion(BaseModel):
    """What we read of an answer, checked: openai's own types take any JSON for a completion."""

    choices: list[_Choice] = Field(min_length=1)


def _check_base_url(base_url: str) -> None:
    """Raise `ConfigError` for what would else be tried and tried again as a server that is down."""
    try:
        url = urlsplit(base_url)
        is_usable = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:
        raise ConfigError(f"base_url {base_url!r} is no address such as http://127.0.0.1:8000/v1")


def _read_calls(text: str, *, is_cut: bool) -> tuple[tuple[Call, ...] | None, str | None]:
    try:
        return parse_calls(text), None
    except CallSyntaxError as error:
        hint = " (cut off: raise max_completion_tokens)" if is_cut else ""
        return None, f"{error}{hint}"
