"""OpenAI's own client in front of the serving middleware, without a network."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import httpx2
import openai

from tests.support.servers.fake_vllm import APP_KEY, Serving

Result = TypeVar("Result")


def use_client(serving: Serving, use: Callable[[openai.AsyncOpenAI], Awaitable[Result]]) -> Result:
    """Return what `use` returns for a client of the middleware."""

    async def run() -> Result:
        transport = httpx2.ASGITransport(serving.app)  # type: ignore[arg-type]
        async with openai.AsyncOpenAI(
            base_url="http://model/v1",
            api_key=APP_KEY,
            max_retries=0,
            http_client=openai.DefaultAsyncHttpxClient(transport=transport),
        ) as client:
            return await use(client)

    return asyncio.run(run())
