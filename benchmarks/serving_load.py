"""Generate load on a served model and record the answers."""

import asyncio
import json
import math
import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Literal, NamedTuple, Self

import httpx

from intent_core.language.prompt import build_messages

Loop = Literal["closed", "open"]
_TIMEOUT_S = 60
# Otherwise the number of failures of a server that is down would depend on the callers' speed.
_AFTER_FAILURE_S = 0.2
# vLLM closes idle connections after 5 s; close them earlier, so that no request hits that moment.
_KEEP_IDLE_S = 2


class Target(NamedTuple):
    """Address, key and model to query."""

    url: str
    key: str
    model: str
    system_prompt: str

    def body(self, utterance: str, tokens: int) -> dict[str, object]:
        return {
            "model": self.model,
            # Always sent, so that servers with and without the middleware get the same prompt.
            "messages": build_messages(self.system_prompt, utterance),
            "temperature": 0,
            "max_completion_tokens": tokens,
        }


class SentRequest(NamedTuple):
    """A request and its answer; times are of `time.monotonic`, in seconds."""

    loop: Loop
    utterance: str
    sent: float
    """In the open loop the scheduled time, so that waiting for a slow server is counted."""
    ended: float
    status: int
    """HTTP status; 0 without an answer."""
    label: str
    """Model that the server reports; "" if it reports none."""
    text: str

    @property
    def seconds(self) -> float:
        return self.ended - self.sent


class Load:
    """Context manager that runs callers without pauses, and Poisson arrivals if a rate is given."""

    def __init__(
        self,
        target: Target,
        utterances: Sequence[str],
        tokens: int,
        callers: int,
        rate: float = 0,
    ) -> None:
        self.requests: list[SentRequest] = []
        self._target, self._callers, self._rate = target, callers, rate
        bodies = {text: json.dumps(target.body(text, tokens)).encode() for text in utterances}
        self._bodies = list(bodies.items())
        self._done = threading.Event()
        self._pool = ThreadPoolExecutor(1)
        self._ended: Future[None] | None = None

    def __enter__(self) -> Self:
        self._ended = self._pool.submit(lambda: asyncio.run(self._ask_all()))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._pool.shutdown()
        if self._ended is not None and error is None:
            self._ended.result()

    async def _ask_all(self) -> None:
        headers = {
            "Authorization": f"Bearer {self._target.key}",
            "Content-Type": "application/json",
        }
        limits = httpx.Limits(max_connections=None, keepalive_expiry=_KEEP_IDLE_S)
        async with (
            httpx.AsyncClient(
                headers=headers, limits=limits, timeout=_TIMEOUT_S, trust_env=False
            ) as client,
            asyncio.TaskGroup() as group,
        ):
            for number in range(self._callers):
                group.create_task(self._ask_repeatedly(client, number))
            if self._rate:
                group.create_task(self._arrive(client, group))

    async def _ask_repeatedly(self, client: httpx.AsyncClient, number: int) -> None:
        while not self._done.is_set():
            request = await self._ask(client, "closed", number, time.monotonic())
            number += self._callers
            if request.status != 200:
                await asyncio.sleep(_AFTER_FAILURE_S)

    async def _arrive(self, client: httpx.AsyncClient, group: asyncio.TaskGroup) -> None:
        chance, due = random.Random(0), time.monotonic()
        while not self._done.is_set():
            due += chance.expovariate(self._rate)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            group.create_task(self._ask(client, "open", chance.randrange(1 << 20), due))

    async def _ask(
        self, client: httpx.AsyncClient, loop: Loop, number: int, since: float
    ) -> SentRequest:
        utterance, body = self._bodies[number % len(self._bodies)]
        status, label = 0, ""
        try:
            answer = await client.post(f"{self._target.url}/chat/completions", content=body)
            text, label = answer.text, answer.headers.get("x-intent-model", "")
            if answer.status_code == 200:
                text = json.loads(text)["choices"][0]["message"]["content"] or ""
            status = answer.status_code
        except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
            text = repr(error)
        request = SentRequest(loop, utterance, since, time.monotonic(), status, label, text)
        self.requests.append(request)
        return request


def ask_for(
    target: Target, utterances: Sequence[str], tokens: int, callers: int, seconds: float
) -> list[SentRequest]:
    """Return the answers to callers without pauses, after a warm-up of a fifth of `seconds`."""
    with Load(target, utterances, tokens, callers) as load:
        time.sleep(seconds / 5)
        began = time.monotonic()
        time.sleep(seconds)
        ended = began + seconds
    return [request for request in load.requests if began <= request.ended <= ended]


def quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
