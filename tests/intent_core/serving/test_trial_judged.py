"""Canary trials in the middleware: which answers of the candidate are judged."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.scenarios.trials import PREDICT, USER, chat, trial
from tests.support.servers.fake_vllm import (
    CHAT,
    NEW,
    OLD,
    Serving,
)


@pytest.fixture
def serving(tmp_path: Path) -> Serving:
    return Serving(tmp_path)


def talk(*messages: tuple[str, object]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in messages]}


AS_EVALUATED: list[dict[str, Any]] = [
    *({}, {"temperature": 0}, {"temperature": 0.0, "top_p": 0.5}, {"n": 1}, {"n": None}),
    *({"max_tokens": 500}, {"stream": False}, {"seed": 7}, {"stop": []}, {"logprobs": False}),
    talk(("system", "Say new calls."), ("user", "weather")),
    talk(("user", [{"type": "text", "text": "weather"}])),
]
UNLIKE_THE_EVALUATION: list[dict[str, Any]] = [
    *({"temperature": 2}, {"temperature": 0.7}, {"n": 2}, {"top_p": 0.1}, {"top_k": 1}),
    *({"stop": "("}, {"stop": ["("]}, {"stop_token_ids": [7]}, {"logit_bias": {"7": 100}}),
    *({"frequency_penalty": 2}, {"presence_penalty": 2}, {"repetition_penalty": 2}),
    *({"min_tokens": 50}, {"ignore_eos": True}, {"skip_special_tokens": False}),
    {"include_stop_str_in_output": True},
    talk(("system", "Say hello."), ("user", "weather")),
    talk(("developer", "Say new calls."), ("user", "weather")),
    talk(("user", "weather"), ("assistant", "hello"), ("user", "again")),
    talk(("user", "weather"), ("assistant", "weather_")),
    talk(("user", "weather"), ("user", "weather")),
    talk(("user", "weather " * 400)),
    talk(("user", "")),
    {"messages": [{**USER, "name": "x"}]},
]


@pytest.mark.parametrize("fields", AS_EVALUATED)
def test_requests_like_those_of_the_evaluation_are_judged(
    serving: Serving, fields: dict[str, Any]
) -> None:
    serving.promote(OLD, trial=trial())
    assert chat(serving, fields=fields).status == 200
    assert serving.trial()["requests"] == 1


@pytest.mark.parametrize("behaviour", [{"texts": {NEW: "hello"}}, {"statuses": {NEW: 500}}])
@pytest.mark.parametrize("fields", UNLIKE_THE_EVALUATION)
def test_other_requests_are_answered_and_not_judged(
    serving: Serving, fields: dict[str, Any], behaviour: dict[str, Any]
) -> None:
    serving.promote(OLD, trial=trial(min_requests=1, max_parse_failure_rate=0))
    vars(serving.model).update(behaviour)
    assert [chat(serving, fields=fields).headers["x-intent-model"] for _ in "12"] == [NEW, NEW]
    found = serving.trial()
    assert (found["requests"], found["skipped"], found["ended"]) == (0, 2, None)


@pytest.mark.parametrize(
    "fields",
    [
        {"history": [["weather", "hello"]]},
        {"system_prompt": "Say hello."},
        {"temperature": 0.95},
        {"top_k": 30},
    ],
)
def test_older_requests_unlike_the_evaluation_are_not_judged(
    serving: Serving, fields: dict[str, Any]
) -> None:
    serving.promote(OLD, trial=trial(min_requests=1, max_parse_failure_rate=0))
    serving.model.texts = {NEW: "hello"}
    assert serving.ask("POST", PREDICT, {"prompt": "x", **fields}).status == 200
    assert serving.trial()["requests"] == 0


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_the_caller_cut_off_is_not_judged(serving: Serving, stream: bool) -> None:
    serving.promote(OLD, trial=trial(min_requests=1, max_parse_failure_rate=0.5))
    part = "delta" if stream else "message"
    choice = {"index": 0, part: {"content": "weather_se"}, "finish_reason": "length"}
    serving.model.raw = json.dumps({"choices": [choice]}).encode()
    if stream:
        serving.model.stream = [b"data: " + serving.model.raw + b"\n\ndata: [DONE]\n\n"]
    for fields in ({"max_tokens": 1}, {"max_completion_tokens": 500}):
        chat(serving, fields={**fields, "stream": stream})
    if not stream:
        serving.ask("POST", PREDICT, {"prompt": "x", "max_new_tokens": 1})
    assert (serving.trial()["requests"], serving.trial()["ended"]) == (0, None)
    # Without the caller's limit, the model itself did not come to an end.
    chat(serving, fields={"stream": stream})
    assert (serving.trial()["requests"], serving.trial()["ended"]) == (1, "max_parse_failure_rate")


def test_a_caller_that_reads_slowly_does_not_slow_the_candidate(serving: Serving) -> None:
    async def ask() -> None:
        sent = serving.app

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            async def read_slowly(message: Any) -> None:
                serving.model.spent += 9
                await send(message)

            await sent(scope, receive, read_slowly)

        serving.app = slow
        await serving.send("POST", CHAT, {"model": "intent", "messages": [USER]})

    serving.promote(OLD, trial=trial())
    serving.model.seconds = {NEW: 0.5}
    asyncio.run(ask())
    assert serving.trial()["latency_p95_s"] == 0.5


def test_a_caller_lost_within_the_answer_is_not_the_candidates_fault(serving: Serving) -> None:
    serving.promote(OLD, trial=trial(min_requests=1, max_parse_failure_rate=0))

    serving.model.fault_within = OSError("the caller's connection is gone")
    with pytest.raises(OSError, match="gone"):
        chat(serving)
    assert serving.trial()["requests"] == 0


def test_a_stream_of_the_candidate_passes_as_it_is_and_is_judged(serving: Serving) -> None:
    serving.promote(OLD, trial=trial(max_parse_failure_rate=0.5))
    deltas = [{"content": "weather_"}, {"content": "search(杭州"}, {"content": ")"}]
    lines = [json.dumps({"choices": [{"index": 0, "delta": d}]}).encode() for d in deltas]
    whole = b"".join(b"data: " + x + b"\n\n" for x in [*lines, b"[DONE]"])
    serving.model.stream = [whole[i : i + 11] for i in range(0, len(whole), 11)]
    answer = chat(serving, fields={"stream": True})
    assert answer.chunks == [*serving.model.stream, b""]
    assert answer.headers["x-intent-model"] == NEW
    assert serving.outcomes("canary", "answered") == 1
    serving.model.stream = [whole.replace(b')"', b'"')]
    assert [chat(serving).body for _ in range(3)] == serving.model.stream * 3
    assert serving.outcomes("canary", "parse_failure") == 3
    assert serving.trial()["ended"] == "max_parse_failure_rate"
