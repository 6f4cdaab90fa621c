"""Python client for the served model, synchronous and asynchronous.

    with IntentClient("http://intent.example/v1", api_key, abstain_below=0.6) as client:
        calls = client.recognize("what is the weather in Hangzhou")

The client sends no system prompt: the server adds the prompt that the model was trained with.
Pass `system_prompt` only if `alias` is a model's content name. A client can be shared by any number
of threads (an `AsyncIntentClient`: by one event loop) and keeps its connections open.
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
from intent_core.language.calls import OUT_OF_SCOPE, Call, parse_calls
from intent_core.language.invisible import strip_invisible
from intent_core.recipe.config import EvaluateConfig
from intent_core.serving.answers.confidence import measure_confidence

MAX_COMPLETION_TOKENS = EvaluateConfig().max_new_tokens


class Answer(BaseModel):
    """The model's text and the calls parsed from it, or an `error`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    """The model's unchanged text, even if the confidence is below `abstain_below`."""
    calls: tuple[Call, ...] | None
    """`out_of_scope()` if the confidence is below `abstain_below`; None if `error` is set."""
    error: str | None
    """Why the text is not a valid call; None if it is."""
    confidence: float | None
    """The model's probability of this text, 0 to 1; None without `abstain_below`."""
    model: str | None
    """Content name of the model that answered; None if the server does not send it."""
    version: str | None
    """Registry version of that model; None if the server does not send it."""
    latency_ms: float
    """Time the caller waited, including retries and the delays between them."""


class _Client(ABC):
    """Builds requests and parses answers; the subclasses send them."""

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
        """Create a client; does not connect yet.

        Args:
            base_url: the served address with its /v1, such as http://127.0.0.1:8000/v1.
            api_key: the caller's key, printable ASCII without whitespace.
            alias: the served alias, or (with the operator's key) a model's content name.
            system_prompt: needed only with a content name; the server adds it for an alias.
            timeout_s: seconds for each attempt, both to connect and to wait for data.
            max_retries: retries after the first attempt fails.
            max_completion_tokens: longest answer, in tokens.
            abstain_below: confidence from 0 to 1; less confident answers become
                `out_of_scope()`. The evaluation report recommends a threshold. It makes each
                request a little slower.

        Raises:
            ConfigError: `base_url`, `api_key` or `abstain_below` is invalid.
        """
        _check_base_url(base_url)
        if not api_key or not all("!" <= character <= "~" for character in api_key):
            # Do not include the key: errors are logged.
            raise ConfigError("api_key must be printable ASCII without whitespace, and not empty")
        if abstain_below is not None and not 0 <= abstain_below <= 1:
            raise ConfigError(f"abstain_below must be from 0 to 1, not {abstain_below}")
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
            raise DataError("the utterance is empty")
        if any("\ud800" <= character <= "\udfff" for character in utterance):
            raise DataError(f"the utterance contains an unpaired UTF-16 surrogate: {utterance!r}")
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
    def _serving_errors(self) -> Iterator[None]:
        try:
            yield
        except openai.OpenAIError as error:
            reason = str(error)
            if isinstance(error, openai.APIConnectionError):
                reason = f"{reason} ({error.__cause__!r})"
            message = f"request to {self._alias!r} at {self._base_url} failed: {reason}"
            key = self._api_key.get_secret_value()
            # Some gateways repeat a refused key in their answer; then the cause contains it, too.
            cause = None if key in message else error
            raise ServingError(message.replace(key, "***")) from cause

    def _read_answer(self, body: bytes, headers: Mapping[str, str], started: float) -> Answer:
        latency = (time.perf_counter() - started) * 1000
        try:
            choice = _Completion.model_validate_json(body).choices[0]
        except ValidationError as error:
            raise ServingError(
                f"{self._alias!r} at {self._base_url} sent an invalid completion: {body[:200]!r}"
            ) from error
        text = (choice.message.content or "").strip()
        tokens = (choice.logprobs.content if choice.logprobs else None) or ()
        confidence = measure_confidence([token.logprob for token in tokens])
        calls, problem = _read_calls(text, is_cut=choice.finish_reason == "length")
        if self._abstain_below is not None:
            if confidence is None and text:
                raise ServingError(
                    f"{self._alias!r} at {self._base_url} sent no token probabilities, which "
                    "abstain_below requires"
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
            model = answer.model or self._alias
            raise CallSyntaxError(f"{model!r} did not answer with a valid call: {answer.error}")
        return list(answer.calls)


class IntentClient(_Client):
    """Recognizes utterances. Call `close`, or use it in a `with` block."""

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
        """Return the calls of an utterance; `out_of_scope()` if the model abstains.

        Raises:
            DataError: the utterance is empty or contains an unpaired UTF-16 surrogate.
            CallSyntaxError: the model did not answer with a valid call.
            ServingError: the request failed after all retries.
        """
        return self._take_calls(self.ask(utterance))

    def ask(self, utterance: str) -> Answer:
        """Return the complete answer; if it is not a valid call, its `error` is set.

        Raises:
            DataError: the utterance is empty or contains an unpaired UTF-16 surrogate.
            ServingError: the request failed after all retries.
        """
        request = self._build_request(utterance)
        started = time.perf_counter()
        with self._serving_errors():
            raw = self._server.chat.completions.with_raw_response.create(**request)
        return self._read_answer(raw.content, raw.headers, started)

    def close(self) -> None:
        self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class AsyncIntentClient(_Client):
    """`IntentClient` for asyncio. Call `close`, or use it in an `async with` block."""

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
        """See `IntentClient.recognize`."""
        return self._take_calls(await self.ask(utterance))

    async def ask(self, utterance: str) -> Answer:
        """See `IntentClient.ask`."""
        request = self._build_request(utterance)
        started = time.perf_counter()
        with self._serving_errors():
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
    """The validated fields of a completion; openai's own types accept any JSON."""

    choices: list[_Choice] = Field(min_length=1)


def _check_base_url(base_url: str) -> None:
    """Raise `ConfigError` for an invalid URL; openai would retry it as if the server were down."""
    try:
        url = urlsplit(base_url)
        is_usable = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:
        raise ConfigError(
            f"base_url {base_url!r} is not a valid URL; expected e.g. http://127.0.0.1:8000/v1"
        )


def _read_calls(text: str, *, is_cut: bool) -> tuple[tuple[Call, ...] | None, str | None]:
    try:
        return parse_calls(strip_invisible(text)), None
    except CallSyntaxError as error:
        hint = " (the answer was cut off: raise max_completion_tokens)" if is_cut else ""
        return None, f"{error}{hint}"
