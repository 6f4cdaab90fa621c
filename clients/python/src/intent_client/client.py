"""The clients. One serves any number of threads (async: one event loop); it keeps connections open.

    with IntentClient("http://intent.example/v1", api_key) as client:
        answer = client.ask("what is the weather in Hangzhou")
        for call in answer.calls or ():
            print(call.intent, call.arguments)

No system prompt is sent: the server adds the one that the model was trained with. Pass
`system_prompt` only if `alias` is a model's content name.
"""

import asyncio
import ipaddress
import math
import time
from abc import ABC, abstractmethod
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
from pydantic import SecretStr

from intent_client.answers import Answer, read_answer
from intent_client.attempts import Attempts
from intent_client.errors import InvalidAnswerError, InvalidArgumentError


class _Client(ABC):
    """Builds requests and reads answers; the subclasses send them."""

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        alias: str = "intent",
        system_prompt: str = "",
        timeout_s: float = 30,
        max_retries: int = 4,
        max_completion_tokens: int = 64,
        with_confidence: bool = False,
    ) -> None:
        """Create a client; does not connect yet.

        Proxies of the environment (HTTP_PROXY, ...) are used, except for loopback addresses.

        Args:
            base_url: the served address with its /v1, such as http://127.0.0.1:8000/v1.
            api_key: the caller's key, printable ASCII without whitespace.
            alias: the served alias, or (with the operator's key) a model's content name.
            system_prompt: needed only with a content name; the server adds it for an alias.
            timeout_s: seconds for a call with all its retries.
            max_retries: retries after the first attempt fails: no connection, 429, 502, 503, 504.
            max_completion_tokens: longest answer, in tokens.
            with_confidence: request the confidence also from a server that does not send it; makes
                each request a little slower.

        Raises:
            InvalidArgumentError: an argument can never work.
        """
        host = _read_host(base_url)
        if not api_key or not all("!" <= character <= "~" for character in api_key):
            # Do not include the key: errors are logged.
            raise InvalidArgumentError(
                "api_key must be printable ASCII without whitespace, and not empty"
            )
        if not (timeout_s > 0 and math.isfinite(timeout_s)) or max_retries < 0:
            raise InvalidArgumentError(
                f"timeout_s must be above 0 and max_retries at least 0, not {timeout_s} and "
                f"{max_retries}"
            )
        self._base_url = base_url.rstrip("/")
        self._api_key = SecretStr(api_key)
        self._alias = alias
        self._system_prompt = system_prompt
        self._timeout_s = timeout_s
        self._max_retries = max_retries
        self._max_completion_tokens = max_completion_tokens
        self._with_confidence = with_confidence
        self._connect(
            headers={"authorization": f"Bearer {api_key}"},
            limits=httpx.Limits(max_connections=1000, max_keepalive_connections=100),
            trust_env=not _is_loopback(host),
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._base_url!r}, alias={self._alias!r})"

    @abstractmethod
    def _connect(
        self, *, headers: dict[str, str], limits: httpx.Limits, trust_env: bool
    ) -> None: ...

    def _start(self) -> Attempts:
        return Attempts(
            f"request to {self._alias!r} at {self._base_url}",
            self._api_key.get_secret_value(),
            self._timeout_s,
            self._max_retries,
        )

    def _write_body(self, utterance: str, *, as_text: bool) -> dict[str, Any]:
        if not utterance.strip():
            raise InvalidArgumentError("the utterance is empty")
        if any("\ud800" <= character <= "\udfff" for character in utterance):
            raise InvalidArgumentError(
                f"the utterance contains an unpaired UTF-16 surrogate: {utterance!r}"
            )
        messages = [{"role": "user", "content": utterance}]
        if self._system_prompt:
            messages.insert(0, {"role": "system", "content": self._system_prompt})
        body: dict[str, Any] = {
            "model": self._alias,
            "messages": messages,
            "temperature": 0.0,
            "max_completion_tokens": self._max_completion_tokens,
        }
        if not as_text:
            body["response_format"] = {"type": "json_object"}
        if self._with_confidence:
            body["logprobs"] = True
        return body

    def _read(self, response: httpx.Response, started: float, *, as_text: bool) -> Answer:
        latency = (time.perf_counter() - started) * 1000
        try:
            return read_answer(response.content, response.headers, latency, as_text=as_text)
        except InvalidAnswerError as error:
            raise InvalidAnswerError(f"{self._alias!r} at {self._base_url} sent {error}") from None


class IntentClient(_Client):
    """Sends utterances to the served model. Call `close`, or use it in a `with` block."""

    _http: httpx.Client

    def _connect(self, *, headers: dict[str, str], limits: httpx.Limits, trust_env: bool) -> None:
        self._http = httpx.Client(headers=headers, limits=limits, trust_env=trust_env)

    def ask(self, utterance: str) -> Answer:
        """Return the model's answer to an utterance, with its `calls`.

        Raises:
            InvalidArgumentError: the utterance is empty or contains an unpaired UTF-16 surrogate.
            RefusedError: the server refused the request.
            UnavailableError: no answer after all retries.
            InvalidAnswerError: the response is not a chat completion with calls.
        """
        return self._ask(utterance, as_text=False)

    def ask_text(self, utterance: str) -> Answer:
        """Return the model's answer in the call syntax, as its `text`; see `ask` for the errors."""
        return self._ask(utterance, as_text=True)

    def _ask(self, utterance: str, *, as_text: bool) -> Answer:
        started = time.perf_counter()
        response = self._post(self._write_body(utterance, as_text=as_text))
        return self._read(response, started, as_text=as_text)

    def _post(self, body: dict[str, Any]) -> httpx.Response:
        url, attempts = f"{self._base_url}/chat/completions", self._start()
        while True:
            try:
                response = self._http.post(url, json=body, timeout=attempts.seconds_left)
            except httpx.HTTPError as error:
                delay = attempts.after_error(error)
            else:
                if response.is_success:
                    return response
                delay = attempts.after_response(response)
            time.sleep(delay)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class AsyncIntentClient(_Client):
    """`IntentClient` for asyncio. Call `close`, or use it in an `async with` block."""

    _http: httpx.AsyncClient

    def _connect(self, *, headers: dict[str, str], limits: httpx.Limits, trust_env: bool) -> None:
        self._http = httpx.AsyncClient(headers=headers, limits=limits, trust_env=trust_env)

    async def ask(self, utterance: str) -> Answer:
        """See `IntentClient.ask`."""
        return await self._ask(utterance, as_text=False)

    async def ask_text(self, utterance: str) -> Answer:
        """See `IntentClient.ask_text`."""
        return await self._ask(utterance, as_text=True)

    async def _ask(self, utterance: str, *, as_text: bool) -> Answer:
        started = time.perf_counter()
        response = await self._post(self._write_body(utterance, as_text=as_text))
        return self._read(response, started, as_text=as_text)

    async def _post(self, body: dict[str, Any]) -> httpx.Response:
        url, attempts = f"{self._base_url}/chat/completions", self._start()
        while True:
            try:
                response = await self._http.post(url, json=body, timeout=attempts.seconds_left)
            except httpx.HTTPError as error:
                delay = attempts.after_error(error)
            else:
                if response.is_success:
                    return response
                delay = attempts.after_response(response)
            await asyncio.sleep(delay)

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()


def _read_host(base_url: str) -> str:
    """Return the host. Raises `InvalidArgumentError` for an invalid URL."""
    try:
        urlsplit(base_url)  # refuses "http://[", which httpx accepts
        url = httpx.URL(base_url)
    except (httpx.InvalidURL, ValueError):
        url = httpx.URL()
    if url.userinfo:
        # Do not include the URL: errors are logged.
        raise InvalidArgumentError("base_url contains a user or password: pass the key as api_key")
    is_port = url.port is None or 0 < url.port < 65536
    if url.scheme not in ("http", "https") or not url.host or not is_port:
        raise InvalidArgumentError(
            f"base_url {base_url!r} is not a valid URL; expected e.g. http://127.0.0.1:8000/v1"
        )
    return url.host


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
