"""Mirrored copies as tasks: concurrency, timeout and cancellation."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from intent_core.serving.access.aliases import Trial, TrialLimits
from tests.support.servers.fake_vllm import CHAT, NEW, OLD, Serving

BODY = {"model": "intent", "messages": [{"role": "user", "content": "weather in Hangzhou"}]}


def trial(**limits: Any) -> Trial:
    return Trial(model=NEW, version="8", mode="shadow", share=1.0, limits=TrialLimits(**limits))


@pytest.fixture
def serving(tmp_path: Path) -> Serving:
    serving = Serving(tmp_path)
    serving.promote(OLD, trial=trial())
    return serving


async def hang() -> None:
    await asyncio.Event().wait()


def test_a_candidate_that_hangs_is_given_up_and_counted(serving: Serving) -> None:
    serving.app._copies._timeout_s = 0.01  # type: ignore[attr-defined]
    serving.model.before[NEW] = hang
    serving.chat()
    assert serving.outcomes("shadow", "failed") == 1
    assert serving.trial()["parse_failure_rate"] == 1.0


def many(serving: Serving, count: int, after: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        for _ in range(count):
            assert (await serving.send("POST", CHAT, BODY)).status == 200
        await asyncio.sleep(0)
        await after()

    asyncio.run(run())


def test_no_more_than_eight_copies_are_under_way(serving: Serving) -> None:
    async def look() -> None:
        assert serving.metrics.read_in_flight() == {NEW: 8}
        serving.model.before.clear()
        released.set()
        await serving.settle()
        await serving.send("POST", CHAT, BODY)
        await serving.settle()

    released = asyncio.Event()

    async def wait() -> None:
        await released.wait()

    serving.model.before[NEW] = wait
    many(serving, 20, look)
    assert (serving.outcomes("shadow", "same"), serving.outcomes("shadow", "skipped")) == (9, 12)
    assert (serving.trial()["requests"], serving.trial()["skipped"]) == (9, 12)


def test_copies_that_wait_when_the_trial_ends_are_not_asked_for(serving: Serving) -> None:
    serving.promote(OLD, trial=trial(min_requests=1, max_parse_failure_rate=0))
    serving.model.texts = {NEW: "no calls"}

    async def run() -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(5):
                tasks.create_task(serving.send("POST", CHAT, BODY))
        await serving.settle()

    asyncio.run(run())
    assert serving.asked.count(NEW) == 1
    assert serving.trial()["requests"] == 1


def test_copies_end_with_the_server(serving: Serving) -> None:
    told: list[str] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        told.append((await receive())["type"])
        told.append((await receive())["type"])
        assert serving.metrics.read_in_flight() == {}

    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

    async def shut_down() -> None:
        assert serving.metrics.read_in_flight() == {NEW: 3}
        serving.app._app = application  # type: ignore[attr-defined]

        async def receive() -> Any:
            return messages.pop(0)

        async def send(message: Any) -> None: ...

        await serving.app({"type": "lifespan"}, receive, send)
        serving.app._app = serving.model  # type: ignore[attr-defined]
        await serving.send("POST", CHAT, BODY)

    serving.model.before[NEW] = hang
    many(serving, 3, shut_down)
    assert told == ["lifespan.startup", "lifespan.shutdown"]
    assert serving.outcomes("shadow", "skipped") == 1
    assert serving.trial()["requests"] == 0


def test_a_copy_has_a_client_that_stays(serving: Serving) -> None:
    """vLLM waits for a disconnect while it works, and cancels that wait when it is done."""
    left: list[str] = []

    async def server(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["more_body"] is False
        listening = asyncio.create_task(receive())
        await asyncio.sleep(0.01)
        left.extend(["left"] if listening.done() else [])
        listening.cancel()
        kind = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": kind})
        body = b'{"choices": [{"message": {"content": "weather_search(Hangzhou)"}}]}'
        await send({"type": "http.response.body", "body": body})

    serving.app._copies._app = server  # type: ignore[attr-defined]
    serving.chat()
    assert left == []
    assert serving.outcomes("shadow", "same") == 1
