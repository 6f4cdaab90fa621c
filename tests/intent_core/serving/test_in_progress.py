"""No key can fill the server: answers and tokens in progress are limited."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers.fake_vllm import (
    CHAT,
    OLD,
    OPERATOR_KEY,
    OTHER_KEY,
    Answer,
    Serving,
)

MESSAGES = [{"role": "user", "content": "weather"}]
COMPLETIONS = "/v1/completions"
PREDICT = "/api/predict/intent"


def serve(folder: Path, **settings: Any) -> Serving:
    serving = Serving(folder, **settings)
    serving.promote(OLD)
    return serving


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "intent", "messages": MESSAGES, **fields}


async def ask_at_once(serving: Serving, *bodies: dict[str, Any], **more: Any) -> list[Answer]:
    """Send all requests before the model answers any of them."""
    serving.model.released = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        sent = [tasks.create_task(serving.send("POST", CHAT, body, **more)) for body in bodies]
        await asyncio.sleep(0)
        serving.model.released.set()
    serving.model.released = None
    return [task.result() for task in sent]


def test_a_key_has_a_share_of_the_answers_by_default(tmp_path: Path) -> None:
    async def run() -> None:
        serving = serve(tmp_path)
        answers = await ask_at_once(serving, *[chat()] * 14, chat(n=2), chat(), chat(n=2))
        assert [answer.status for answer in answers] == [200] * 15 + [429] * 2
        assert answers[-1].code == "too_many_in_progress"
        assert answers[-1].headers["retry-after"] == "1"
        assert answers[-1].fields["error"]["type"] == "rate_limit_error"
        again = await ask_at_once(serving, *[chat()] * 17)
        assert [answer.status for answer in again].count(200) == 16, "answered ones do not count"

    asyncio.run(run())


def test_other_keys_and_the_operator_are_not_limited_by_it(tmp_path: Path) -> None:
    async def run() -> None:
        serving = serve(tmp_path, answers_per_key=1)
        serving.model.released = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(serving.send("POST", CHAT, chat()))
            await asyncio.sleep(0)
            assert (await serving.send("POST", CHAT, chat())).status == 429
            others = [
                tasks.create_task(serving.send("POST", CHAT, chat(), key=key))
                for key in (OTHER_KEY, *[OPERATOR_KEY] * 40)
            ]
            await asyncio.sleep(0)
            serving.model.released.set()
        assert {task.result().status for task in (first, *others)} == {200}
        many = await serving.send("POST", CHAT, chat(n=64), key=OPERATOR_KEY)
        assert many.status == 200

    asyncio.run(run())


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, chat(n=64)),
        (CHAT, chat(n=17, max_tokens=1)),
        (COMPLETIONS, {"model": "intent", "prompt": ["x"] * 17}),
        # Twice the longest prompt and answer, at most.
        (CHAT, chat(n=3)),
        (CHAT, chat(n=16, max_completion_tokens=512)),
        (CHAT, chat(n=3, max_completion_tokens=None, max_tokens=None)),
        (CHAT, chat(n=16, max_completion_tokens=99, max_tokens=1)),
        (COMPLETIONS, {"model": "intent", "prompt": ["x" * 3000] * 2}),
        (COMPLETIONS, {"model": "intent", "prompt": [[1] * 500] * 16}),
    ],
)
def test_a_request_that_is_too_large_alone_is_not_retried(
    tmp_path: Path, path: str, body: dict[str, Any]
) -> None:
    serving = serve(tmp_path, max_new_tokens=512)
    answer = serving.ask("POST", path, body)
    assert (answer.status, answer.code) == (400, "invalid_request"), answer.body
    assert serving.model.received == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, chat()),
        (CHAT, chat(max_tokens=2048)),
        (CHAT, chat(n=2)),
        (CHAT, chat(n=16, max_completion_tokens=60)),
        (CHAT, {"model": "intent", "messages": [{"role": "user", "content": "x" * 9000}]}),
        (COMPLETIONS, {"model": "intent", "prompt": ["what is the weather"] * 16}),
        (PREDICT, {"prompt": "x" * 5000, "max_new_tokens": 2048}),
    ],
)
def test_usual_requests_are_small(tmp_path: Path, path: str, body: dict[str, Any]) -> None:
    assert serve(tmp_path, max_new_tokens=512).ask("POST", path, body).status == 200


def test_long_answers_count_by_their_tokens(tmp_path: Path) -> None:
    async def run() -> None:
        serving = serve(tmp_path, max_new_tokens=512, tokens_per_key=1500)
        long = await ask_at_once(serving, *[chat(max_tokens=512)] * 4)
        assert sorted(answer.status for answer in long) == [200, 200, 429, 429]
        short = await ask_at_once(serving, *[chat(max_tokens=16)] * 16)
        assert {answer.status for answer in short} == {200}
        odd = await ask_at_once(serving, *[chat(max_tokens=0)] * 4)
        assert sorted(answer.status for answer in odd) == [200, 200, 429, 429]

    asyncio.run(run())


@pytest.mark.parametrize("length", [-(2**60), -1, "1", 1.5])
def test_no_length_makes_room_for_others(tmp_path: Path, length: object) -> None:
    serving = serve(tmp_path, max_new_tokens=512)
    assert serving.ask("POST", CHAT, chat(max_tokens=length)).status == 400
    legacy = {"prompt": "x", "max_new_tokens": length}
    assert serving.ask("POST", PREDICT, legacy).status in (200, 400)
    endless = b'{"prompt": "x", "max_new_tokens": 1e999}'
    assert serving.ask("POST", PREDICT, endless).status == 200, "lowered to the model's length"


@pytest.mark.parametrize("fault", [RuntimeError("the engine died"), None])
def test_a_request_that_fails_or_is_left_makes_room_again(
    tmp_path: Path, fault: Exception | None
) -> None:
    serving = serve(tmp_path, answers_per_key=1)
    for _ in range(3):
        serving.model.fault, serving.model.waits_for_client = fault, fault is None
        try:
            serving.ask("POST", CHAT, chat())
        except RuntimeError:
            assert fault
    serving.model.fault, serving.model.waits_for_client = None, False
    assert serving.ask("POST", CHAT, chat()).status == 200


def test_no_limits(tmp_path: Path) -> None:
    async def run() -> None:
        serving = serve(tmp_path, answers_per_key=0)
        answers = await ask_at_once(serving, *[chat(n=64)] * 20)
        assert {answer.status for answer in answers} == {200}

    asyncio.run(run())
